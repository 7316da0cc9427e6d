"""OpenAI's request → Anthropic's: each parameter, each kind of message, and what is said of what got lost."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from router.chat import Chat
from router.errors import BadRequest
from router.providers import dialect_for
from tests.fakes.anthropic_rules import as_blocks, objection, sign
from tests.providers.kit import KEY, chat, send, target

ANTHROPIC = dialect_for("anthropic")
HI = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
SONNET_4_5, OPUS_4_6, OPUS_5_5 = "claude-sonnet-4-5-20250929", "claude-opus-4-6", "claude-opus-5-5"
OLD = "claude-3-5-sonnet-20241022"  # no structured output


def _call(id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _turns(*messages: dict[str, Any], model: str = SONNET_4_5, **body: Any) -> list[dict[str, Any]]:
    wire, _ = send(model, messages=list(messages), **body)
    assert objection(ANTHROPIC.headers(target(model)), wire, KEY) is None
    turns: list[dict[str, Any]] = wire["messages"]
    return turns


# --- the way there ----------------------------------------------------------------------------------------------------


def test_headers_and_path_with_and_without_v1() -> None:
    assert ANTHROPIC.headers(target("m")) == {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    for base_url, path in (
        ("https://api.anthropic.com/v1", "/messages"),
        ("https://api.anthropic.com", "/v1/messages"),
        ("https://proxy.example/anthropic", "/v1/messages"),
        ("https://proxy.example/anthropic/v1", "/messages"),
    ):
        assert ANTHROPIC.request(chat(), target("m", base_url=base_url)).path == path


def test_native_requests_keep_every_byte_but_the_model() -> None:
    raw = b'{ "model" : "virtusoul-v1", "max_tokens":5, "x":[1.0],"messages":[{"role":"user","content":"\\u00fc"}]}'
    hub = {"model": "virtusoul-v1", "messages": [HI]}
    asked = Chat(orjson.dumps(hub), hub, ("anthropic", raw))
    outgoing = ANTHROPIC.request(asked, target(SONNET_4_5))
    assert outgoing.body == raw.replace(b"virtusoul-v1", SONNET_4_5.encode())
    assert outgoing.dropped == ()


def test_native_requests_change_where_the_model_would_refuse() -> None:
    body = {"model": "m", "max_tokens": 9000, "messages": [HI], "temperature": 0.2, "thinking": {"type": "adaptive"}}
    hub = {"model": "m", "messages": [HI]}
    asked = Chat(orjson.dumps(hub), hub, ("anthropic", orjson.dumps(body)))
    outgoing = ANTHROPIC.request(asked, target(SONNET_4_5))
    wire = orjson.loads(outgoing.body)
    assert wire["thinking"] == {"type": "enabled", "budget_tokens": 8192} and "temperature" not in wire
    assert set(outgoing.dropped) == {"thinking", "temperature"}
    assert objection(ANTHROPIC.headers(target("m")), wire, KEY) is None


def test_native_nonsense_goes_on_to_the_provider() -> None:
    hub = {"model": "m", "messages": [HI]}
    for messages in ([{"role": "user"}], "x", [1], [{"content": [1]}, {"content": [{"type": "tool_result"}]}]):
        raw = orjson.dumps({"model": "m", "messages": messages, "max_tokens": 2000,
                            "thinking": {"type": "enabled", "budget_tokens": 3000}})  # fmt: skip
        assert ANTHROPIC.request(Chat(orjson.dumps(hub), hub, ("anthropic", raw)), target(SONNET_4_5)).body


# --- messages ---------------------------------------------------------------------------------------------------------


def test_system_and_developer_from_anywhere() -> None:
    messages = [
        {"role": "system", "content": "A"},
        HI,
        {"role": "assistant", "content": "Ho"},
        {"role": "developer", "content": [{"type": "text", "text": "B"}]},
        HI,
    ]
    wire, _ = send(messages=messages)
    assert wire["system"] == "A\n\nB"
    assert [turn["role"] for turn in wire["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,SGVsbG8="}},
    ],
)
def test_an_instruction_that_is_no_text_is_named_as_lost(role: str, part: dict[str, Any]) -> None:
    instruction = {"role": role, "content": [{"type": "text", "text": "A"}, part]}
    wire, dropped = send(messages=[instruction, HI])
    assert (wire["system"], dropped) == ("A", {"messages.content"})
    assert objection(ANTHROPIC.headers(target("m")), wire, KEY) is None
    wire, dropped = send(messages=[{**instruction, "content": [part]}, HI])
    assert "system" not in wire and dropped == {"messages.content"}


def test_instructions_behind_bound_thinking_stay_in_their_place() -> None:
    signed = {"role": "assistant", "content": "Ho", "thinking_blocks": [
        {"type": "thinking", "thinking": "t", "signature": "s"}]}  # fmt: skip
    messages = [{"role": "system", "content": "A"}, HI, signed, {"role": "developer", "content": "B"}, HI]
    wire, _ = send(OPUS_5_5, messages=messages)
    assert wire["system"] == "A"
    assert wire["messages"][-1] == {"role": "system", "content": "B"}
    wire, _ = send(OPUS_4_6, messages=messages)
    assert wire["system"] == "A\n\nB"


def test_neighbours_of_one_role_are_merged_and_blank_ones_left_out() -> None:
    turns = _turns(HI, {"role": "user", "content": " \n"}, {"role": "user", "content": "there"})
    assert turns == [{"role": "user", "content": [{"type": "text", "text": t} for t in ("Hi", "there")]}]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "S"}],
        [{"role": "user", "content": ""}],
        [{"role": "assistant", "content": "Welcome."}, HI],
        [HI, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": []}],
        [HI, {"role": "assistant", "content": ""}],
        [HI, {"role": "assistant", "content": None}, HI],
        [HI, {"role": "assistant", "content": "The answer is (  \n"}],
        [HI, {"role": "assistant", "content": [{"type": "text", "text": "  "}]}],
    ],
)
def test_odd_conversations_are_ones_that_the_api_takes(messages: list[dict[str, Any]]) -> None:
    assert _turns(*messages)


def test_a_prefill_loses_its_last_blanks_only() -> None:
    assert _turns(HI, {"role": "assistant", "content": " a b \n"})[-1]["content"] == " a b"


def test_parallel_calls_and_results_in_any_order() -> None:
    turns = _turns(
        HI,
        {"role": "assistant", "content": "", "tool_calls": [_call("a", arguments='{"x":1}'), _call("b", arguments="")]},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": "quick!"},
        {"role": "tool", "tool_call_id": "a", "content": "boom", "is_error": True},
        tools=[TOOL],
    )
    assert [block["input"] for block in turns[1]["content"]] == [{"x": 1}, {}]
    assert turns[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "tool_result", "tool_use_id": "a", "content": "boom", "is_error": True},
        {"type": "text", "text": "quick!"},
    ]


def test_ids_become_ones_that_the_api_takes_and_are_never_used_twice() -> None:
    loop = [
        {"role": "assistant", "tool_calls": [_call("functions.f:0")]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "r"},
    ]
    turns = _turns(HI, *loop, *loop, tools=[TOOL])
    ids = [turn["content"][0].get("id") or turn["content"][0].get("tool_use_id") for turn in turns[1:]]
    assert ids == ["functions_f_0", "functions_f_0", "functions_f_0_2", "functions_f_0_2"]


def test_arguments_that_are_no_object_are_kept() -> None:
    calls = [_call(str(n), arguments=text) for n, text in enumerate(("[1]", "{broken", "null", '"s"'))]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "r"} for call in calls]
    turns = _turns(HI, {"role": "assistant", "tool_calls": calls}, *results, tools=[TOOL])
    inputs = [block["input"] for block in turns[1]["content"]]
    assert inputs == [{"_raw": [1]}, {"_raw": "{broken"}, {}, {"_raw": "s"}]


def test_legacy_functions() -> None:
    wire, dropped = send(
        messages=[
            HI,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
            {"role": "function", "name": "f", "content": "r"},
        ],
        functions=[TOOL["function"]],
        function_call={"name": "f"},
    )
    assert objection(ANTHROPIC.headers(target("m")), wire, KEY) is None
    use, result = wire["messages"][1]["content"][0], wire["messages"][2]["content"][0]
    assert use["input"] == {"a": 1} and use["id"] == result["tool_use_id"]
    assert wire["tool_choice"] == {"type": "tool", "name": "f", "disable_parallel_tool_use": True} and not dropped


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_legacy_functions_are_called_one_at_a_time(choice: str | None) -> None:
    wire, _ = send(functions=[TOOL["function"]], function_call=choice)
    assert objection(ANTHROPIC.headers(target("m")), wire, KEY) is None
    single = {"type": "auto", "disable_parallel_tool_use": True}
    assert wire["tool_choice"] == ({"type": "none"} if choice == "none" else single)
    wire, _ = send(functions=[TOOL["function"]], tools=[TOOL], tool_choice="auto")
    assert wire["tool_choice"] == {"type": "auto"}


def test_multimodal_tool_results_and_files() -> None:
    parts = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,/9j/", "detail": "high"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "file", "file": {"filename": "a.csv", "file_data": "data:text/csv,a%2Cb"}},
    ]
    wire, dropped = send(
        messages=[HI, {"role": "assistant", "tool_calls": [_call("a")]},
                  {"role": "tool", "tool_call_id": "a", "content": parts}],
        tools=[TOOL],
    )  # fmt: skip
    assert objection(ANTHROPIC.headers(target("m")), wire, KEY) is None
    text, image, pdf, csv = wire["messages"][2]["content"][0]["content"]
    assert text == {"type": "text", "text": "see"}
    assert image["source"] == {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}
    assert (pdf["title"], pdf["source"]["media_type"]) == ("a.pdf", "application/pdf")
    assert csv["source"] == {"type": "text", "media_type": "text/plain", "data": "a,b"}
    assert dropped == {"image_url.detail"}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AA=="}},
        {"type": "file", "file": {"file_id": "file-abc"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,AA=="}},
        {"type": "file", "file": {"file_data": "data:nonsense"}},
    ],
)
def test_what_anthropic_has_no_form_for_is_refused_by_name(part: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as raised:
        send(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}, part]}])
    assert raised.value.param == "messages[0].content[1]"


def test_cache_control_travels_with_what_it_marks() -> None:
    mark = {"type": "ephemeral"}
    wire, dropped = send(
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "S", "cache_control": mark}]},
            {"role": "user", "content": "long", "cache_control": mark},
        ],
        tools=[{**TOOL, "cache_control": mark}],
    )
    assert wire["system"] == [{"type": "text", "text": "S", "cache_control": mark}]
    assert wire["messages"][0]["content"][0]["cache_control"] == mark
    assert wire["tools"][0]["cache_control"] == mark and not dropped


def test_a_conversation_with_calls_but_without_tools_may_call_none() -> None:
    wire, _ = send(messages=[HI, {"role": "assistant", "tool_calls": [_call("a")]},
                             {"role": "tool", "tool_call_id": "a", "content": "r"}])  # fmt: skip
    assert wire["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert wire["tool_choice"] == {"type": "none"}


# --- parameters -------------------------------------------------------------------------------------------------------


def test_what_has_no_equivalent_is_named_and_what_says_nothing_is_not() -> None:
    _, dropped = send(n=2, logprobs=True, seed=1, metadata={"a": "b"}, made_up=1, presence_penalty=0.5, verbosity="low")
    assert dropped == {"n", "logprobs", "seed", "metadata", "made_up", "presence_penalty", "verbosity"}
    _, dropped = send(n=1, logprobs=False, seed=None, presence_penalty=0, store=False, stream_options={})
    assert not dropped


def test_names_of_unknown_parameters_stay_within_a_header() -> None:
    _, dropped = send(**{f"{number}{'x' * 500}": 1 for number in range(500)})
    assert sum(map(len, dropped)) < 4_000


@pytest.mark.parametrize(
    ("model", "given", "sent", "lost"),
    [
        (SONNET_4_5, {"temperature": 1.8}, {"temperature": 1.0}, {"temperature"}),
        (SONNET_4_5, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}, {"top_p"}),
        (SONNET_4_5, {"temperature": 1, "top_p": 0.9}, {"top_p": 0.9}, set()),
        ("claude-3-5-haiku-20241022", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}, set()),
        (OPUS_5_5, {"temperature": 0.5, "top_p": 1}, {}, {"temperature"}),
        ("anthropic/claude-opus-4.7", {"temperature": 0.5}, {}, {"temperature"}),
    ],
)
def test_sampling(model: str, given: dict[str, Any], sent: dict[str, Any], lost: set[str]) -> None:
    wire, dropped = send(model, **given)
    assert {name: wire[name] for name in ("temperature", "top_p") if name in wire} == sent
    assert dropped == lost


@pytest.mark.parametrize(
    ("model", "given", "sent", "lost"),
    [
        (SONNET_4_5, {}, 16_384, set()),
        (SONNET_4_5, {"max_tokens": 7}, 7, set()),
        (SONNET_4_5, {"max_tokens": 7, "max_completion_tokens": 9}, 9, set()),
        (SONNET_4_5, {"max_completion_tokens": 100_000}, 64_000, {"max_completion_tokens"}),
        ("claude-3-haiku-20240307", {}, 4_096, set()),
        (SONNET_4_5, {"reasoning_effort": "high"}, 32_768, set()),
    ],
)
def test_max_tokens(model: str, given: dict[str, Any], sent: int, lost: set[str]) -> None:
    wire, dropped = send(model, **given)
    assert (wire["max_tokens"], dropped) == (sent, lost)


@pytest.mark.parametrize(
    ("model", "body", "thinking", "effort", "lost"),
    [
        (SONNET_4_5, {"reasoning_effort": "medium"}, {"type": "enabled", "budget_tokens": 8192}, None, set()),
        (SONNET_4_5, {"reasoning_effort": "high", "max_tokens": 4096},
         {"type": "enabled", "budget_tokens": 3072}, None, {"reasoning_effort"}),
        (SONNET_4_5, {"reasoning_effort": "low", "max_tokens": 900}, None, None, {"reasoning_effort"}),
        (SONNET_4_5, {"reasoning_effort": "low", "tools": [TOOL], "tool_choice": "required"},
         None, None, {"reasoning_effort"}),
        (SONNET_4_5, {"reasoning_effort": "none"}, None, None, set()),
        ("claude-3-5-haiku-latest", {"reasoning_effort": "low"}, None, None, {"reasoning_effort"}),
        (OPUS_4_6, {"reasoning_effort": "xhigh"}, {"type": "adaptive"}, "high", {"reasoning_effort"}),
        (OPUS_5_5, {"reasoning_effort": "minimal"}, {"type": "adaptive", "display": "summarized"}, "low", set()),
        (OPUS_5_5, {"reasoning_effort": "none"}, None, None, {"reasoning_effort"}),
        ("claude-opus-5", {"reasoning_effort": "none"}, {"type": "disabled"}, None, set()),
        ("claude-sonnet-5-5", {"reasoning_effort": "none"}, {"type": "between_tools"}, None, set()),
        ("claude-opus-5", {"tools": [TOOL], "tool_choice": "required"}, {"type": "disabled"}, None, set()),
        (OPUS_5_5, {"tools": [TOOL], "tool_choice": "required"}, None, None, {"tool_choice"}),
        (OPUS_5_5, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"type": "adaptive"}, None, {"thinking"}),
    ],
)  # fmt: skip
def test_thinking(
    model: str, body: dict[str, Any], thinking: dict[str, Any] | None, effort: str | None, lost: set[str]
) -> None:
    wire, dropped = send(model, **body)
    assert wire.get("thinking") == thinking
    assert wire.get("output_config", {}).get("effort") == effort
    assert dropped == lost
    assert objection(ANTHROPIC.headers(target(model)), wire, KEY) is None


def test_a_tool_loop_whose_thinking_is_missing_goes_on_without() -> None:
    loop = [
        HI,
        {"role": "assistant", "content": None, "tool_calls": [_call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "r"},
    ]
    wire, dropped = send(messages=loop, tools=[TOOL], reasoning_effort="low")
    assert "thinking" not in wire and dropped == {"reasoning_effort"}
    loop[1] = {**loop[1], "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}]}
    wire, dropped = send(messages=loop, tools=[TOOL], reasoning_effort="low")
    assert wire["thinking"]["type"] == "enabled" and not dropped
    assert wire["messages"][1]["content"][0] == {"type": "thinking", "thinking": "t", "signature": "s"}


def _native(model: str, beta: str = "", **body: Any) -> tuple[dict[str, Any], set[str]]:
    """What becomes of a Messages request: the wire document and what was dropped."""
    body = {"model": "m", "max_tokens": 9000, **body}
    hub = {"model": "m", "messages": [HI]}
    asked = Chat(orjson.dumps(hub), hub, ("anthropic", orjson.dumps(body)))
    asked.native_headers = {"anthropic-beta": beta} if beta else {}
    outgoing = ANTHROPIC.request(asked, target(model))
    wire: dict[str, Any] = orjson.loads(outgoing.body)
    assert objection({**ANTHROPIC.headers(target(model)), **asked.native_headers}, wire, KEY) is None
    return wire, set(outgoing.dropped)


def _thought(model: str) -> dict[str, Any]:
    block = {"type": "thinking", "thinking": "t"}
    return {**block, "signature": sign(block, {"model": model, "messages": []}, [])}


def _loop(thought: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A chat in a loop of two calls, the first of them with its thinking; an exchange of before has its own."""
    blocks = {"thinking_blocks": [thought]} if thought else {}
    return [
        HI,
        {"role": "assistant", "content": "Ho", **blocks},
        HI,
        {"role": "assistant", "content": None, "tool_calls": [_call("a")], **blocks},
        {"role": "tool", "tool_call_id": "a", "content": "r"},
        {"role": "assistant", "content": None, "tool_calls": [_call("b")]},
        {"role": "tool", "tool_call_id": "b", "content": "r"},
    ]


