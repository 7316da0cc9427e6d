"""Responses requests → hub."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.chat import Chat
from router.doors.responses import DOOR
from router.doors.sealed import seal
from router.doors.translated import TranslatedChat
from router.errors import BadRequest
from router.prompt import text_to_classify
from tests.doors.wire import ANY_JSON

Json = dict[str, Any]


def parse(given: Any = "Hi", **fields: Any) -> TranslatedChat:
    chat = DOOR.parse(orjson.dumps({"model": "simple", "input": given, **fields}))
    assert isinstance(chat, TranslatedChat)
    assert Chat.parse(chat.raw).body == chat.body
    return chat


def call(id: str, name: str = "f", arguments: str = "{}") -> Json:
    return {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": name, "arguments": arguments}


def hub_call(id: str, name: str = "f", arguments: str = "{}") -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def output(id: str, content: Any = "done") -> Json:
    return {"type": "function_call_output", "call_id": id, "output": content}


def test_a_string_and_instructions() -> None:
    chat = parse("Hi", instructions="Be brief.")
    assert chat.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_messages_of_every_role_and_content() -> None:
    found = parse(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "input_text", "text": "Look:"},
                {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
                {"type": "input_file", "file_url": "https://example.org/a.pdf"},
            ]},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "A cat", "annotations": []}, {"type": "refusal", "refusal": "."},
            ]},
            {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]},
        ]
    ).messages  # fmt: skip
    assert found == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "Look:"},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            {"type": "file", "file": {"file_url": "https://example.org/a.pdf"}},
        ]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Why?"},
    ]  # fmt: skip


def test_the_items_of_one_answer_are_one_message_again() -> None:
    chat = parse(
        [
            {"role": "user", "content": "Compare"},
            {"type": "message", "role": "assistant", "content": "Let me see."},
            call("c1", arguments='{"a":1}'),
            call("c2", "g"),
            output("c1"),
            output("c2", [{"type": "input_text", "text": "two"}, {"type": "input_image", "image_url": "https://i"}]),
        ]
    )
    assert chat.messages[1] == {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [hub_call("c1", arguments='{"a":1}'), hub_call("c2", "g")],
    }
    assert chat.messages[2] == {"role": "tool", "tool_call_id": "c1", "content": "done"}
    assert chat.messages[3] == {"role": "tool", "tool_call_id": "c2", "content": "two"}
    assert chat.messages[4]["content"][1] == {"type": "image_url", "image_url": {"url": "https://i"}}
    assert text_to_classify(chat.messages) == "Compare"


def test_calls_one_after_the_other_stay_apart() -> None:
    found = parse([{"role": "user", "content": "x"}, call("c1"), output("c1"), call("c2"), output("c2")]).messages
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "assistant", "tool"]


def test_reasoning_goes_back_to_whom_it_came_from() -> None:
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "sig"}]
    summary = [{"type": "summary_text", "text": "hm"}]
    user = {"role": "user", "content": "x"}

    def answer(**more: Any) -> Json:
        return {"type": "reasoning", "id": "rs_1", "summary": summary, **more}

    signed = parse([user, answer(encrypted_content=seal(thinking_blocks=blocks)), call("c1"), output("c1")]).messages[1]
    assert signed["thinking_blocks"] == blocks
    assert "reasoning_content" not in signed
    plain = parse([user, answer(), call("c1"), output("c1")]).messages[1]
    assert plain["reasoning_content"] == "hm"
    foreign = parse([user, answer(encrypted_content="gAAAA", summary=[]), call("c1"), output("c1")]).messages[1]
    assert foreign == {"role": "assistant", "content": None, "tool_calls": [hub_call("c1")]}
    broken = parse([user, answer(encrypted_content="virtusoul1.%%", summary=[]), call("c1"), output("c1")]).messages[1]
    assert "thinking_blocks" not in broken


def test_reasoning_with_nothing_behind_it_leaves_no_message() -> None:
    given = [{"role": "user", "content": "x"}, {"type": "reasoning", "summary": []}, {"role": "user", "content": "y"}]
    assert [message["role"] for message in parse(given).messages] == ["user", "user"]


def test_parameters() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    chat = parse(
        temperature=0.5, top_p=0.9, user="u", max_output_tokens=50, reasoning={"effort": "low", "summary": "auto"},
        text={"format": schema, "verbosity": "low"}, stream=True, store=True, metadata={"a": "b"},
        truncation="disabled", include=["message.output_text.logprobs"], top_logprobs=2, service_tier="flex",
        prompt_cache_key="k",
        max_tool_calls=3, background=False, previous_response_id=None,
    )  # fmt: skip
    assert {**chat.body, "messages": None} == {
        "model": "simple", "messages": None, "temperature": 0.5, "top_p": 0.9, "user": "u", "max_tokens": 50,
        "reasoning_effort": "low", "verbosity": "low", "stream": True, "stream_options": {"include_usage": True},
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "logprobs": True, "top_logprobs": 2, "service_tier": "flex", "prompt_cache_key": "k",
    }  # fmt: skip
    assert chat.lost == ("max_tool_calls",)
    assert parse(text={"format": {"type": "json_object"}}).body["response_format"] == {"type": "json_object"}
    assert "response_format" not in parse(text={"format": {"type": "text"}}).body


FUNCTION = {"type": "function", "name": "f", "description": "F.", "parameters": {"type": "object"}, "strict": None}
EMPTY = {"type": "object", "properties": {}}
CUSTOM = {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}


def test_tools() -> None:
    chat = parse(tools=[FUNCTION, CUSTOM], tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False)
    assert chat.body["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "F.", "parameters": EMPTY}},
        {"type": "custom", "custom": {"name": "c", "format": {
            "type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}}},
    ]  # fmt: skip
    assert chat.body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert chat.body["parallel_tool_calls"] is False
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    chosen = parse(tools=[FUNCTION, CUSTOM], tool_choice=allowed).body
    assert [tool["type"] for tool in chosen["tools"]] == ["function"]
    assert chosen["tool_choice"] == "required"


def test_a_choice_without_tools_is_left_out() -> None:
    assert not parse(tools=[], tool_choice="auto", parallel_tool_calls=True).body.keys() & {
        "tools", "tool_choice", "parallel_tool_calls",
    }  # fmt: skip


def test_custom_calls() -> None:
    given = [
        {"role": "user", "content": "x"},
        {"type": "custom_tool_call", "call_id": "c1", "name": "c", "input": "free text"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"},
    ]
    found = parse(given, tools=[CUSTOM]).messages
    assert found[1]["tool_calls"] == [{"id": "c1", "type": "custom", "custom": {"name": "c", "input": "free text"}}]
    assert found[2] == {"role": "tool", "tool_call_id": "c1", "content": "ok"}


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "whole conversation"),
        ({"conversation": "conv_1"}, "conversation", "whole conversation"),
        ({"background": True}, "background", "stores nothing"),
        ({"prompt": {"id": "p"}}, "prompt", "templates"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "web_search"),
        ({"tools": [FUNCTION, {"type": "file_search"}]}, "tools[1].type", "file_search"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "name"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "mcp"}}, "tool_choice.type", "mcp"),
        ({"tools": [FUNCTION], "tool_choice": "maybe"}, "tool_choice", "auto"),
        ({"input": None}, "input", "input"),
        ({"input": []}, "input", "empty"),
        ({"input": 7}, "input", "array"),
        ({"input": ["x"]}, "input[0]", "object"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "item itself"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type", "web_search_call"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "role"),
        ({"input": [{"role": "user"}]}, "input[0].content", "content"),
        ({"input": [{"role": "user", "content": [{"type": "video"}]}]}, "input[0].content[0].type", "video"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data", "file"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id", "call_id"),
        ({"input": [output("c1", None)]}, "input[0].output", "output"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input", "answered"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type", "json_schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "schema"),
        ({"model": None}, "model", "model"),
        ({"metadata": []}, "metadata", "object"),
    ],
)
def test_faults_point_at_their_place(fields: Json, param: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(**{"given": fields.pop("input", "Hi"), **fields})
    assert caught.value.param == param
    assert says in caught.value.message


_FIELDS = st.sampled_from(
    [
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "include",
        "metadata",
        "stream",
        "parallel_tool_calls",
    ]
)
_ITEM = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    st.sampled_from(["message", "function_call", "function_call_output", "reasoning", "custom_tool_call"]),
    st.dictionaries(
        st.sampled_from(["role", "content", "call_id", "name", "arguments", "output", "summary", "encrypted_content"]),
        ANY_JSON | st.sampled_from(["user", "assistant"]),
        max_size=5,
    ),
)


@given(st.dictionaries(_FIELDS, ANY_JSON, max_size=4), st.lists(_ITEM | ANY_JSON, max_size=4) | ANY_JSON)
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_chat_or_a_bad_request(fields: Json, items: Any) -> None:
    try:
        chat = DOOR.parse(orjson.dumps({"model": "simple", "input": items, **fields}))
    except BadRequest as error:
        assert error.message
    else:
        assert Chat.parse(chat.raw).body == chat.body


@given(st.binary(max_size=40) | ANY_JSON.map(orjson.dumps))
def test_any_bytes_at_all(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        DOOR.parse(raw)
