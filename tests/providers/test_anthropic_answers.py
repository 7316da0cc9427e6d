"""Anthropic's answers, streams and errors → OpenAI's: what the golden cases leave open."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from router.chat import Chat
from router.errors import Failure, UpstreamError
from router.providers import dialect_for
from router.providers.dialect import Usage
from tests.providers.golden.anthropic import block as sse_block
from tests.providers.golden.anthropic import call, reply, stream, text
from tests.providers.kit import chat, merged, read, target

ANTHROPIC = dialect_for("anthropic")
TO = target("claude-sonnet-4-5")
OLD = target("claude-3-5-haiku-20241022")
SCHEMA = {"type": "json_schema", "json_schema": {"name": "report", "schema": {"type": "object"}}}


def _choice(raw: bytes, to: Any = TO, **body: Any) -> dict[str, Any]:
    choice: dict[str, Any] = ANTHROPIC.response(raw, chat(**body), to).document["choices"][0]
    return choice


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("invented_tomorrow", "stop"),
    ],
)
def test_stop_reasons(stop: str, finish: str) -> None:
    assert _choice(reply([{"type": "text", "text": "x"}], stop))["finish_reason"] == finish
    pieces, _ = read(ANTHROPIC, chat(stream=True), TO, stream(*text(0, "x"), stop=stop))
    assert merged(pieces)["finish_reason"] == finish


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "I can't help with that."}
    choice = _choice(reply([], "refusal", stop_details=details))
    assert choice["message"]["refusal"] == "I can't help with that." and choice["message"]["content"] == ""


def test_usage_adds_up() -> None:
    answer = ANTHROPIC.response(reply([{"type": "text", "text": "x"}]), chat(), TO)
    assert answer.usage == Usage(prompt=150, completion=9, cached=100)
    assert answer.document["usage"]["total_tokens"] == 159
    bare = orjson.dumps({"content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 4, "output_tokens": 2}})
    assert ANTHROPIC.response(bare, chat(), TO).usage == Usage(4, 2, 0)


def test_the_usage_chunk_comes_only_where_it_was_asked_for_and_last() -> None:
    raw = stream(*text(0, "x"))
    pieces, reader = read(ANTHROPIC, chat(stream=True), TO, raw)
    assert not any("usage" in piece.document for piece in pieces)
    assert reader.usage == Usage(150, 9, 100)
    pieces, _ = read(ANTHROPIC, chat(stream=True, stream_options={"include_usage": True}), TO, raw)
    assert [piece.document["usage"] is not None for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].document["choices"] == []


def test_the_first_chunk_has_the_role_and_commits_nothing() -> None:
    pieces, _ = read(ANTHROPIC, chat(stream=True), TO, stream({"type": "ping"}, *text(0, "x")))
    assert pieces[0].document["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [piece.content for piece in pieces] == [False, True, True]
    assert {piece.document["id"] for piece in pieces} == {"msg_1"}


def test_thinking_comes_readable_and_signed() -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
    redacted = {"type": "redacted_thinking", "data": "zzz"}
    message = _choice(reply([thinking, redacted, {"type": "text", "text": "x"}]))["message"]
    assert message["reasoning_content"] == "Hm." and message["thinking_blocks"] == [thinking, redacted]
    events = [
        *sse_block(0, {"type": "thinking", "thinking": "", "signature": ""},
                   {"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "sig"}),
        *sse_block(1, redacted),
        *text(2, "x"),
    ]  # fmt: skip
    found = merged(read(ANTHROPIC, chat(stream=True), TO, stream(*events))[0])
    assert found["reasoning_content"] == "Hm." and found["thinking_blocks"] == [thinking, redacted]


def test_the_binding_tool_comes_back_as_content() -> None:
    use = {"type": "tool_use", "id": "t", "name": "report", "input": {"a": 1}}
    choice = _choice(reply([use], "tool_use"), OLD, response_format=SCHEMA)
    assert (choice["message"]["content"], choice["finish_reason"]) == ('{"a":1}', "stop")
    assert "tool_calls" not in choice["message"]
    raw = stream(*call(0, "t", "report", "", '{"a"', ":1}"), stop="tool_use")
    found = merged(read(ANTHROPIC, chat(stream=True, response_format=SCHEMA), OLD, raw)[0])
    assert (found["content"], found["finish_reason"], found["tool_calls"]) == ('{"a":1}', "stop", [])


LIST = {"type": "json_schema", "json_schema": {"name": "report", "schema": {"type": "array"}}}


def _streamed(*parts: str) -> str:
    raw = stream(*call(0, "t", "report", *parts), stop="tool_use")
    found = merged(read(ANTHROPIC, chat(stream=True, response_format=LIST), OLD, raw)[0])
    assert (found["finish_reason"], found["tool_calls"]) == ("stop", [])
    return str(found["content"])


@pytest.mark.parametrize("value", [[], [1, [{"a": ']},"\\'}]], {"value": 1}, 'a\\"}, b', "", 1.5, True, None, "ü☃"])
def test_a_wrapped_answer_comes_back_bare(value: Any) -> None:
    use = {"type": "tool_use", "id": "t", "name": "report", "input": {"value": value}}
    choice = _choice(reply([use], "tool_use"), OLD, response_format=LIST)
    assert (choice["message"]["content"], choice["finish_reason"]) == (orjson.dumps(value).decode(), "stop")
    for said in (json.dumps({"value": value}), json.dumps({"value": value}, indent=2, ensure_ascii=False) + "\n"):
        for size in (1, 2, 5, len(said)):
            content = _streamed(*(said[at : at + size] for at in range(0, len(said), size)))
            assert orjson.loads(content) == value and content == content.strip()
            assert content in said  # in the model's own words


def test_a_wrapped_answer_streams_as_it_comes() -> None:
    parts = ['{"val', 'ue": [', "1", ", 2", "] ", ', "more": 3}']
    raw = stream(*call(0, "t", "report", *parts), stop="tool_use")
    pieces, _ = read(ANTHROPIC, chat(stream=True, response_format=LIST), OLD, raw)
    deltas = [piece.document["choices"][0]["delta"].get("content") for piece in pieces]
    assert [delta for delta in deltas if delta] == ["[", "1", ", 2", "]"]


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        (['{"why": "x", ', '"value": [1]}'], "[1]"),  # another member first
        (['{"list": [1]}'], '{"list":[1]}'),  # not what the schema says: as it came
        (['{"value": [1, 2'], "[1, 2"),  # cut by the token limit
        (['{"val'], ""),
        (["{}"], "{}"),
        ([], "{}"),
        (['{"why": "' + "x" * 5_000, '", "value": [1]}'], "[1]"),
    ],
)
def test_a_wrapped_answer_that_is_not_as_it_should_be(parts: list[str], content: str) -> None:
    assert _streamed(*parts) == content


def test_what_was_cited_of_the_web_comes_back_as_annotations() -> None:
    cited = {"type": "web_search_result_location", "url": "https://u", "title": "T", "cited_text": "c"}
    page = {"type": "page_location", "document_index": 0, "cited_text": "c"}
    blocks = [
        {"type": "text", "text": "So: "},
        {"type": "text", "text": "it rains", "citations": [cited, page]},
        {"type": "text", "text": ", and pours", "citations": [cited, {**cited, "title": None}]},
    ]
    expected = [
        {"type": "url_citation", "url_citation": {"url": "https://u", "title": title, "start_index": a, "end_index": b}}
        for title, a, b in (("T", 4, 12), ("T", 12, 23), ("", 12, 23))
    ]
    message = _choice(reply(blocks))["message"]
    assert message["annotations"] == expected and message["content"] == "So: it rains, and pours"
    events = []
    for index, block in enumerate(blocks):
        said = [{"type": "citations_delta", "citation": one} for one in block.get("citations", ())]
        said.insert(1, {"type": "text_delta", "text": block["text"]})
        events += sse_block(index, {"type": "text", "text": ""}, *said)
    pieces, _ = read(ANTHROPIC, chat(stream=True), TO, stream(*events))
    deltas = [choice["delta"] for piece in pieces for choice in piece.document["choices"]]
    found = [entry for delta in deltas for entry in delta.get("annotations", ())]
    assert found == [{"index": index, **one} for index, one in enumerate(expected)]


def test_an_answer_that_was_bound_twice_is_told_once() -> None:
    blocks = [{"type": "tool_use", "id": f"t{number}", "name": "report", "input": {"n": number}} for number in (1, 2)]
    assert _choice(reply(blocks, "tool_use"), OLD, response_format=SCHEMA)["message"]["content"] == '{"n":1}'
    raw = stream(*call(0, "t1", "report", '{"n":1}'), *call(1, "t2", "report", '{"n":2}'), stop="tool_use")
    pieces, _ = read(ANTHROPIC, chat(stream=True, response_format=SCHEMA), OLD, raw)
    assert merged(pieces)["content"] == '{"n":1}' and merged(pieces)["tool_calls"] == []


def test_a_client_tool_beside_the_binding_one_is_a_call() -> None:
    use = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    tools = [{"type": "function", "function": {"name": "look"}}]
    choice = _choice(reply([use], "tool_use"), OLD, response_format=SCHEMA, tools=tools)
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["tool_calls"][0]["function"]["name"] == "look"


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ('```json\n{"a": "```"}\n```', '{"a": "```"}'),
        ('```\n{"a": 1}\n```\n', '{"a": 1}'),
        ('{"a": 1}', '{"a": 1}'),
        ("", ""),
        ("no JSON ``` at all", "no JSON ``` at all"),
    ],
)
def test_json_object_comes_without_its_fence(said: str, content: str) -> None:
    wanted = {"response_format": {"type": "json_object"}}
    blocks = [{"type": "text", "text": said}] if said else []
    assert _choice(reply(blocks), **wanted)["message"]["content"] == content
    pieces, _ = read(ANTHROPIC, chat(stream=True, **wanted), TO, stream(*text(0, *said)))
    assert merged(pieces)["content"] == content


def test_custom_tools_are_called_in_their_own_form() -> None:
    tools = [{"type": "custom", "custom": {"name": "run"}}]
    use = {"type": "tool_use", "id": "t", "name": "run", "input": {"input": "ls"}}
    expected = {"id": "t", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    assert _choice(reply([use], "tool_use"), tools=tools)["message"]["tool_calls"] == [expected]
    raw = stream(*call(0, "t", "run", '{"input":', '"ls"}'), stop="tool_use")
    assert merged(read(ANTHROPIC, chat(stream=True, tools=tools), TO, raw)[0])["tool_calls"] == [expected]


LOOK: dict[str, Any] = {"name": "look", "parameters": {"type": "object"}}


def test_legacy_functions_are_called_in_their_own_form() -> None:
    uses = [{"type": "tool_use", "id": f"t{number}", "name": "look", "input": {"n": number}} for number in (1, 2)]
    expected = {"name": "look", "arguments": '{"n":1}'}
    for blocks in (uses[:1], uses):  # two were not asked for, and have no form
        choice = _choice(reply(blocks, "tool_use"), functions=[LOOK])
        assert (choice["message"]["function_call"], choice["finish_reason"]) == (expected, "function_call")
        assert "tool_calls" not in choice["message"] and choice["message"]["content"] is None
    raw = stream(*text(0, "So"), *call(1, "t1", "look", '{"n"', ":1}"), *call(2, "t2", "look", "{}"), stop="tool_use")
    deltas, finish = _deltas(raw, functions=[LOOK])
    said = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert said == [{"name": "look", "arguments": ""}, {"arguments": '{"n"'}, {"arguments": ":1}"}]
    assert finish == "function_call" and not any("tool_calls" in delta for delta in deltas)
    deltas, _ = _deltas(stream(*call(0, "t", "look"), stop="tool_use"), functions=[LOOK])
    assert deltas[-2] == {"function_call": {"arguments": "{}"}}


def test_functions_beside_tools_are_called_in_the_form_of_tools() -> None:
    fields = {"functions": [LOOK], "tools": [{"type": "function", "function": LOOK}]}
    choice = _choice(reply([{"type": "tool_use", "id": "t", "name": "look", "input": {}}], "tool_use"), **fields)
    assert choice["message"]["tool_calls"] and choice["finish_reason"] == "tool_calls"
    deltas, finish = _deltas(stream(*call(0, "t", "look", "{}"), stop="tool_use"), **fields)
    assert finish == "tool_calls" and not any("function_call" in delta for delta in deltas)


def _deltas(raw: bytes, **body: Any) -> tuple[list[dict[str, Any]], str | None]:
    """What a stream says piece by piece, and its finish reason."""
    pieces, _ = read(ANTHROPIC, chat(stream=True, **body), TO, raw)
    choices = [choice for piece in pieces for choice in piece.document["choices"]]
    return [choice["delta"] for choice in choices], choices[-1]["finish_reason"]


def test_unknown_blocks_events_and_malformed_ones_cost_nothing() -> None:
    odd = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "text", "text": "x"},
    ]
    assert _choice(reply(odd))["message"]["content"] == "x"
    raw = stream(
        {"type": "invented_tomorrow", "index": 0},
        *sse_block(0, odd[0], {"type": "input_json_delta", "partial_json": "{}"}),
        *text(1, "x"),
    )
    raw = raw.replace(b"event: ping", b"event: ping", 1).replace(b"\n\n", b"\n\ndata: {broken\n\n", 1)
    found = merged(read(ANTHROPIC, chat(stream=True), TO, raw)[0])
    assert found["content"] == "x" and found["tool_calls"] == []


# --- the client's own dialect -----------------------------------------------------------------------------------------


def _native(streamed: bool) -> Chat:
    hub = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": streamed}
    return Chat(orjson.dumps(hub), hub, ("anthropic", b"{}"))


def test_native_answers_pass_untouched_and_are_counted() -> None:
    raw = reply([{"type": "text", "text": "x"}])
    answer = ANTHROPIC.response(raw, _native(False), TO)
    assert answer.native and answer.body == raw and answer.usage == Usage(150, 9, 100)


@pytest.mark.parametrize("size", [None, 1])
def test_native_streams_pass_untouched_and_are_counted(size: int | None) -> None:
    raw = stream({"type": "ping"}, *text(0, "Grüß"))
    pieces, reader = read(ANTHROPIC, _native(True), TO, raw, size)
    assert reader.native and reader.ended and reader.finished and reader.usage == Usage(150, 9, 100)
    assert b"".join(b"event: %b\ndata: %b\n\n" % (p.event.encode(), p.data) for p in pieces) == raw
    around = ["content_block_start", "content_block_stop"]  # a block is announced long before its first token
    assert [piece.event for piece in pieces if not piece.content] == ["message_start", "ping", *around, "message_stop"]


@pytest.mark.parametrize(
    ("block", "content"),
    [
        ({"type": "text", "text": ""}, False),
        ({"type": "thinking", "thinking": "", "signature": ""}, False),
        ({"type": "text", "text": "Hi"}, True),
        ({"type": "tool_use", "id": "t", "name": "look", "input": {}}, True),
        ({"type": "redacted_thinking", "data": "x"}, True),
        ({"type": {"odd": 1}}, True),
    ],
)
def test_a_native_block_that_only_announces_itself_is_no_content(block: Any, content: bool) -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    raw = b"event: content_block_start\ndata: %b\n\n" % orjson.dumps(start)
    pieces, _ = read(ANTHROPIC, _native(True), TO, raw)
    assert [piece.content for piece in pieces] == [content]


# --- errors -----------------------------------------------------------------------------------------------------------


def _error(kind: str, message: str) -> bytes:
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"})


@pytest.mark.parametrize(
    ("status", "kind", "message", "failure", "ours"),
    [
        (400, "invalid_request_error", "max_tokens: Field required", Failure.CLIENT, 400),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000", Failure.CONTEXT_LENGTH, 400),
        (400, "invalid_request_error", "This model does not support assistant message prefill.", Failure.PREFILL, 400),
        (401, "authentication_error", "invalid x-api-key", Failure.AUTH, 502),
        (403, "permission_error", "no", Failure.AUTH, 502),
        (404, "not_found_error", "model: claude-x", Failure.CLIENT, 404),
        (413, "request_too_large", "Request exceeds the maximum size", Failure.CLIENT, 413),
        (429, "rate_limit_error", "slow down", Failure.RATE_LIMITED, 429),
        (500, "api_error", "oops", Failure.SERVER, 502),
        (529, "overloaded_error", "Overloaded", Failure.SERVER, 503),
    ],
)
def test_error_statuses(status: int, kind: str, message: str, failure: Failure, ours: int) -> None:
    error = ANTHROPIC.error(status, {"retry-after": "7"}, _error(kind, message), TO)
    assert (error.failure, error.status, error.upstream_status) == (failure, ours, status)
    if status not in (401, 403):
        assert message in error.message
    if status in (429, 529):
        assert error.headers["retry-after"] == "7"


def test_html_is_never_quoted() -> None:
    error = ANTHROPIC.error(503, {}, b"<html><body>Bad gateway nginx</body></html>", TO)
    assert error.status == 502 and "nginx" not in error.message


@pytest.mark.parametrize(("kind", "ours"), [("overloaded_error", 503), ("rate_limit_error", 429), ("api_error", 502)])
def test_error_events(kind: str, ours: int) -> None:
    raw = stream({"type": "error", "error": {"type": kind, "message": "m"}}, stop=None, end=False)
    for asked in (chat(stream=True), _native(True)):
        with pytest.raises(UpstreamError) as raised:
            read(ANTHROPIC, asked, TO, raw)
        assert raised.value.status == ours