def _kinds(wire: dict[str, Any]) -> list[list[str]]:
    """Types of blocks, assistant turn by assistant turn."""
    return [[block["type"] for block in as_blocks(t["content"])] for t in wire["messages"] if t["role"] == "assistant"]


KEPT = [["thinking", "text"], ["thinking", "tool_use"], ["tool_use"]]
STRIPPED = [["thinking", "text"], ["tool_use"], ["tool_use"]]
BUDGET = {"type": "enabled", "budget_tokens": 2048}


@pytest.mark.parametrize("kind", ["thinking", "redacted_thinking"])
def test_a_tool_loop_that_thought_once_goes_on_thinking(kind: str) -> None:
    thought = _thought(SONNET_4_5) if kind == "thinking" else {"type": kind, "data": "red_1"}
    wire, dropped = send(SONNET_4_5, messages=_loop(thought), tools=[TOOL], reasoning_effort="low")
    assert wire["thinking"] == BUDGET and not dropped
    assert [kinds[0] for kinds in _kinds(wire)] == [kind, kind, "tool_use"]
    assert objection(ANTHROPIC.headers(target(SONNET_4_5)), wire, KEY) is None
    body = {"messages": wire["messages"], "tools": wire["tools"], "thinking": BUDGET}
    again, dropped = _native(SONNET_4_5, **body)
    assert (again["thinking"], again["messages"], dropped) == (BUDGET, wire["messages"], set())


