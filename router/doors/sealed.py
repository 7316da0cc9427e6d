"""State that belongs to one provider, sealed so that a client which only knows another API carries it unread.

Claude signs its thinking, Gemini its calls (`extra_content`:
https://ai.google.dev/gemini-api/docs/thought-signatures#openai), and both refuse to go on without. The APIs behind our
doors have one place for text that a client must return as it is: the signature of Anthropic's thinking blocks, and
`encrypted_content` of the Responses API's reasoning items.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

Json = dict[str, Any]

SEALED = "virtusoul1."


def seal(*, thinking_blocks: list[Json] | None = None, calls: Json | None = None) -> str:
    """`thinking_blocks`: signed, as Anthropic made them. `calls`: id of a call → its `extra_content`."""
    state = {"thinking_blocks": thinking_blocks or [], "calls": calls or {}}
    return SEALED + base64.b64encode(orjson.dumps(state)).decode()


def is_sealed(text: Any) -> bool:
    return isinstance(text, str) and text.startswith(SEALED)


def unseal(text: Any) -> tuple[list[Json], Json]:
    """Thinking blocks and calls' `extra_content`; nothing where another service wrote `text`, or it was cut."""
    if not is_sealed(text):
        return [], {}
    try:
        state = orjson.loads(base64.b64decode(text.removeprefix(SEALED), validate=True))
    except (binascii.Error, ValueError):
        return [], {}
    if not isinstance(state, dict):
        return [], {}
    blocks, calls = state.get("thinking_blocks"), state.get("calls")
    found = [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
    return found, calls if isinstance(calls, dict) else {}
