"""Anthropic's Messages API: https://platform.claude.com/docs/en/api/messages

| module | its part |
| --- | --- |
| `request` | OpenAI's parameters → Anthropic's |
| `conversation` `parts` `tools` `structured` | messages, content parts, tools, `response_format` |
| `wrapped` | structured answers that are no JSON object |
| `models` `fit` | what each Claude model takes; what is changed so that it does |
| `response` `stream` | the answer, its stream and errors back into OpenAI's form |
"""

from __future__ import annotations

from collections.abc import Mapping

from router.chat import Chat
from router.config import Target
from router.errors import UpstreamError
from router.providers.anthropic.request import translate
from router.providers.anthropic.response import translate_error, translate_response
from router.providers.anthropic.stream import ChunkStream, NativeStream
from router.providers.dialect import Dialect, Outgoing, Reply, StreamReader

# 2026-10-21 is newer and takes the sampling parameters away from every model, those that have them included.
# https://platform.claude.com/docs/en/api/versioning
VERSION = "2023-06-01"


class Anthropic:
    name = "anthropic"
    embedded = False

    def headers(self, target: Target) -> dict[str, str]:
        headers = {"anthropic-version": VERSION}
        if target.api_key:
            headers["x-api-key"] = target.api_key
        return headers

    def request(self, chat: Chat, target: Target) -> Outgoing:
        outgoing = translate(chat, target)
        if chat.native is not None and chat.native[0] == self.name:
            outgoing = outgoing._replace(headers=chat.native_headers)
        # A base URL with or without its /v1 works, whatever else stands in front of it.
        return outgoing if _has_version(target.base_url) else outgoing._replace(path=f"/v1{outgoing.path}")

    def response(self, body: bytes, chat: Chat, target: Target) -> Reply:
        return translate_response(body, chat, target)

    def stream(self, chat: Chat, target: Target) -> StreamReader:
        if chat.native is not None and chat.native[0] == "anthropic":
            return NativeStream(target)
        return ChunkStream(chat, target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> UpstreamError:
        return translate_error(status, headers, body, target)


DIALECT: Dialect = Anthropic()


def _has_version(base_url: str) -> bool:
    return base_url.rsplit("/", 1)[-1] == "v1"
