"""What provider tests share: a target, a chat, and a stream read the way the relay reads it."""

from __future__ import annotations

from typing import Any

import orjson

from router.chat import Chat
from router.config import Target
from router.providers import dialect_for
from router.providers.dialect import Dialect, Outgoing, Piece, StreamReader
from router.sse import Decoder
from router.vendors import VENDORS

KEY = "sk-ant-test"


def target(model: str, vendor: str = "anthropic", base_url: str = "https://provider.example/v1") -> Target:
    return Target("simple", VENDORS[vendor], model, base_url, KEY, 5.0, 60.0, 60.0, 60.0)


def chat(**body: Any) -> Chat:
    body.setdefault("model", "virtusoul-v1")
    body.setdefault("messages", [{"role": "user", "content": "Hi"}])
    return Chat.parse(orjson.dumps(body))


def send(model: str = "claude-sonnet-4-5", vendor: str = "anthropic", **body: Any) -> tuple[dict[str, Any], set[str]]:
    """The wire document and what was dropped."""
    outgoing: Outgoing = dialect_for(VENDORS[vendor].dialect).request(chat(**body), target(model, vendor))
    wire: dict[str, Any] = orjson.loads(outgoing.body)
    return wire, set(outgoing.dropped)


def read(
    dialect: Dialect, chat: Chat, to: Target, raw: bytes, size: int | None = None
) -> tuple[list[Piece], StreamReader]:
    """All pieces of a stream that comes `size` bytes at a time (None: all at once)."""
    reader, decoder, pieces = dialect.stream(chat, to), Decoder(), []
    step = size or max(1, len(raw))
    for at in range(0, len(raw), step):
        for event in decoder.feed(raw[at : at + step]):
            if not reader.ended:
                pieces += reader.feed(event)
    if reader.ended or reader.finished:
        pieces += reader.close()
    return pieces, reader


def merged(pieces: list[Piece]) -> dict[str, Any]:
    """Chunks → what a client puts together from them."""
    found: dict[str, Any] = {"content": "", "tool_calls": [], "finish_reason": None, "usage": None}
    for piece in pieces:
        chunk = piece.document
        assert orjson.loads(piece.data) == chunk
        if chunk.get("usage"):
            found["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            found["finish_reason"] = choice.get("finish_reason") or found["finish_reason"]
            for name, value in choice["delta"].items():
                _merge(found, name, value)
    return found


def _merge(found: dict[str, Any], name: str, value: Any) -> None:
    if name == "tool_calls":
        for entry in value:
            fields = {key: child for key, child in entry.items() if key != "index"}
            calls = found["tool_calls"]
            if entry["index"] == len(calls):
                calls.append(fields)
                continue
            kind = "function" if "function" in fields else "custom"
            for key, text in fields[kind].items():
                calls[entry["index"]][kind][key] += text
    elif name == "thinking_blocks":
        for entry in value:
            blocks = found.setdefault(name, [])
            assert entry["index"] == len(blocks)
            blocks.append({key: child for key, child in entry.items() if key != "index"})
    elif name == "role":
        found["role"] = value
    else:
        found[name] = found.get(name, "") + (value or "")