@pytest.mark.parametrize(
    ("model", "body", "lost"),
    [
        (SONNET_4_5, {"reasoning_effort": "low", "tool_choice": "required"}, {"reasoning_effort", "thinking_blocks"}),
        (SONNET_4_5, {"reasoning_effort": "low", "max_tokens": 900}, {"reasoning_effort", "thinking_blocks"}),
        (OPUS_4_6, {"reasoning_effort": "low", "tool_choice": "required"}, {"reasoning_effort", "thinking_blocks"}),
        ("claude-opus-5", {"tool_choice": "required"}, {"thinking_blocks"}),
        ("claude-opus-5", {"reasoning_effort": "none"}, {"thinking_blocks"}),
        ("claude-haiku-5-5", {"tool_choice": "required"}, {"thinking_blocks"}),
        (SONNET_4_5, {}, {"thinking_blocks"}),  # began at a model that thinks unasked, and fell back
        ("company-claude", {"reasoning_effort": "low", "max_tokens": 900}, {"reasoning_effort", "thinking_blocks"}),
    ],
)
def test_a_tool_loop_that_may_not_think_on_loses_its_thinking(model: str, body: dict[str, Any], lost: set[str]) -> None:
    history = _loop(_thought(model))
    if "5-5" in model:
        history = history[2:]  # its signatures are bound to what came before them
    wire, dropped = send(model, messages=history, tools=[TOOL], **body)
    assert wire.get("thinking") in (None, {"type": "disabled"}) and dropped == lost
    assert _kinds(wire) == STRIPPED[-len(_kinds(wire)) :]
    assert objection(ANTHROPIC.headers(target(model)), wire, KEY) is None


