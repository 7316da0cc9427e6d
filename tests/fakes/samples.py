"""What clients and providers send when nothing is damaged, one of nearly everything in each, and what damages it."""

from __future__ import annotations

from typing import Any

_TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks",
        "parameters": {"type": "object", "properties": {"at": {"type": "string", "enum": ["a", "b"]}}},
        "strict": True,
    },
}
_CHAT: dict[str, Any] = {
    "model": "simple",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [{"type": "text",
        "text": "What is <system-reminder>x</system-reminder> this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}]},
        {"role": "assistant", "content": None, "thinking_blocks": [{"type": "thinking", "thinking": "hm",
        "signature": "s"}],
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look",
            "arguments": '{"at": "a"}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
        {"role": "user", "content": "yes, do it"},
    ],
    "tools": [_TOOL],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"},
    "strict": True}},
    "temperature": 0.5, "top_p": 0.9, "max_tokens": 50, "max_completion_tokens": 60, "stop": ["\n\n", "END"], "n": 1,
    "logit_bias": {"50256": -100}, "logprobs": True, "top_logprobs": 2, "reasoning_effort": "low", "seed": 7,
    "user": "u",
    "stream": False, "stream_options": {"include_usage": True}, "metadata": {"a": "b"}, "service_tier": "auto",
    "thinking": {"type": "enabled", "budget_tokens": 2000}, "made_up": {"x": [1, 2, 3]},
}  # fmt: skip
_MESSAGES: dict[str, Any] = {
    "model": "simple", "max_tokens": 50, "system": [{"type": "text", "text": "s",
    "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image", "source":
            {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "a"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": False,
            "content": [{"type": "text", "text": "a cat"}]}]},
    ],
    "tools": [{"name": "look", "description": "d", "input_schema": {"type": "object", "properties": {}}}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True}, "stop_sequences": ["END"], "temperature": 1,
    "top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 1024}, "metadata": {"user_id": "u"}, "stream": False,
    "output_config": {"effort": "low"},
}  # fmt: skip
_RESPONSES: dict[str, Any] = {
    "model": "simple", "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"},
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "x"},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "ok", "annotations": []}]},
        {"role": "user", "content": "and now?"},
    ],
    "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False},
              {"type": "custom", "name": "say", "format": {"type": "grammar", "syntax": "lark",
              "definition": "start: x"}}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 50, "store": False, "truncation": "auto",
    "include": ["message.output_text.logprobs"], "top_logprobs": 1, "parallel_tool_calls": True, "stream": False,
    "metadata": {"a": "b"}, "temperature": 1,
}  # fmt: skip
_COMPLETIONS: dict[str, Any] = {
    "model": "simple", "prompt": ["Once upon"], "max_tokens": 5, "stop": "x", "n": 1, "echo": False, "logprobs": 1,
    "suffix": None, "best_of": 1, "stream": False, "stream_options": {"include_usage": True},
}  # fmt: skip

# Path → an undamaged body. `/retrain` is left out: undamaged, it trains.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/messages": _MESSAGES,
    "/v1/responses": _RESPONSES,
    "/v1/completions": _COMPLETIONS,
    "/v1/embeddings": {
        "model": "simple",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 4,
        "user": "u",
    },
    "/v1/messages/count_tokens": {
        name: _MESSAGES[name] for name in ("model", "messages", "system", "tools", "thinking")
    },
    "/classify": {"text": "hello", "texts": ["a", "b"], "messages": _CHAT["messages"]},
    "/feedback": {"text": "hello", "tier": "simple", "messages": _CHAT["messages"]},
}
# `custom` and `anthropic` tiers speak to sockets of the test; `simple` is the embedded echo.

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 1e308, -0.0, 0.1, "", " ", "\n", "\0", "\u2028", "\x7f\x85",
    "\U0001f600",
    "x" * 3000, "simple\r\nx-evil: 1", "data:image/png;base64,", "data:;,", "data:image/png;base64,%%%", "http://",
    "1", "null", "user",
    "assistant", "tool", "developer", "function", "text", "thinking", "redacted_thinking", "tool_use", "tool_result",
    "document",
    "input_file", "item_reference", "web_search", "json_schema", "auto", "none", "required", [], {}, [[]], [{}],
    [None], [1], [""],
    {"": ""}, {"type": None}, {"type": "text"}, {"type": "text", "text": None}, {"type": ["text"]}, {"role": "user"},
    {"text": "x"},
    {"name": []}, {"function": {}}, {"function": None}, {"type": "function", "function": {"name": None}}, {"url": 1},
    {"$ref": "#"},
    [["a", "b"]], {"a": {"b": {"c": [[[[]]]]}}},
)  # fmt: skip

HEADERS = (
    b"x-request-id: a", b"x-request-id: \xff\xfe", b"x-virtusoul-bias: 0.5", b"x-virtusoul-bias: nan",
    b"x-virtusoul-bias: \xe2\x98\x83",
    b"anthropic-beta: a,b", b"anthropic-beta: \xff", b"anthropic-beta: \xe2\x98\x83", b"accept: */*",
    b"accept-encoding: gzip", b"traceparent: 00-x",
    b"authorization: Bearer \xff", b"authorization: Basic", b"x-api-key: ", b"cookie: a=b", b"connection: close",
    b"connection: upgrade",
    b"upgrade: websocket", b"expect: 100-continue", b"expect: a miracle", b"content-encoding: gzip",
    b"content-encoding: br",
    b"content-encoding: zstd", b"content-encoding: nonsense", b"range: bytes=0-1", b"content-type: text/plain",
    b"if-none-match: *",
)  # fmt: skip
METHODS = (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"M-SEARCH", b"get")
PATHS = (
    "/", "/health", "/ready", "/metrics", "/dashboard", "/v1/models", "/v1/models/simple", "/v1/models/%00",
    "/v1/models/%ff", "//", "/..",
    "/v1/chat/completions?x=%zz", "/v1//chat/completions", "/%2e%2e/etc/passwd", "*", "http://x:0/health",
    "http://[::1/", "/\xe9", "/#a", "/?",
)  # fmt: skip

COMPLETION: dict[str, Any] = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": {"content": [{"token": "a", "logprob": -1,
    "bytes": [97],
        "top_logprobs": []}]}, "message": {"role": "assistant", "content": "Hello", "refusal": None,
        "reasoning_content": "hm",
        "annotations": [{"type": "url_citation", "url_citation": {"url": "http://x", "title": "t", "start_index": 0,
        "end_index": 1}}],
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1}}, "system_fingerprint": "f", "error": None,
}  # fmt: skip
CHUNKS: list[dict[str, Any]] = [
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    for choice in (
        {"index": 0, "delta": {"role": "assistant", "content": "", "reasoning_content": "hm"}, "finish_reason": None},
        {"index": 0, "delta": {"content": "Hello"}, "logprobs": {"content": [{"token": "a"}]}, "finish_reason": None},
        {
            "index": 0,
            "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": "{"}}]},
        },
        {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    )
] + [{"id": "c", "choices": [], "usage": COMPLETION["usage"], "error": None}]
MESSAGE: dict[str, Any] = {
    "id": "msg", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
    "stop_sequence": None,
    "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Hello",
    "citations": None},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {}}],
    "usage": {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 0},
}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "look",
    "input": {}}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]  # fmt: skip
ERRORS: tuple[Any, ...] = (
    {"error": {"message": "no", "type": "x", "param": "p", "code": "c"}}, [{"error": {"code": 400, "message": "x",
    "status": "INVALID"}}],
    {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long"}},
    {"detail": [{"msg": "bad"}]},
)  # fmt: skip
