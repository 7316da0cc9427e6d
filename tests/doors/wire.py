"""What the doors' tests share: SSE bytes back to events, and hub answers and streams to feed a door with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from hypothesis import strategies as st

from router.providers.dialect import Piece, Reply, Usage
from router.sse import Decoder

Json = dict[str, Any]
META = {"tier": "simple", "routed_to": "custom/simple-model"}
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}

# Any JSON at all.
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def events(wire: bytes) -> list[tuple[str, Any]]:
    """Name and document of each event; `[DONE]` stays bytes."""
    found = Decoder().feed(wire)
    return [(e.event, e.data if e.data == b"[DONE]" else orjson.loads(e.data)) for e in found]


def reply(message: Json, finish: str | None = "stop", usage: Any = USAGE, **extra: Any) -> Reply:
    """A whole hub answer."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, "logprobs": None}
    document = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-x", "choices": [choice]}
    if usage is not None:
        document["usage"] = usage
    document |= extra
    return Reply(orjson.dumps(document), document, Usage(20, 7, 5))


def chunk(delta: Json, finish: str | None = None, **extra: Any) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-x",
        "choices": [choice],
        **extra,
    }


def usage_chunk(usage: Any = USAGE) -> Json:
    return {**chunk({}), "choices": [], "usage": usage}


def piece(document: Json, event: str = "") -> Piece:
    return Piece(orjson.dumps(document), document, True, event)


def streamed(writer: Any, chunks: Sequence[Json]) -> list[tuple[str, Any]]:
    """The events of a whole stream, one chunk a batch."""
    wire = b"".join(writer.write([piece(document)], META) for document in chunks)
    return events(wire + writer.end(Usage(20, 7, 5)))


def call_chunk(number: int | None, id: str = "", name: str = "", arguments: str = "") -> Json:
    """A piece of a tool call."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value}
    call: Json = {"function": function}
    if number is not None:
        call["index"] = number
    if id:
        call |= {"id": id, "type": "function"}
    return chunk({"tool_calls": [call]})
