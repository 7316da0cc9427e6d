"""Anthropic requests → hub."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from router.chat import Chat
from router.doors.messages import DOOR, count_tokens
from router.doors.messages.thinking import UNSIGNED
from router.doors.translated import TranslatedChat
from router.errors import BadRequest
from router.prompt import text_to_classify
from router.providers.anthropic import DIALECT as ANTHROPIC
from tests.providers.kit import target

Json = dict[str, Any]


def parse(**fields: Any) -> TranslatedChat:
    body = {"model": "simple", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields}
    chat = DOOR.parse(orjson.dumps(body))
    assert isinstance(chat, TranslatedChat)
    assert Chat.parse(chat.raw).body == chat.body
    return chat


def messages(*given: Json, **fields: Any) -> list[Json]:
    return parse(messages=list(given), **fields).messages


def user(*blocks: Any) -> Json:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> Json:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **more: Any) -> Json:
    return {"type": "text", "text": words, **more}


def use(id: str, name: str = "look", input: Any = None) -> Json:
    return {"type": "tool_use", "id": id, "name": name, "input": input or {}}


def result(id: str, content: Any = None, **more: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": id, **({"content": content} if content is not None else {}), **more}


def sent_to_anthropic(chat: Chat) -> Json:
    body: Json = orjson.loads(ANTHROPIC.request(chat, target("claude-sonnet-4-5")).body)
    return body


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


# --- what a request becomes ---


def test_the_original_bytes_travel_along() -> None:
    raw = b'{"model": "simple","max_tokens":5, "messages" :[{"role":"user","content":"caf\\u00e9"}],"top_k":3}'
    chat = DOOR.parse(raw)
    assert chat.native == ("anthropic", raw)
    assert isinstance(chat, TranslatedChat)
    assert chat.body == {"model": "simple", "messages": [{"role": "user", "content": "café"}], "max_tokens": 5}
    assert chat.lost == ("top_k",)


def test_parameters() -> None:
    body = parse(
        temperature=0.3,
        top_p=0.9,
        stop_sequences=["END"],
        metadata={"user_id": "u-1"},
        stream=True,
        service_tier="auto",
        cache_control={"type": "ephemeral"},
    )
    assert body.lost == ("service_tier", "cache_control")
    assert {**body.body, "messages": None} == {
        "model": "simple", "messages": None, "max_tokens": 100, "temperature": 0.3, "top_p": 0.9, "stop": ["END"],
        "user": "u-1", "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert body.stream


def test_a_limit_of_nothing_only_fills_the_cache_and_is_no_fault() -> None:
    chat = parse(max_tokens=0)
    assert chat.body["max_tokens"] == 0
    assert sent_to_anthropic(chat)["max_tokens"] == 0


def test_a_long_user_id_becomes_a_digest_that_every_provider_takes() -> None:
    users = [parse(metadata={"user_id": f"{{device:{n:0>200}}}"}).body["user"] for n in (1, 1, 2)]
    assert users[0] == users[1] != users[2]
    assert len(users[0]) == 64
    assert users[0].isalnum()


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, "high"),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, "medium"),
        ({"output_config": {"effort": "max"}}, "high"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, None),
        ({}, None),
    ],
)
def test_thinking_becomes_an_effort(fields: Json, effort: str | None) -> None:
    assert parse(**fields).body.get("reasoning_effort") == effort


CLOSED = {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}
OPTIONAL = {**CLOSED, "required": []}


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"output_config": {"effort": "high"}}, ()),
        ({"output_config": {"effort": "xhigh"}}, ("output_config.effort",)),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, ("output_config.effort",)),
        ({"tools": [{"name": "f", "strict": True, "input_schema": CLOSED}]}, ()),
        ({"tools": [{"name": "f", "strict": True, "input_schema": OPTIONAL}]}, ("tools.strict",)),
        ({"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}}, ()),
        ({"output_config": {"format": {"type": "json_schema", "schema": OPTIONAL}}}, ("output_config.format",)),
        ({"output_format": {"type": "json_schema", "schema": OPTIONAL}}, ("output_format",)),
    ],
)
def test_a_wish_that_is_met_in_part_is_named(fields: Json, lost: tuple[str, ...]) -> None:
    assert parse(**fields).lost == lost


@pytest.mark.parametrize(("enabled", "lost"), [(True, ("content.document.citations",)), (False, ())])
def test_citations_of_a_document_are_named(enabled: bool, lost: tuple[str, ...]) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "x"}
    document = {"type": "document", "source": source, "citations": {"enabled": enabled}}
    assert parse(messages=[{"role": "user", "content": [document]}]).lost == lost


def test_a_schema_is_strict_only_where_the_strict_mode_takes_it() -> None:
    closed = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    optional = {**closed, "required": []}
    for schema, strict in ((closed, True), (optional, False)):
        chat = parse(output_config={"format": {"type": "json_schema", "schema": schema}})
        named = {"name": "output", "schema": schema, "strict": strict}
        assert chat.body["response_format"] == {"type": "json_schema", "json_schema": named}
        assert chat.needs == {"json"}
    assert "response_format" in parse(output_format={"type": "json_schema", "schema": closed}).body


# --- messages ---


def test_system_as_text_and_as_blocks() -> None:
    assert messages(user(text("x")), system="Be brief.")[0] == {"role": "system", "content": "Be brief."}
    blocks = [text("One.", cache_control={"type": "ephemeral"}), text("Two.")]
    assert messages(user(text("x")), system=blocks)[0]["content"] == "One.\n\nTwo."
    late = messages(user(text("x")), {"role": "system", "content": [text("Now in French.")]})
    assert late[1] == {"role": "system", "content": "Now in French."}


def test_images_and_documents() -> None:
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    [message] = messages(
        user(
            text("What is this?"),
            IMAGE,
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            {"type": "document", "source": pdf, "title": "a.pdf"},
            {"type": "document", "source": {"type": "url", "url": "https://example.org/b.pdf"}},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "inside"},
                "title": "T",
            },
            {"type": "document", "source": {"type": "content", "content": [text("cited")]}},
            {"type": "search_result", "title": "S", "source": "https://s", "content": [text("found")]},
        )
    )
    assert message["content"] == [
        text("What is this?"),
        IMAGE_PART,
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
        {"type": "file", "file": {"filename": "document.pdf", "file_url": "https://example.org/b.pdf"}},
        text("<attached_files>\nT\ninside\n</attached_files>"),
        text("<attached_files>\ncited\n</attached_files>"),
        text("<attached_files>\nS\nhttps://s\nfound\n</attached_files>"),
    ]


def test_a_document_is_not_what_the_person_asked() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "Prove the Riemann hypothesis."}
    found = messages(user({"type": "document", "source": source}, text("How many words is this?")))
    assert text_to_classify(found) == "How many words is this?"


def test_a_tool_loop_with_parallel_calls() -> None:
    found = messages(
        user(text("Compare")),
        assistant(text("Let me see."), use("toolu_1", input={"q": "ä"}), use("toolu_2", "read")),
        user(result("toolu_1", "one"), result("toolu_2", [text("two"), text("three")], is_error=True), text("Go on")),
    )
    assert found == [
        {"role": "user", "content": "Compare"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": {"name": "look", "arguments": '{"q":"ä"}'}},
                {"id": "toolu_2", "type": "function", "function": {"name": "read", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "one"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: two\n\nthree"},
        {"role": "user", "content": "Go on"},
    ]


def test_what_a_tool_attached_follows_in_a_user_message_of_its_own() -> None:
    found = messages(
        user(text("Show me")),
        assistant(use("t1"), use("t2")),
        user(result("t1", [IMAGE])),
        user(result("t2", [text("caption"), IMAGE])),
    )
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "tool", "user"]
    assert found[3]["content"] == "caption"
    assert [part["type"] for part in found[4]["content"]] == ["text", "image_url", "text", "image_url"]
    assert "t1" in found[4]["content"][0]["text"]
    assert text_to_classify(found) == "Show me"


def test_results_behind_the_users_words_still_follow_their_calls() -> None:
    found = messages(
        user(text("a")), assistant(use("t1"), use("t2")), user(result("t1"), text("wait")), user(result("t2"))
    )
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "tool", "user"]


def test_a_turn_of_results_keeps_the_request_it_belongs_to() -> None:
    reminder = text("<system-reminder>Prove it.</system-reminder>")
    found = messages(
        user(text("Rename the variable")), assistant(use("t1")), user(result("t1", "Refactor everything"), reminder)
    )
    assert text_to_classify(found) == "Rename the variable"


# --- thinking ---


def test_signed_thinking_is_kept_for_those_who_signed() -> None:
    signed = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    given = [user(text("a")), assistant(signed, redacted, text("b")), user(text("c"))]
    chat = parse(messages=given)
    assert chat.messages[1] == {"role": "assistant", "content": "b", "thinking_blocks": [signed, redacted]}
    assert chat.native is not None
    assert orjson.loads(chat.native[1])["messages"] == given


def test_unsigned_thinking_goes_back_as_reasoning_and_never_to_anthropic() -> None:
    ours = {"type": "thinking", "thinking": "hm", "signature": UNSIGNED}
    chat = parse(messages=[user(text("a")), assistant(ours, use("t1")), user(result("t1", "x"))])
    assert chat.messages[1]["reasoning_content"] == "hm"
    assert "thinking_blocks" not in chat.messages[1]
    assert chat.native is not None
    native = orjson.loads(chat.native[1])["messages"]
    assert native == [user(text("a")), assistant(use("t1")), user(result("t1", "x"))]


def test_a_turn_of_nothing_but_unsigned_thinking_is_left_out() -> None:
    ours = {"type": "thinking", "thinking": "hm", "signature": UNSIGNED}
    chat = parse(messages=[user(text("a")), assistant(ours), user(text("b"))])
    assert chat.native is not None
    assert orjson.loads(chat.native[1])["messages"] == [user(text("a")), user(text("b"))]


# --- tools ---


def test_tools_and_choice() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    tools = [
        {"name": "look", "description": "Looks.", "input_schema": schema, "cache_control": {"type": "ephemeral"}},
        {"type": "custom", "name": "bare", "input_schema": {"type": "object"}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "web_search_20250305", "name": "web_search"},
    ]
    chat = parse(tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert [tool["function"]["name"] for tool in chat.body["tools"]] == ["look", "bare", "bash"]
    assert chat.body["tools"][0]["function"] == {"name": "look", "description": "Looks.", "parameters": schema}
    assert chat.body["tool_choice"] == "required"
    assert chat.body["parallel_tool_calls"] is False
    assert chat.lost == ("tools.web_search_20250305",)
    assert chat.needs == {"tools"}


@pytest.mark.parametrize(
    ("schema", "parameters"),
    [
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"type": "object", "properties": None}, {"type": "object", "properties": {}}),
        (
            {"type": "object", "additionalProperties": False},
            {"type": "object", "additionalProperties": False, "properties": {}},
        ),
        (CLOSED, CLOSED),
        ({"anyOf": [{"type": "object"}]}, {"anyOf": [{"type": "object"}]}),
        (None, {"type": "object", "properties": {}}),
    ],
)
def test_an_object_schema_has_properties_as_openai_demands(schema: Json | None, parameters: Json) -> None:
    chat = parse(tools=[{"name": "f", "input_schema": schema}])
    assert chat.body["tools"][0]["function"]["parameters"] == parameters
    assert chat.native is not None
    assert orjson.loads(chat.native[1])["tools"][0]["input_schema"] == schema


TOOLSETS = [
    {"type": "mcp_toolset", "mcp_server_name": "files"},
    {"type": "browser_toolset_20260801"},
    {"type": "computer_toolset_20260801", "configs": {"zoom": {"enabled": False}}},
]


@pytest.mark.parametrize("toolset", TOOLSETS, ids=lambda toolset: toolset["type"])
def test_a_toolset_without_a_name_is_anthropics_alone(toolset: Json) -> None:
    chat = parse(tools=[{"name": "f"}, toolset])
    assert [tool["function"]["name"] for tool in chat.body["tools"]] == ["f"]
    assert chat.lost == (f"tools.{toolset['type']}",)
    assert sent_to_anthropic(chat)["tools"] == [{"name": "f"}, toolset]
    body = {"model": "simple", "messages": [user(text("Hi"))], "tools": [toolset]}
    assert orjson.loads(count_tokens(orjson.dumps(body)))["input_tokens"] > 0


@pytest.mark.parametrize(
    ("choice", "hub"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_tool_choice(choice: Json, hub: Any) -> None:
    assert parse(tools=[{"name": "f", "input_schema": {}}], tool_choice=choice).body["tool_choice"] == hub


def test_a_choice_without_tools_is_left_out() -> None:
    chat = parse(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}], tool_choice={"type": "any"})
    assert not chat.body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


def test_count_tokens_needs_no_limit() -> None:
    few = orjson.loads(count_tokens(orjson.dumps({"model": "simple", "messages": [user(text("Hi"))]})))
    many = orjson.loads(count_tokens(orjson.dumps({"model": "simple", "messages": [user(text("Hi there " * 500))]})))
    assert 0 < few["input_tokens"] < many["input_tokens"]
    with pytest.raises(BadRequest):
        count_tokens(b'{"model": "simple"}')
