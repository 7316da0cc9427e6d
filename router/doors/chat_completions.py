"""`POST /v1/chat/completions`: the hub form itself, so bytes pass as they are.

API: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from router.chat import Chat
from router.doors.door import spliced
from router.errors import RouterError
from router.providers.dialect import Piece, Reply, Usage
from router.sse import DONE, encode


class ChatCompletionsWriter:
    def __init__(self) -> None:
        self._first = True

    def write(self, pieces: list[Piece], meta: Mapping[str, Any]) -> bytes:
        if self._first and pieces:
            self._first = False
            first, *rest = pieces
            head = encode(spliced(first.data, first.document, meta))
            return head + b"".join([encode(piece.data) for piece in rest]) if rest else head
        if len(pieces) == 1:
            return b"data: %b\n\n" % pieces[0].data
        return b"".join([b"data: %b\n\n" % piece.data for piece in pieces])

    def end(self, usage: Usage | None) -> bytes:
        return DONE

    def error(self, error: RouterError) -> bytes:
        return encode(orjson.dumps(error.body()))


class ChatCompletions:
    def parse(self, raw: bytes) -> Chat:
        return Chat.parse(raw)

    def reply(self, reply: Reply, chat: Chat, meta: Mapping[str, Any]) -> bytes:
        return spliced(reply.body, reply.document, meta)

    def writer(self, chat: Chat) -> ChatCompletionsWriter:
        return ChatCompletionsWriter()

    def error(self, error: RouterError) -> bytes:
        return orjson.dumps(error.body())


DOOR = ChatCompletions()
