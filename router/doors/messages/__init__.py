"""`POST /v1/messages`: Anthropic's API. API: https://platform.claude.com/docs/en/api/messages

An Anthropic target gets the client's bytes and its answer comes back untouched; for every other one the request is
translated to the hub form and the answer back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from router.chat import Chat
from router.doors.door import spliced
from router.doors.messages import request
from router.doors.messages.errors import error_body
from router.doors.messages.reply import message_of
from router.doors.messages.stream import MessagesWriter
from router.errors import RouterError
from router.estimate import estimate_tokens
from router.providers.dialect import Reply


class Messages:
    def parse(self, raw: bytes) -> Chat:
        return request.parse(raw)

    def reply(self, reply: Reply, chat: Chat, meta: Mapping[str, Any]) -> bytes:
        return spliced(reply.body, reply.document, meta) if reply.native else message_of(reply, chat, meta)

    def writer(self, chat: Chat) -> MessagesWriter:
        return MessagesWriter(chat)

    def error(self, error: RouterError) -> bytes:
        return error_body(error)


DOOR = Messages()


def count_tokens(raw: bytes) -> bytes:
    """`POST /v1/messages/count_tokens`: an estimate by our own tokenizer. Raises `BadRequest`.

    API: https://platform.claude.com/docs/en/api/messages/count_tokens
    """
    return orjson.dumps({"input_tokens": estimate_tokens(request.parse(raw, counting=True))})
