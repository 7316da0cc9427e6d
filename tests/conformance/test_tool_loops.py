"""Whole conversations with tools, the history sent back exactly as the SDK received it."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.conformance.conftest import claude_env
from tests.conformance.kit import HI, LOOK, NOW, PIXEL, Ask, Json, dropped, message_of
from tests.conftest import Start, tier_env
from tests.fakes import anthropic as claude
from tests.fakes.openai import Answer, FakeOpenAI, tool

THINKING_TIERS = {"simple": {}, "complex": {"reasoning_effort": "low"}, "reasoning": {"reasoning_effort": "high"}}


def result(call: Any, content: Any = "here", **fields: Any) -> Any:
    return {"role": "tool", "tool_call_id": call.id, "content": content, **fields}


@pytest.mark.parametrize("tier", THINKING_TIERS)
async def test_two_rounds_with_parallel_calls(
    ask: Ask, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str
) -> None:
    first = [tool("look", {"q": "ü ☂"}, "a"), tool("look", {"q": "dogs"}, "b"), tool("now", "{}", "c")]
    fake.script(
        Answer("I look.", first, message={"reasoning_content": "hm"}), Answer(None, [tool("now", "{}", "d")]), Answer("It is.")
    )  # fmt: skip
    claude_fake.script(
        claude.Answer(
            [
                claude.thinking("hm"),
                claude.text("I look."),
                *(claude.tool_use(call["function"]["name"], json.loads(call["function"]["arguments"]), call["id"]) for call in first),
            ]
        ),
        claude.Answer([claude.redacted(), claude.tool_use("now", id="d")]),
        claude.Answer("It is."),
    )  # fmt: skip
    fields: Json = {"model": tier, "tools": [LOOK, NOW], **THINKING_TIERS[tier]}
    history = [{"role": "system", "content": "Be brief."}, *HI]

    one = await ask(messages=history, **fields)
    message = message_of(one)
    assert one.choices[0].finish_reason == "tool_calls"
    assert message.content == "I look."
    assert message.model_extra["reasoning_content"] == "hm"
    calls = message.tool_calls
    assert [(call.id, call.type, call.function.name) for call in calls] == [
        ("a", "function", "look"), ("b", "function", "look"), ("c", "function", "now")
    ]  # fmt: skip
    assert [json.loads(call.function.arguments) for call in calls] == [{"q": "ü ☂"}, {"q": "dogs"}, {}]

    history += [message, *(result(call, f"saw {call.id}") for call in calls)]
    two = await ask(messages=history, **fields)
    assert [call.id for call in message_of(two).tool_calls] == ["d"]

    history += [message_of(two).model_dump(exclude_none=True), result(message_of(two).tool_calls[0], "")]
    three = await ask(messages=history, **fields)
    assert three.choices[0].finish_reason == "stop"
    assert message_of(three).content == "It is."

    if tier == "simple":
        messages = fake.last.json["messages"]
        assert [m["role"] for m in messages] == ["system", "user", "assistant", *["tool"] * 3, "assistant", "tool"]
        assert messages[2]["reasoning_content"] == "hm"
        return
    turns = claude_fake.last.json["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [block["type"] for block in turns[1]["content"]] == ["thinking", "text", *["tool_use"] * 3]
    assert [block["content"] for block in turns[2]["content"]] == ["saw a", "saw b", "saw c"]
    assert turns[3]["content"][0] == claude.redacted()
    assert turns[4]["content"] == [{"type": "tool_result", "tool_use_id": "d"}]


async def test_thinking_between_texts_and_calls_goes_back_where_it_was(
    ask: Ask, claude_fake: claude.FakeAnthropic
) -> None:
    """Claude 5.5 binds a signature to everything before it: one block out of place, and it refuses."""
    blocks = [
        claude.thinking("one"), claude.text("First ☂. "), claude.thinking("two"), claude.text("Second."),
        claude.redacted(), claude.tool_use("look", {"q": "a"}, "a"), claude.thinking("three"),
        claude.tool_use("now", id="b"),
    ]  # fmt: skip
    claude_fake.script(claude.Answer(blocks), claude.Answer("Done"))
    message = message_of(await ask(model="reasoning", tools=[LOOK, NOW]))
    assert message.content == "First ☂. Second."
    assert message.model_extra["reasoning_content"] == "one\n\ntwo\n\nthree"
    history = [*HI, message, *(result(call) for call in message.tool_calls)]
    assert message_of(await ask(model="reasoning", tools=[LOOK, NOW], messages=history)).content == "Done"
    kinds = [block["type"] for block in claude_fake.last.json["messages"][1]["content"]]
    assert kinds == [block["type"] for block in blocks]


async def test_thinking_without_tools_stays_in_the_conversation(ask: Ask, claude_fake: claude.FakeAnthropic) -> None:
    claude_fake.script(claude.Answer([claude.thinking("hm"), claude.text("Four.")]), claude.Answer("Eight."))
    fields: Json = {"model": "complex", "reasoning_effort": "medium"}
    message = message_of(await ask(**fields))
    await ask(messages=[*HI, message, *HI], **fields)
    assert [block["type"] for block in claude_fake.last.json["messages"][1]["content"]] == ["thinking", "text"]


async def test_a_loop_whose_thinking_was_lost_goes_on_without(
    client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    """Many clients keep only what they know of a message."""
    claude_fake.script(
        claude.Answer([claude.thinking("hm"), claude.tool_use("look", {"q": "a"})]), claude.Answer("Done")
    )
    fields: Json = {"model": "complex", "tools": [LOOK], "reasoning_effort": "low"}
    message = message_of(await client.chat.completions.create(messages=HI, **fields))
    call = message.tool_calls[0]
    bare: Any = {"role": "assistant", "tool_calls": [call.model_dump()]}
    raw = await client.chat.completions.with_raw_response.create(messages=[*HI, bare, result(call)], **fields)
    assert dropped(raw) == {"reasoning_effort"}
    assert "thinking" not in claude_fake.last.json


async def test_results_with_errors_and_pictures(client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic) -> None:
    calls = [tool("look", {"q": "a"}, "a"), tool("look", {"q": "b"}, "b")]
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    history: list[Any] = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "See:"}, picture]},
        {"role": "user", "content": "And now?"},
        {"role": "tool", "tool_call_id": "a", "content": "It broke.", "is_error": True},
    ]
    await client.chat.completions.create(model="complex", messages=history, tools=[LOOK])
    assert claude_fake.last.json["messages"][2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "b",
            "content": [
                {"type": "text", "text": "See:"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
            ],
        },
        {"type": "tool_result", "tool_use_id": "a", "content": "It broke.", "is_error": True},
        {"type": "text", "text": "And now?"},
    ]


async def test_ids_of_other_providers_are_made_fit_and_stay_matched(
    client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    def round_(number: str) -> list[Any]:
        calls = [tool("look", '{"q": ', "functions.look:0"), tool("now", "", "functions.now:1")]
        return [
            {"role": "assistant", "tool_calls": calls},
            *({"role": "tool", "tool_call_id": call["id"], "content": number} for call in calls),
        ]

    history = [*HI, *round_("one"), *round_("two")]
    await client.chat.completions.create(model="complex", messages=history)  # and the tools were put away
    wire = claude_fake.last.json
    ids = [block["id"] for turn in (wire["messages"][1], wire["messages"][3]) for block in turn["content"]]
    assert len(set(ids)) == 4
    answered = [(b["tool_use_id"], b["content"]) for at in (2, 4) for b in wire["messages"][at]["content"]]
    assert answered == list(zip(ids, ["one", "one", "two", "two"], strict=True))
    assert wire["tool_choice"] == {"type": "none"}


async def test_legacy_functions(client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic) -> None:
    history: list[Any] = [
        *HI,
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": '{"q": "a"}'}},
        {"role": "function", "name": "look", "content": "here"},
    ]
    await client.chat.completions.create(model="complex", messages=history, functions=[LOOK["function"]])
    use, answer = (claude_fake.last.json["messages"][at]["content"][0] for at in (1, 2))
    assert use["input"] == {"q": "a"} and use["id"] == answer["tool_use_id"]


async def test_legacy_functions_are_answered_in_their_form(
    client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    claude_fake.script(claude.Answer([claude.tool_use("look", {"q": "a"})]), claude.Answer("Done"))
    functions: Any = [LOOK["function"]]
    completion = await client.chat.completions.create(model="complex", messages=HI, functions=functions)
    message = message_of(completion)
    assert completion.choices[0].finish_reason == "function_call" and message.tool_calls is None
    assert (message.function_call.name, json.loads(message.function_call.arguments)) == ("look", {"q": "a"})
    history: list[Any] = [*HI, message, {"role": "function", "name": "look", "content": "here"}]
    await client.chat.completions.create(model="complex", messages=history, functions=functions)
    use, answer = (claude_fake.last.json["messages"][at]["content"][0] for at in (1, 2))
    assert use["input"] == {"q": "a"} and use["id"] == answer["tool_use_id"]


async def test_free_text_tools(client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic) -> None:
    claude_fake.script(claude.Answer([claude.tool_use("patch", {"input": "*** ü"})]), claude.Answer("Done"))
    tools: Any = [{"type": "custom", "custom": {"name": "patch", "description": "Applies."}}]
    message: Any = message_of(await client.chat.completions.create(model="complex", messages=HI, tools=tools))
    call = message.tool_calls[0]
    assert (call.type, call.custom.name, call.custom.input) == ("custom", "patch", "*** ü")
    history: list[Any] = [*HI, message, result(call)]
    await client.chat.completions.create(model="complex", messages=history, tools=tools)
    assert claude_fake.last.json["messages"][1]["content"][0]["input"] == {"input": "*** ü"}


# --- conversations that change their provider ---


async def test_a_loop_begun_elsewhere_ends_at_claude(
    ask: Ask, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    calls = [tool("look", {"q": "ü"}, "functions.look:0"), tool("now", "", "functions.now:1")]
    fake.script(Answer(None, calls, message={"reasoning_content": "hm", "annotations": []}))
    message = message_of(await ask(model="simple", tools=[LOOK, NOW]))
    history = [*HI, message, *(result(call) for call in message.tool_calls)]
    for tier in ("complex", "reasoning"):
        answer = await ask(model=tier, tools=[LOOK, NOW], messages=history, reasoning_effort="low")
        assert message_of(answer).content == "Hello world"


async def test_a_signed_conversation_stays_with_claude(
    ask: Ask, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    """`simple` is classified, but the thinking that Claude signed is worth nothing elsewhere."""
    claude_fake.script(
        claude.Answer([claude.thinking("hm"), claude.tool_use("look", {"q": "a"})]), claude.Answer("Done")
    )
    fields: Json = {"model": "virtusoul-v1", "tools": [LOOK], "reasoning_effort": "low"}
    start = [{"role": "user", "content": "complex work"}]
    message = message_of(await ask(messages=start, **fields))
    later = [*start, message, result(message.tool_calls[0]), {"role": "user", "content": "simple thanks"}]
    completion = await ask(messages=later, **fields)
    meta = completion.model_extra["_virtusoul"]
    assert (meta["routed_to"].split("/")[0], meta["mechanism"]) == ("anthropic", "capability")
    assert "anthropic" in meta["reason"]
    assert fake.requests == []


@pytest.mark.parametrize("claude_is_there", [False, True])
async def test_a_tier_that_is_named_elsewhere_never_sees_the_signature(
    start_router: Start, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, claude_is_there: bool
) -> None:
    """The named tier goes on with the conversation, without what only Claude can read."""
    env = claude_env("complex", claude_fake, "claude-opus-4-5") if claude_is_there else {}
    router = await start_router({**tier_env("simple", fake, "openai", MODEL="gpt-4.1"), **env})
    block = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    signed = {"role": "assistant", "content": "Four.", "reasoning_content": "hm", "thinking_blocks": [block]}
    async with router.post({"model": "simple", "messages": [*HI, signed, *HI]}) as response:
        assert response.status == 200
        assert "messages.thinking_blocks" in response.headers["x-virtusoul-dropped-params"]
    assert fake.last.json["messages"][1] == {"role": "assistant", "content": "Four."}


async def test_needs_move_a_signed_conversation_to_another_claude_first(
    start_router: Start, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    router = await start_router(
        {
            **claude_env("simple", claude_fake, "claude-sonnet-4-5", CAPABILITIES="tools"),
            **tier_env("medium", fake),
            **claude_env("complex", claude_fake, "claude-opus-4-5"),
        }
    )
    block = {"type": "redacted_thinking", "data": "red_1"}
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    messages = [*HI, {"role": "assistant", "content": "Four.", "thinking_blocks": [block]}]
    messages.append({"role": "user", "content": [picture]})
    async with router.post({"model": "simple", "messages": messages}) as response:
        meta = (await response.json())["_virtusoul"]
    assert (meta["tier"], meta["mechanism"]) == ("complex", "capability")
