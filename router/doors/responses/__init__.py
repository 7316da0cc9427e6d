"""`POST /v1/responses`, without memory. API: https://platform.openai.com/docs/api-reference/responses"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from router.chat import Chat
from router.doors.responses import request
from router.doors.responses.reply import response_of
from router.doors.responses.stream import ResponsesWriter
from router.errors import RouterError
from router.providers.dialect import Reply


class Responses:
    def parse(self, raw: bytes) -> Chat:
        return request.parse(raw)

    def reply(self, reply: Reply, chat: Chat, meta: Mapping[str, Any]) -> bytes:
        return response_of(reply, chat, meta)

    def writer(self, chat: Chat) -> ResponsesWriter:
        return ResponsesWriter(chat)

    def error(self, error: RouterError) -> bytes:
        return orjson.dumps(error.body())


DOOR = Responses()