@pytest.mark.parametrize(
    ("model", "body"),
    [("claude-opus-5", {}), (OPUS_4_6, {"reasoning_effort": "low"}), ("claude-sonnet-5-5", {"reasoning_effort": "none"}),
     (OPUS_5_5, {"tool_choice": "required"}), ("company-claude", {})],
)  # fmt: skip
def test_a_tool_loop_keeps_its_thinking_where_the_model_may_think(model: str, body: dict[str, Any]) -> None:
    wire, dropped = send(model, messages=_loop(_thought(model)), tools=[TOOL], **body)
    assert _kinds(wire) == KEPT and "thinking_blocks" not in dropped


def test_a_native_tool_loop_that_may_not_think_on_loses_its_thinking() -> None:
    wire, _ = send(SONNET_4_5, messages=_loop(_thought(SONNET_4_5)), tools=[TOOL], reasoning_effort="low")
    body = {"messages": wire["messages"], "tools": wire["tools"], "thinking": BUDGET}
    wire, dropped = _native(SONNET_4_5, **body, tool_choice={"type": "any"})
    assert "thinking" not in wire and dropped == {"thinking", "thinking_blocks"}
    assert _kinds(wire) == STRIPPED


def test_a_prefill_loses_the_thinking_before_it() -> None:
    thought = _thought(SONNET_4_5)
    prefill = {"role": "assistant", "content": "Well", "thinking_blocks": [thought]}
    lost = {"reasoning_effort", "thinking_blocks"}
    wire, dropped = send(SONNET_4_5, messages=[HI, prefill], reasoning_effort="low")
    assert (_kinds(wire), dropped) == ([["text"]], lost)
    wire, dropped = send(SONNET_4_5, messages=[HI, {**prefill, "content": None}], reasoning_effort="low")
    assert (wire["messages"], dropped) == ([HI], lost)


