"""The embedded provider: says which tier was chosen and repeats the prompt. For `--demo`, and for trying a set-up."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import orjson

from router.chat import Chat
from router.config import Target
from router.prompt import human_text
from router.providers.dialect import Outgoing
from router.providers.openai import OpenAi
from router.sse import DONE, encode

_QUOTE_CHARS = 400


class Echo(OpenAi):
    """OpenAI's dialect, with `answer` in the place of a network."""

    name = "echo"
    embedded = True

    def request(self, chat: Chat, target: Target) -> Outgoing:
        return Outgoing("", chat.raw)

    def answer(self, chat: Chat, target: Target) -> bytes:
        """A whole chat completion."""
        choice = {"index": 0, "message": {"role": "assistant", "content": _text(chat, target)}, "finish_reason": "stop"}
        return orjson.dumps(
            {**_envelope("chat.completion", target), "choices": [choice], "usage": _usage(chat, target)}
        )

    def events(self, chat: Chat, target: Target) -> Iterator[bytes]:
        """The same answer as a stream, word by word."""
        envelope = _envelope("chat.completion.chunk", target)

        def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
            return encode(
                orjson.dumps({**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            )

        yield chunk({"role": "assistant", "content": ""})
        for word in _text(chat, target).split(" "):
            yield chunk({"content": f"{word} "})
        yield chunk({}, "stop")
        options = chat.body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            yield encode(orjson.dumps({**envelope, "choices": [], "usage": _usage(chat, target)}))
        yield DONE


DIALECT = Echo()


def _text(chat: Chat, target: Target) -> str:
    prompt = next((human_text(m.get("content")) for m in reversed(chat.messages) if m.get("role") == "user"), "")
    quoted = prompt if len(prompt) <= _QUOTE_CHARS else prompt[:_QUOTE_CHARS] + " …"
    return f"[echo] This prompt was routed to the tier '{target.tier}'. You said: {quoted}"


def _envelope(kind: str, target: Target) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": target.model}


def _usage(chat: Chat, target: Target) -> dict[str, int]:
    """Words, not tokens: the echo has no tokenizer."""
    prompt = sum(len(human_text(message.get("content")).split()) for message in chat.messages)
    completion = len(_text(chat, target).split())
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
