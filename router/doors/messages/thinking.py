"""Thinking blocks that no Anthropic model signed.

Anthropic checks the signature of every thinking block that a conversation brings back
(https://platform.claude.com/docs/en/build-with-claude/extended-thinking#preserving-thinking-blocks). Reasoning of
other providers has none, so the blocks that we make of it carry a mark: when the client returns them, they go back to
such providers as `reasoning_content` (DeepSeek demands it inside a tool loop) and never to Anthropic, which would
refuse the whole request. Blocks without text carry what another provider wants back with its calls (`sealed`).
"""

from __future__ import annotations

from typing import Any

import orjson

from router.chat import encode
from router.doors.sealed import is_sealed, seal

Json = dict[str, Any]

UNSIGNED = "virtusoul-unsigned"


def is_unsigned(block: Any) -> bool:
    if not isinstance(block, dict) or block.get("type") != "thinking":
        return False
    signature = block.get("signature")
    return signature in (UNSIGNED, "", None) or is_sealed(signature)


def sealed_block(call_id: str, extra: Json) -> Json:
    """What stands before a call whose provider wants `extra` back with it."""
    return {"type": "thinking", "thinking": "", "signature": seal(calls={call_id: extra})}


def details_block(details: list[Json]) -> Json:
    """What stands in an answer whose provider wants `details` back."""
    return {"type": "thinking", "thinking": "", "signature": seal(details=details)}


def without_unsigned(raw: bytes, body: Json) -> bytes:
    """The request as sent; only where it brings back unsigned blocks, without those."""
    messages = body["messages"]
    if not any(is_unsigned(block) for message in messages for block in _blocks(message)):
        return raw
    kept = []
    for message in messages:
        blocks = _blocks(message)
        rest = [block for block in blocks if not is_unsigned(block)]
        if blocks and not rest:
            continue  # a turn that was nothing but thinking; Anthropic takes no empty one
        kept.append({**message, "content": rest} if len(rest) < len(blocks) else message)
    return encode({**body, "messages": kept or messages})


def bare(block: Json) -> Json:
    """A thinking block of the hub's `thinking_blocks` in Anthropic's form, without the hub's notes about its place."""
    if block.get("type") == "redacted_thinking":
        return {"type": "redacted_thinking", "data": str(block.get("data") or "")}
    signature = str(block.get("signature") or UNSIGNED)
    return {"type": "thinking", "thinking": str(block.get("thinking") or ""), "signature": signature}


def wants_thinking(source: Json) -> bool:
    """Whether the client can make use of thinking blocks.

    It can if it asked for thinking; and if it brought tools, for then it looks at the blocks' types anyway, and the
    provider may need the reasoning back together with the tool's result.
    """
    thinking = source.get("thinking")
    asked = isinstance(thinking, dict) and thinking.get("type") not in (None, "disabled")
    return asked or bool(source.get("tools"))


def arguments_as_input(arguments: str) -> Json:
    """A call's arguments (JSON text from a model) as Anthropic's `input`, which is always an object.

    What is no JSON object is kept as text, so that the client's tool can say what is wrong with it.
    """
    if not arguments.strip():
        return {}
    try:
        parsed = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {"arguments": arguments}
    return parsed if isinstance(parsed, dict) else {"arguments": arguments}


def _blocks(message: Json) -> list[Json]:
    content = message.get("content")
    return content if isinstance(content, list) else []
