"""What a door does: request in, answer out, stream out, error out. Pure: no I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from router.chat import Chat
from router.errors import RouterError
from router.providers.dialect import Piece, Reply, Usage


class StreamWriter(Protocol):
    """Hub pieces → the door's stream, as wire bytes."""

    def write(self, pieces: list[Piece], meta: Mapping[str, Any]) -> bytes:
        """`meta` (the `_virtusoul` object) is put into the first chunk."""
        ...

    def end(self, usage: Usage | None) -> bytes:
        """What a complete stream ends with."""
        ...

    def error(self, error: RouterError) -> bytes:
        """One error event; nothing may follow it."""
        ...


class Door(Protocol):
    """One API in front of the router."""

    def parse(self, raw: bytes) -> Chat:
        """Client bytes → hub form. Raises `BadRequest`."""
        ...

    def reply(self, reply: Reply, chat: Chat, meta: Mapping[str, Any]) -> bytes:
        """Hub answer → body, with `meta` as `_virtusoul`."""
        ...

    def writer(self, chat: Chat) -> StreamWriter: ...

    def error(self, error: RouterError) -> bytes:
        """An error's body in the shape that this API's clients parse."""
        ...


def spliced(document: bytes, parsed: Mapping[str, Any], meta: Mapping[str, Any]) -> bytes:
    """`document` (JSON object bytes) with `_virtusoul` added, without encoding the rest again."""
    body = document.strip()
    if "_virtusoul" in parsed or len(parsed) == 0 or not body.endswith(b"}"):  # another router of ours upstream
        return orjson.dumps({**parsed, "_virtusoul": meta})
    return b'%b,"_virtusoul":%b}' % (body[:-1], orjson.dumps(meta))