@pytest.mark.parametrize(
    ("model", "beta", "tools", "budget"),
    [
        (SONNET_4_5, "other-2025-01-01,interleaved-thinking-2025-05-14", True, 20_000),
        ("claude-sonnet-4-6", "interleaved-thinking-2025-05-14", True, 20_000),
        (SONNET_4_5, "other-2025-01-01", True, 6_750),
        (SONNET_4_5, "interleaved-thinking-2025-05-14", False, 6_750),
        (OPUS_4_6, "interleaved-thinking-2025-05-14", True, 6_750),
        ("claude-3-7-sonnet-latest", "interleaved-thinking-2025-05-14", True, 6_750),
    ],
)
def test_a_budget_for_interleaved_thinking_may_be_above_max_tokens(
    model: str, beta: str, tools: bool, budget: int
) -> None:
    thinking = {"type": "enabled", "budget_tokens": 20_000}
    given = {"tools": [{"name": "f", "input_schema": {"type": "object"}}]} if tools else {}
    wire, dropped = _native(model, beta, messages=[HI], thinking=thinking, **given)
    assert wire["thinking"]["budget_tokens"] == budget
    assert dropped == ({"thinking"} if budget < 20_000 else set())


def test_another_providers_signature_on_a_call_is_named_as_lost() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": "s"}}}  # fmt: skip
    loop = [HI, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1"}]
    wire, dropped = send(messages=loop)
    assert wire["messages"][1]["content"] == [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]
    assert dropped == {"messages.tool_calls.extra_content"}


def test_unsigned_thinking_is_not_sent_and_openrouters_form_is() -> None:
    message = {"role": "assistant", "content": "x", "thinking_blocks": [{"type": "thinking", "thinking": "t"}]}
    wire, dropped = send(messages=[HI, message, HI])
    assert wire["messages"][1]["content"] == "x" and dropped == {"thinking_blocks"}
    details = [{"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1"},
               {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1"}]  # fmt: skip
    wire, _ = send(messages=[HI, {"role": "assistant", "content": "x", "reasoning_details": details}, HI])
    kinds = [block["type"] for block in wire["messages"][1]["content"]]
    assert kinds == ["thinking", "redacted_thinking", "text"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}}, {"type": "any"}),
    ],
)
def test_tool_choice(choice: Any, sent: dict[str, Any]) -> None:
    other = {"type": "function", "function": {"name": "g"}}
    wire, _ = send(tools=[TOOL, other], tool_choice=choice)
    assert wire["tool_choice"] == sent
    assert len(wire["tools"]) == (1 if isinstance(choice, dict) and "allowed_tools" in choice else 2)
    wire, _ = send(tools=[TOOL, other], tool_choice=choice, parallel_tool_calls=False)
    assert wire["tool_choice"].get("disable_parallel_tool_use") is (None if choice == "none" else True)


