"""State that belongs to one provider, sealed so that a client which only knows another API carries it unread.

Claude signs its thinking, Gemini its calls (`extra_content`:
https://ai.google.dev/gemini-api/docs/thought-signatures#openai; behind OpenRouter `reasoning_details`), and both refuse
to go on without. The APIs behind our doors have one place for text that a client must return as it is: the signature of
Anthropic's thinking blocks, and `encrypted_content` of the Responses API's reasoning items.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

Json = dict[str, Any]

SEALED = "virtusoul1."


def seal(
    *, thinking_blocks: list[Json] | None = None, calls: Json | None = None, details: list[Json] | None = None
) -> str:
    """`thinking_blocks`: signed, as Anthropic made them. `calls`: id of a call → its `extra_content`.

    `details`: OpenRouter's `reasoning_details`.
    """
    state: Json = {"thinking_blocks": thinking_blocks or [], "calls": calls or {}}
    if details:
        state["reasoning_details"] = details
    return SEALED + base64.b64encode(orjson.dumps(state)).decode()


def is_sealed(text: Any) -> bool:
    return isinstance(text, str) and text.startswith(SEALED)


def unseal(text: Any) -> tuple[list[Json], Json]:
    """Thinking blocks and calls' `extra_content`; nothing where another service wrote `text`, or it was cut."""
    state = _state(text)
    calls = state.get("calls")
    return _objects(state.get("thinking_blocks")), calls if isinstance(calls, dict) else {}


def unseal_details(text: Any) -> list[Json]:
    """The `reasoning_details`; nothing where `unseal` finds nothing either."""
    return _objects(_state(text).get("reasoning_details"))


def _state(text: Any) -> Json:
    if not is_sealed(text):
        return {}
    try:
        state = orjson.loads(base64.b64decode(text.removeprefix(SEALED), validate=True))
    except (binascii.Error, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _objects(entries: Any) -> list[Json]:
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
