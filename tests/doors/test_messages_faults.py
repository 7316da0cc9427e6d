"""Anthropic requests that are none: each a `BadRequest` that points at its place, whatever the JSON."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.chat import Chat
from router.doors.messages import DOOR
from router.errors import BadRequest
from router.prompt import text_to_classify
from tests.doors.test_messages_request import assistant, parse, use, user
from tests.doors.wire import ANY_JSON

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": False}, "max_tokens"),
        ({"max_tokens": "7"}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [user({"type": "image"})]}, "messages[0].content[0].source"),
        ({"messages": [user({"type": "tool_result"})]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [assistant({"type": "tool_use", "id": "a"})]}, "messages[0].content[0].name"),
        ({"messages": [assistant(use("a", input=[1]))]}, "messages[0].content[0].input"),
        ({"model": None}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [{"type": "custom"}]}, "tools[0].name"),
        ({"tools": [{"type": "bash_20250124"}]}, "tools[0].name"),
        ({"tools": [{"name": "f"}], "tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ],
)
def test_faults_point_at_their_place(fields: Json, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


FIELDS = st.sampled_from(
    [
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "metadata",
        "stop_sequences",
        "max_tokens",
        "stream",
    ]
)
_BLOCKS = st.sampled_from(
    ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking", "search_result", "other"]
)
_BLOCK = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    _BLOCKS,
    st.dictionaries(
        st.sampled_from(["text", "source", "id", "name", "input", "tool_use_id", "content", "thinking", "signature"]),
        ANY_JSON,
        max_size=5,
    ),
)


@given(st.dictionaries(FIELDS, ANY_JSON, max_size=4), st.lists(_BLOCK | ANY_JSON, max_size=4), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_chat_or_a_bad_request(fields: Json, blocks: list[Any], from_user: bool) -> None:
    turn = {"role": "user" if from_user else "assistant", "content": blocks}
    body = {"model": "simple", "max_tokens": 5, "messages": [turn], **fields}
    try:
        chat = DOOR.parse(orjson.dumps(body))
    except BadRequest as error:
        assert error.message
    else:
        assert Chat.parse(chat.raw).body == chat.body
        text_to_classify(chat.messages)


@given(ANY_JSON)
def test_any_document_at_all(document: Any) -> None:
    with pytest.raises(BadRequest):
        DOOR.parse(orjson.dumps(document))


def test_deep_nesting_is_a_bad_request() -> None:
    deep = b'{"a":' * 255 + b"1" + b"}" * 255
    call = b'{"type":"tool_use","id":"t","name":"f","input":%b}' % deep
    with pytest.raises(BadRequest):
        DOOR.parse(b'{"model":"simple","max_tokens":5,"messages":[{"role":"assistant","content":[%b]}]}' % call)