def test_tool_choice_without_tools_is_named() -> None:
    wire, dropped = send(tool_choice="required")
    assert "tool_choice" not in wire and dropped == {"tool_choice"}


def test_strict_tools_only_where_they_can_be() -> None:
    def strict(schema: dict[str, Any]) -> dict[str, Any]:
        return {"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}

    wire, dropped = send(tools=[strict(CLOSED)])
    assert wire["tools"][0]["strict"] is True and not dropped
    wire, dropped = send(tools=[strict({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}})])
    assert "strict" not in wire["tools"][0] and dropped == {"tools.function.strict"}
    wire, dropped = send("claude-opus-4-1", tools=[strict(CLOSED)])
    assert "strict" not in wire["tools"][0] and dropped == {"tools.function.strict"}


def _schema(schema: dict[str, Any], name: str = "report") -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def test_json_schema_by_structured_output() -> None:
    wire, dropped = send(response_format=_schema(CLOSED))
    assert wire["output_config"] == {"format": {"type": "json_schema", "schema": CLOSED}}
    assert "tools" not in wire and not dropped


def test_constraints_beyond_structured_output_are_said_in_words_and_named() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    wire, dropped = send(response_format=_schema(schema))
    sent = wire["output_config"]["format"]["schema"]
    assert sent["properties"]["n"] == {"type": "integer", "description": '{"minimum":3}'}
    assert sent["additionalProperties"] is False and dropped == {"response_format"}


