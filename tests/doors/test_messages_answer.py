"""Hub answers and streams → Anthropic messages and events, held against the official SDK's types and accumulator."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from router.doors.messages import DOOR
from router.doors.messages.thinking import UNSIGNED
from router.errors import BadRequest, Failure, Overloaded, RouterError, Unauthorized, UpstreamError
from router.providers.dialect import Reply
from tests.doors.wire import META, events, reply

Json = dict[str, Any]
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 5,
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 2},
}


def chat(**fields: Any) -> Any:
    body = {"model": "simple", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return DOOR.parse(orjson.dumps(body))


def answered(message: Json, finish: str | None = "stop", *, request: Any = None, **extra: Any) -> Json:
    body: Json = orjson.loads(DOOR.reply(reply(message, finish, **extra), request or chat(), META))
    Message.model_validate(body)
    return body


# --- whole ---


def test_a_text_answer() -> None:
    body = answered({"content": "Hello"})
    assert body == {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "gpt-x",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": USAGE, "_virtusoul": META,
    }  # fmt: skip


def test_calls_have_parsed_input() -> None:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1, {"b": "ü"}]}'}},
        {"id": "functions.g:0", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"type": "function", "function": {"name": "h", "arguments": "not json"}},
    ]
    body = answered({"content": None, "tool_calls": calls}, "tool_calls")
    first, second, third = body["content"]
    assert first == {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": [1, {"b": "ü"}]}}
    assert second == {"type": "tool_use", "id": "functions_g_0", "name": "g", "input": {}}
    assert third["input"] == {"arguments": "not json"}
    assert third["id"].startswith("toolu_")
    assert body["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("function_call", "tool_use"),
        (None, "end_turn"), ("strange", "end_turn"), ("model_length", "model_context_window_exceeded"),
    ],
)  # fmt: skip
def test_stop_reasons(finish: str | None, reason: str) -> None:
    assert answered({"content": "x"}, finish)["stop_reason"] == reason


def test_a_call_that_ended_with_stop_is_tool_use() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert answered({"content": None, "tool_calls": calls}, "stop")["stop_reason"] == "tool_use"


def test_the_stop_sequence_where_the_server_names_it() -> None:
    given = reply({"content": "x"})
    given.document["choices"][0]["stop_reason"] = "END"
    body = orjson.loads(DOOR.reply(given, chat(stop_sequences=["END"]), META))
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "END")


def test_a_refusal_is_told() -> None:
    body = answered({"content": None, "refusal": "I can't."})
    assert (body["content"], body["stop_reason"]) == ([{"type": "text", "text": "I can't."}], "refusal")


def test_reasoning_is_shown_to_those_who_asked_and_marked_as_unsigned() -> None:
    message = {"content": "x", "reasoning_content": "because"}
    assert [block["type"] for block in answered(message)["content"]] == ["text"]
    shown = answered(message, request=chat(**THINKING))["content"]
    assert shown[0] == {"type": "thinking", "thinking": "because", "signature": UNSIGNED}
    with_tools = answered({"content": "x", "reasoning": "so"}, request=chat(tools=[{"name": "f"}]))["content"]
    assert with_tools[0]["thinking"] == "so"


def test_signed_blocks_pass_verbatim() -> None:
    signed = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    message = {
        "content": "x",
        "reasoning_content": "hm",
        "thinking_blocks": [signed, {"type": "redacted_thinking", "data": "d"}],
    }
    blocks = answered(message, request=chat(**THINKING))["content"]
    assert blocks[:2] == [signed, {"type": "redacted_thinking", "data": "d"}]


def test_usage_without_any() -> None:
    body = answered({"content": "x"}, usage=None)
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (15, 7)  # the counts of `Reply.usage`


def test_a_native_answer_passes_untouched() -> None:
    raw = b'{"id": "msg_1", "type":"message","content":[ {"type":"text","text":"caf\\u00e9"}]}'
    body = DOOR.reply(Reply(raw, orjson.loads(raw), None, native=True), chat(), META)
    assert body.startswith(raw[:-1])
    assert orjson.loads(body)["_virtusoul"] == META


@pytest.mark.parametrize(
    "document", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": 7}]}, {"choices": 3}]
)
def test_strange_answers_are_still_messages(document: Json) -> None:
    body = orjson.loads(DOOR.reply(Reply(b"", document, None), chat(), META))
    assert Message.model_validate(body).content == []


# --- errors ---


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("no", param="x"), "invalid_request_error"),
        (Unauthorized("no"), "authentication_error"),
        (Overloaded("no"), "overloaded_error"),
        (RouterError("no"), "api_error"),
        (UpstreamError("no", Failure.RATE_LIMITED, status=429), "rate_limit_error"),
        (UpstreamError("no", Failure.CLIENT, status=404), "not_found_error"),
        (UpstreamError("no", Failure.CLIENT, status=413), "request_too_large"),
        (UpstreamError("no", Failure.SERVER, status=502), "api_error"),
        (UpstreamError("no", Failure.SILENT, status=504), "timeout_error"),
        (UpstreamError("no", Failure.CLIENT, status=422), "invalid_request_error"),
    ],
)
def test_errors_in_anthropics_shape(error: RouterError, kind: str) -> None:
    shape = {"type": "error", "error": {"type": kind, "message": "no"}}
    assert orjson.loads(DOOR.error(error)) == shape
    assert events(DOOR.writer(chat(stream=True)).error(error)) == [("error", shape)]


def test_a_window_that_is_full_is_told_in_the_words_that_agents_know() -> None:
    error = UpstreamError(
        "Maximum context length is 8192.", Failure.CONTEXT_LENGTH, status=400, code="context_length_exceeded"
    )
    assert "prompt is too long" in orjson.loads(DOOR.error(error))["error"]["message"]
