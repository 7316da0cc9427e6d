"""The four moves of a translator: request out, response back, stream piece back, error back. Pure: no I/O here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from router.chat import Chat
from router.config import Target
from router.errors import UpstreamError
from router.sse import Event

# An escaped backslash, a whole surrogate pair, or (as the group) half of one.
_SURROGATE = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)")


class Usage(NamedTuple):
    """Token counts as OpenAI defines them: `prompt` includes `cached`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


class Outgoing(NamedTuple):
    """Request out. `path` is appended to the target's base URL; `dropped` names what could not be passed on."""

    path: str
    body: bytes
    dropped: tuple[str, ...] = ()
    headers: Mapping[str, str] | None = None  # beside those of `Dialect.headers`


class Reply(NamedTuple):
    """Response back: hub JSON (`native`: the client's own dialect, untouched, for a request with `Chat.native`)."""

    body: bytes
    document: dict[str, Any]
    usage: Usage | None = None
    native: bool = False


class Piece(NamedTuple):
    """Stream piece back: one hub chunk. `content`: it carries something of the answer, so the stream is committed.

    `event`: the SSE event name, for native pieces only.
    """

    data: bytes
    document: dict[str, Any]
    content: bool
    event: str = ""


class StreamReader(Protocol):
    """Translates one stream. `ended`: the provider said that the answer is whole (`[DONE]`, `message_stop`).

    `finished`: every choice has its finish reason, so nothing but usage and the end marker can still come.
    `owes_usage`: the client asked for usage, and it has not come yet.
    """

    ended: bool
    finished: bool
    usage: Usage | None
    native: bool

    @property
    def owes_usage(self) -> bool: ...

    def feed(self, event: Event) -> list[Piece]:
        """Pieces for one event. A malformed event yields none. Raises `UpstreamError` for an error event."""
        ...

    def close(self) -> list[Piece]:
        """Pieces still owed once the stream is whole (a usage chunk, say)."""
        ...


class Dialect(Protocol):
    """One wire dialect."""

    name: str
    embedded: bool  # answers come from this process, not from the network

    def headers(self, target: Target) -> dict[str, str]:
        """Headers that every request to `target` carries: authentication and versions."""
        ...

    def request(self, chat: Chat, target: Target) -> Outgoing:
        """Raises `BadRequest` where the request cannot be expressed at all."""
        ...

    def response(self, body: bytes, chat: Chat, target: Target) -> Reply:
        """A 200's body. Raises `UpstreamError` where it is not the dialect."""
        ...

    def stream(self, chat: Chat, target: Target) -> StreamReader: ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> UpstreamError:
        """Any other status."""
        ...


def parse(data: bytes) -> Any:
    """A provider's JSON. Raises `orjson.JSONDecodeError`.

    Half a surrogate pair, which servers send that cut text between UTF-16 units, reads as U+FFFD: it costs one
    character, not the chunk or the answer that it stands in.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        mended = _SURROGATE.sub(lambda found: found[0] if found[1] is None else rb"\ufffd", data)
        if mended == data:
            raise
        return orjson.loads(mended)