@pytest.mark.parametrize(
    ("member", "bound"),
    [
        ({"allOf": [{"$ref": "#/$defs/B"}], "title": "T", "default": None}, True),
        ({"allOf": [{"$ref": "#/$defs/B"}, {"properties": {"y": {"type": "string"}}}]}, False),
        ({"allOf": [{"$ref": "#/$defs/B"}], "properties": {"y": {"type": "string"}}}, False),
    ],
)
def test_references_that_structured_output_does_not_take(member: dict[str, Any], bound: bool) -> None:
    """`allOf` must hold no `$ref`: one alone is that `$ref`, and inheritance is bound by the tool."""
    schema = {**CLOSED, "properties": {"a": member}, "$defs": {"B": CLOSED}, "required": ["a"]}
    wire, _ = send(response_format=_schema(schema))
    if bound:
        assert wire["output_config"]["format"]["schema"]["properties"]["a"] == {"$ref": "#/$defs/B"}
    else:
        assert "output_config" not in wire and wire["tools"][0]["input_schema"]["properties"]["a"] == member
    strict = {"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}
    wire, dropped = send(tools=[strict])
    assert "strict" not in wire["tools"][0] and dropped == {"tools.function.strict"}


@pytest.mark.parametrize("model", [SONNET_4_5, "claude-3-5-sonnet-20241022", "company-claude"])
def test_json_schema_by_a_forced_tool(model: str) -> None:
    free = {"type": "object", "additionalProperties": {"type": "number"}}
    wire, dropped = send(model, response_format=_schema(free))
    assert wire["tool_choice"] == {"type": "tool", "name": "report"}
    assert wire["tools"][0]["input_schema"] == free and not dropped


@pytest.mark.parametrize(
    ("schema", "root"),
    [
        ({"type": "array", "items": {"type": "string"}}, {}),
        ({"type": ["object", "null"], "properties": {}}, {}),
        ({"anyOf": [{"type": "object"}, {"type": "object"}], "type": "object"}, {}),
        ({"enum": [1, "a"]}, {}),
        ({"type": "array", "items": {"$ref": "#/$defs/c"}}, {"$defs": {"c": {"type": "string"}}}),
        ({"$ref": "#/definitions/c"}, {"definitions": {"c": {"type": "array"}}, "$schema": "x", "$id": "y"}),
    ],
)
def test_json_schema_of_no_object_is_wrapped_for_the_tool(schema: dict[str, Any], root: dict[str, Any]) -> None:
    wire, dropped = send(OLD, response_format=_schema({**schema, **root}))
    wrapped = {"type": "object", "properties": {"value": schema}, "required": ["value"], **root}
    assert wire["tools"][0]["input_schema"] == wrapped and not dropped
    assert "`value`" in wire["tools"][0]["description"]


def test_references_into_the_wrapped_schema_follow_it() -> None:
    tree = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/items/anyOf/2"}, {"$ref": "#/$defs/c"}]}}
    leaf = {"type": "object", "properties": {"all": {"$ref": "#"}}}
    wire, _ = send(OLD, response_format=_schema({**tree, "$defs": {"c": leaf}}))
    sent = wire["tools"][0]["input_schema"]
    assert [one["$ref"] for one in sent["properties"]["value"]["items"]["anyOf"]] == [
        "#/properties/value", "#/properties/value/items/anyOf/2", "#/$defs/c"
    ]  # fmt: skip
    assert sent["$defs"]["c"]["properties"]["all"] == {"$ref": "#/properties/value"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {"properties": {"a": {"type": "array"}}},
        {"$ref": "#/$defs/c", "$defs": {"c": {"type": "object", "properties": {}}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/c"}, "c": {"type": "object", "properties": {}}}},
    ],
)
def test_json_schema_of_an_object_is_the_tools_own(schema: dict[str, Any]) -> None:
    wire, _ = send(OLD, response_format=_schema(schema))
    assert wire["tools"][0]["input_schema"] == {**schema, "type": "object"}


def test_a_schema_without_a_bottom_is_refused() -> None:
    schema: dict[str, Any] = {"type": "array"}
    for _ in range(70):
        schema = {"type": "array", "items": {"anyOf": [schema]}}
    with pytest.raises(BadRequest):
        send(OLD, response_format=_schema(schema))
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert send(OLD, response_format=_schema(loop))[0]["tools"]


def test_json_schema_by_a_tool_beside_the_clients_own() -> None:
    wire, dropped = send("claude-opus-4-1", response_format=_schema(CLOSED, "f"), tools=[TOOL])
    assert wire["tool_choice"] == {"type": "any"}
    assert [tool["name"] for tool in wire["tools"]] == ["f", "f_"] and not dropped
    _, dropped = send("claude-opus-4-1", response_format=_schema(CLOSED), tools=[TOOL], tool_choice="required")
    assert dropped == {"response_format"}


def test_the_binding_tool_leaves_one_call_at_a_time_as_it_was() -> None:
    wire, _ = send(OLD, response_format=_schema(CLOSED), tools=[TOOL], parallel_tool_calls=False)
    assert wire["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    "tools",
    [
        {"tools": [{"type": "custom", "custom": {"name": "report"}}]},
        {"tools": [{"type": "web_search_20250305", "name": "report"}]},
        {"functions": [{"name": "report"}]},
    ],
)
def test_the_binding_tool_has_a_name_of_its_own(tools: dict[str, Any]) -> None:
    wire, _ = send(OLD, response_format=_schema(CLOSED), **tools)
    assert [tool["name"] for tool in wire["tools"]] == ["report", "report_"]


def test_unions_at_the_root_of_a_tools_schema_are_told_by_its_properties() -> None:
    """The API refuses them there, and with the tool the whole request: MCP servers have them often."""
    text, number = {"type": "string"}, {"type": "integer"}
    definitions = {"b": {"type": "object", "properties": {"id": number, "b": text}, "required": ["id", "b"]}}
    union = {
        "description": "Finds.",
        "properties": {"all": text},
        "required": ["all"],
        "anyOf": [{"properties": {"id": text, "all": number}, "required": ["id"]}, {"$ref": "#/$defs/b"}],
        "$defs": definitions,
    }
    function = {"name": "f", "strict": True, "parameters": union}
    wire, dropped = send(tools=[{"type": "function", "function": function}])
    schema = wire["tools"][0]["input_schema"]
    assert schema.pop("description") == "Finds.\n" + orjson.dumps({"anyOf": union["anyOf"]}).decode()
    assert schema == {
        "type": "object",
        "properties": {"all": text, "id": {"anyOf": [text, number]}, "b": text},
        "required": ["all", "id"],
        "$defs": definitions,
    }
    assert dropped == {"tools.function.parameters", "tools.function.strict"} and "strict" not in wire["tools"][0]


@pytest.mark.parametrize(("key", "required"), [("allOf", ["a", "b"]), ("oneOf", None)])
def test_what_every_branch_and_what_some_branch_requires(key: str, required: list[str] | None) -> None:
    branches = [{"required": ["a"]}, {"required": ["b"]}]
    parameters = {"type": "object", "properties": {"a": {}, "b": {}}, key: branches}
    wire, _ = send(tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])
    schema = wire["tools"][0]["input_schema"]
    assert schema.get("required") == required and key not in schema


def test_json_object_is_asked_for_in_words_and_named() -> None:
    wire, dropped = send(response_format={"type": "json_object"}, messages=[{"role": "system", "content": "S"}, HI])
    assert wire["system"].startswith("S\n\nAnswer with exactly one JSON object") and dropped == {"response_format"}


def test_stop_user_and_service_tier() -> None:
    wire, dropped = send(stop=["END", " "], user="u1", service_tier="default")
    assert wire["stop_sequences"] == ["END"] and wire["metadata"] == {"user_id": "u1"}
    assert wire["service_tier"] == "standard_only" and dropped == {"stop"}
    wire, dropped = send(stop="\n", user="u" * 300, service_tier="flex")
    assert not wire.keys() & {"stop_sequences", "metadata", "service_tier"}
    assert dropped == {"stop", "user", "service_tier"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", "9"), ("temperature", "hot"), ("stop", [1]), ("tools", {}), ("tools", [{}]), ("tool_choice", 3),
     ("reasoning_effort", "extreme"), ("response_format", {"type": "json_schema"})],
)  # fmt: skip
def test_nonsense_is_the_clients_error(field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as raised:
        send(**{"tools": [TOOL], field: value})
    assert raised.value.param is not None and raised.value.param.startswith(field)


# --- overhead ---------------------------------------------------------------------------------------------------------


@pytest.mark.benchmark
def test_a_conversation_of_twenty_messages_is_translated_in_under_100_microseconds() -> None:
    messages: list[dict[str, Any]] = []
    for number in range(5):
        messages += [
            {"role": "user", "content": "Please look at the file and tell me what is wrong with it. " * 8},
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [_call(f"c{number}", "f", '{"path": "a.py"}')],
            },
            {"role": "tool", "tool_call_id": f"c{number}", "content": "def main():\n    print(1)\n" * 30},
            {"role": "assistant", "content": "It prints one. " * 20},
        ]
    asked = chat(messages=[*messages[:-1], {"role": "user", "content": "Thanks"}], tools=[TOOL], temperature=0.5)
    to = target(SONNET_4_5)
    best = float("inf")
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(20):
            ANTHROPIC.request(asked, to)
        best = min(best, (time.perf_counter() - began) / 20)
    assert best < 100e-6, f"{best * 1e6:.0f} µs"
