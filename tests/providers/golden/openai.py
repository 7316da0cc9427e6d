"""Bytes in the forms of https://platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

import json
from typing import Any

from tests.providers.golden import Golden

MODEL = "gpt-4.1"
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}}


def reply(message: dict[str, Any], finish: str = "stop", **extra: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    document = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    return json.dumps({**document, "usage": USAGE, **extra}).encode()


def stream(
    *deltas: dict[str, Any],
    finish: str | None = "stop",
    usage: bool = False,
    done: bool = True,
    unfinished: str | None = None,
) -> bytes:
    """`unfinished`: the finish reason of the chunks before the last; some servers have "" there."""
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    chunks: list[dict[str, Any]] = [
        {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": unfinished}]} for delta in deltas
    ]
    if finish is not None:
        chunks.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        chunks.append({**frame, "choices": [], "usage": USAGE})
    raw = "".join(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks)
    return (raw + ("data: [DONE]\n\n" if done else "")).encode()


_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Zürich"}'}}
_IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}]}]

CASES = {
    "text": Golden(
        MODEL,
        "openai",
        {"max_tokens": 5, "unknown": 1},
        {"model": MODEL, "max_tokens": 5, "unknown": 1},
        reply({"content": "Grüß dich 👋"}),
        stream({"role": "assistant", "content": ""}, {"content": "Grüß "}, {"content": "dich 👋"}),
        {"content": "Grüß dich 👋", "tool_calls": [], "finish_reason": "stop"},
    ),
    "tools": Golden(
        MODEL,
        "openai",
        {"tools": _TOOLS, "tool_choice": "auto"},
        {"tools": _TOOLS, "tool_choice": "auto"},
        reply({"content": None, "tool_calls": [_CALL]}, "tool_calls"),
        stream(
            {"role": "assistant", "content": None},
            {"tool_calls": [{**_CALL, "index": 0, "function": {"name": "weather", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":"Zür'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": 'ich"}'}}]},
            finish="tool_calls",
        ),
        {"tool_calls": [_CALL], "finish_reason": "tool_calls"},
    ),
    "image": Golden(
        MODEL,
        "openai",
        {"messages": _IMAGE},
        {"messages": _IMAGE},
        reply({"content": "A cat."}),
        stream({"content": "A cat."}),
        {"content": "A cat.", "finish_reason": "stop"},
    ),
    "usage": Golden(
        MODEL,
        "openai",
        {"stream_options": {"include_usage": True}},
        {},
        reply({"content": "Hi"}, "length"),
        stream({"content": "Hi"}, finish="length", usage=True),
        {"content": "Hi", "finish_reason": "length", "usage": USAGE},
    ),
    "error": Golden(
        MODEL,
        "openai",
        stream=stream({"content": "Hi"}, finish=None, done=False)
        + b'data: {"error": {"message": "Slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}\n\n',
        status=429,
        body=b'{"error": {"message": "Slow down", "type": "rate_limit_error", "param": null, "code": null}}',
        error={"status": 429, "type": "rate_limit_error", "message": "Slow down"},
    ),
    "truncated": Golden(
        MODEL, "openai", stream=stream({"content": "Hi"}, finish=None, done=False), answer={"content": "Hi"}
    ),
}
