"""Bytes in the forms of https://platform.claude.com/docs/en/api/messages and …/build-with-claude/streaming."""

from __future__ import annotations

import json
from typing import Any

from tests.providers.golden import Golden

MODEL = "claude-sonnet-4-5"
USAGE = {"input_tokens": 20, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30, "output_tokens": 9}
OPENAI_USAGE = {
    "prompt_tokens": 150,
    "completion_tokens": 9,
    "total_tokens": 159,
    "prompt_tokens_details": {"cached_tokens": 100, "cache_creation_tokens": 30},
}
PNG = "iVBORw0KGgo="
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def reply(content: list[dict[str, Any]], stop: str = "end_turn", **extra: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content}
    return json.dumps({**message, "stop_reason": stop, "stop_sequence": None, "usage": USAGE, **extra}).encode()


def stream(*events: dict[str, Any], stop: str | None = "end_turn", end: bool = True) -> bytes:
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [], "stop_reason": None}
    all_events = [{"type": "message_start", "message": {**start, "usage": {**USAGE, "output_tokens": 1}}}, *events]
    if stop is not None:
        delta = {"stop_reason": stop, "stop_sequence": None}
        all_events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}})
    if end:
        all_events.append({"type": "message_stop"})
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in all_events).encode()


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *parts: str) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": part} for part in parts))


def call(index: int, id: str, name: str, *parts: str) -> list[dict[str, Any]]:
    start = {"type": "tool_use", "id": id, "name": name, "input": {}}
    return block(index, start, *({"type": "input_json_delta", "partial_json": part} for part in parts))


def _function(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


CASES = {
    "text": Golden(
        MODEL,
        "anthropic",
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}], "max_tokens": 50},
        {"model": MODEL, "system": "Be kind.", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50},
        reply([{"type": "text", "text": "Grüß dich 👋"}]),
        stream({"type": "ping"}, *text(0, "Grüß ", "dich 👋")),
        {"content": "Grüß dich 👋", "tool_calls": [], "finish_reason": "stop"},
    ),
    "tools": Golden(
        MODEL,
        "anthropic",
        {
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}],
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "messages": [
                {"role": "user", "content": "Oslo and here?"},
                {"role": "assistant", "content": None, "tool_calls": [_function("a", "weather", '{"city":"Oslo"}')]},
                {"role": "tool", "tool_call_id": "a", "content": "cold"},
            ],
        },
        {
            "tools": [{"name": "weather", "input_schema": WEATHER}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "messages": [
                {"role": "user", "content": "Oslo and here?"},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "cold"}]},
            ],
        },
        reply(
            [
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}},
                {"type": "tool_use", "id": "toolu_2", "name": "here", "input": {}},
            ],
            "tool_use",
        ),
        stream(
            *text(0, "Looking."),
            *call(1, "toolu_1", "weather", "", '{"city":', '"Zür', 'ich"}'),
            *call(2, "toolu_2", "here", ""),
            stop="tool_use",
        ),
        {
            "content": "Looking.",
            "tool_calls": [_function("toolu_1", "weather", '{"city":"Zürich"}'), _function("toolu_2", "here", "{}")],
            "finish_reason": "tool_calls",
        },
    ),
    "image": Golden(
        MODEL,
        "anthropic",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
                    ],
                }
            ]
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
                    ],
                }
            ]
        },
        reply([{"type": "text", "text": "A cat."}]),
        stream(*text(0, "A cat.")),
        {"content": "A cat.", "tool_calls": [], "finish_reason": "stop"},
    ),
    "usage": Golden(
        MODEL,
        "anthropic",
        {"stream_options": {"include_usage": True}},
        {},
        reply([{"type": "text", "text": "Hi"}], "max_tokens"),
        stream(*text(0, "Hi"), stop="max_tokens"),
        {"content": "Hi", "tool_calls": [], "finish_reason": "length", "usage": OPENAI_USAGE},
    ),
    "error": Golden(
        MODEL,
        "anthropic",
        stream=stream(
            *text(0, "Hi"), {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, end=False
        ),
        status=529,
        body=b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}',
        error={"status": 503, "type": "overloaded_error", "message": "Overloaded"},
    ),
    "truncated": Golden(
        MODEL, "anthropic", stream=stream(*text(0, "Hi")[:2], stop=None, end=False), answer={"content": "Hi"}
    ),
}
