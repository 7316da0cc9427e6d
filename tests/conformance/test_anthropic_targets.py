"""Towards Claude: what each parameter becomes, and what is named where it cannot become anything."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest

from tests.conformance.conftest import claude_env
from tests.conformance.kit import HI, LOOK, NOW, PIXEL, Ask, Json, dropped, message_of, sent
from tests.conftest import Running, Start
from tests.fakes import anthropic as claude

LOOK_TOOL: Json = {
    "name": "look",
    "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}},
    "description": "Looks.",
}
NOW_TOOL: Json = {"name": "now", "input_schema": {"type": "object", "properties": {}}}
SINGLE: Json = {"type": "auto", "disable_parallel_tool_use": True}
MAX = {"max_tokens": 50}


async def wire_of(client: openai.AsyncOpenAI, fake: claude.FakeAnthropic, **fields: Any) -> tuple[Json, set[str]]:
    """What reached Claude beside `model` and a 50-token limit, and what was dropped."""
    given: Json = {"model": "complex", "messages": HI, **MAX, **fields}
    raw = await client.chat.completions.with_raw_response.create(**given)
    wire = sent(fake.last.json)
    for name, value in (("model", wire["model"]), ("max_tokens", 50), ("messages", HI)):
        if wire.get(name) == value:
            del wire[name]
    return wire, dropped(raw)


@pytest.mark.parametrize(
    ("given", "want", "lost"),
    [
        ({"temperature": 0.3}, {"temperature": 0.3}, ()),
        ({"temperature": 1.7}, {"temperature": 1.0}, ("temperature",)),
        ({"temperature": 0.3, "top_p": 0.5}, {"temperature": 0.3}, ("top_p",)),
        ({"stop": "END"}, {"stop_sequences": ["END"]}, ()),
        ({"stop": ["END", "\n", "x"]}, {"stop_sequences": ["END", "x"]}, ("stop",)),
        ({"user": "u1"}, {"metadata": {"user_id": "u1"}}, ()),
        ({"safety_identifier": "u2"}, {"metadata": {"user_id": "u2"}}, ()),
        ({"metadata": {"trace": "1"}}, {}, ("metadata",)),
        ({"n": 2}, {}, ("n",)),
        ({"n": 1, "logprobs": False}, {}, ()),
        ({"logprobs": True, "top_logprobs": 2}, {}, ("logprobs", "top_logprobs")),
        ({"seed": 3, "logit_bias": {"1": -100}}, {}, ("seed", "logit_bias")),
        ({"presence_penalty": 0.1, "frequency_penalty": 0}, {}, ("presence_penalty",)),
        ({"service_tier": "auto"}, {"service_tier": "auto"}, ()),
        ({"service_tier": "flex"}, {}, ("service_tier",)),
        ({"store": True, "verbosity": "low"}, {}, ("store", "verbosity")),
        ({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}, {}, ("modalities", "audio")),
        ({"prediction": {"type": "content", "content": "x"}}, {}, ("prediction",)),
        ({"extra_body": {"made_up": 1, "min_p": 0.1}}, {}, ("made_up", "min_p")),
        ({"extra_body": {"top_k": 5}}, {"top_k": 5}, ()),
        ({"tools": [LOOK, NOW]}, {"tools": [LOOK_TOOL, NOW_TOOL]}, ()),
        ({"tools": [LOOK], "tool_choice": "auto"}, {"tools": [LOOK_TOOL], "tool_choice": {"type": "auto"}}, ()),
        ({"tools": [LOOK], "tool_choice": "none"}, {"tools": [LOOK_TOOL], "tool_choice": {"type": "none"}}, ()),
        ({"tools": [LOOK], "tool_choice": "required"}, {"tools": [LOOK_TOOL], "tool_choice": {"type": "any"}}, ()),
        (
            {"tools": [LOOK, NOW], "tool_choice": {"type": "function", "function": {"name": "now"}}},
            {"tools": [LOOK_TOOL, NOW_TOOL], "tool_choice": {"type": "tool", "name": "now"}},
            (),
        ),
        (
            {"tools": [LOOK], "parallel_tool_calls": False},
            {"tools": [LOOK_TOOL], "tool_choice": SINGLE},
            (),
        ),
        ({"functions": [LOOK["function"]]}, {"tools": [LOOK_TOOL], "tool_choice": SINGLE}, ()),
        ({"reasoning_effort": "none"}, {}, ()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_parameters(
    client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic, given: Json, want: Json, lost: tuple[str, ...]
) -> None:
    assert await wire_of(client, claude_fake, **given) == (want, set(lost))
    streamed, lost_too = await wire_of(client, claude_fake, stream=True, **given)
    assert (streamed, lost_too) == (want, set(lost))
    assert claude_fake.last.json["stream"] is True


async def test_the_key_travels_as_anthropic_wants_it(client: openai.AsyncOpenAI, claude_fake: Any) -> None:
    await wire_of(client, claude_fake)
    headers = claude_fake.last.headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == (claude.KEY, "2023-06-01")
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("given", "limit"),
    [({"max_tokens": 7}, 7), ({"max_completion_tokens": 8}, 8), ({"max_tokens": 7, "max_completion_tokens": 8}, 8),
     ({"max_tokens": 200_000}, 64_000), ({}, 16_384)],
)  # fmt: skip
async def test_the_limit(
    client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic, given: Json, limit: int
) -> None:
    await client.chat.completions.create(model="complex", messages=HI, **given)
    assert claude_fake.last.json["max_tokens"] == limit


@pytest.mark.parametrize(
    ("tier", "effort", "want"),
    [
        ("complex", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("complex", "high", {"thinking": {"type": "enabled", "budget_tokens": 16384}}),
        ("reasoning", "medium", {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "medium"}}),
    ],
)  # fmt: skip
async def test_reasoning_effort(
    client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic, tier: str, effort: str, want: Json
) -> None:
    wire, lost = await wire_of(client, claude_fake, model=tier, reasoning_effort=effort, max_tokens=40_000)
    del wire["max_tokens"]
    assert (wire, lost) == (want, set())


async def test_thinking_that_cannot_be_is_named(client: openai.AsyncOpenAI, claude_fake: Any) -> None:
    wire, lost = await wire_of(client, claude_fake, reasoning_effort="high", max_tokens=500)
    assert "thinking" not in wire and lost == {"reasoning_effort"}
    forced = {"tools": [LOOK], "tool_choice": "required", "max_tokens": 40_000}
    wire, lost = await wire_of(client, claude_fake, reasoning_effort="high", **forced)
    assert wire["tool_choice"] == {"type": "any"} and "thinking" not in wire and lost == {"reasoning_effort"}
    wire, lost = await wire_of(client, claude_fake, reasoning_effort="high", temperature=0.2, max_tokens=40_000)
    assert "temperature" not in wire and lost == {"temperature"}
    wire, lost = await wire_of(client, claude_fake, model="reasoning", temperature=0.2, top_p=0.3)
    assert wire == {} and lost == {"temperature", "top_p"}


@pytest.mark.parametrize(
    ("messages", "system", "turns"),
    [
        (
            [
                {"role": "system", "content": "One."},
                {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
                *HI,
            ],
            "One.\n\nTwo.",
            HI,
        ),
        ([*HI, {"role": "user", "content": "Ho"}], None, [("user", ["Hi", "Ho"])]),
        (
            [{"role": "assistant", "content": "Welcome"}, *HI, {"role": "assistant", "content": ""}, *HI],
            None,
            [("user", ["Begin."]), ("assistant", ["Welcome"]), ("user", ["Hi", "Hi"])],
        ),
        ([*HI, {"role": "user", "content": " \n"}, {"role": "user", "content": []}], None, HI),
        ([*HI, {"role": "assistant", "content": "It is:  \n"}], None, [("user", ["Hi"]), ("assistant", ["It is:"])]),
        ([{"role": "system", "content": "Only me."}], "Only me.", [("user", ["Begin."])]),
        (
            [*HI, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, *HI],
            None,
            [("user", ["Hi"]), ("assistant", ["No."]), ("user", ["Hi"])],
        ),
    ],
)
async def test_roles_take_turns(
    client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic, messages: Any, system: str | None, turns: Any
) -> None:
    await client.chat.completions.create(model="complex", messages=messages)
    wire = claude_fake.last.json
    assert wire.get("system") == system
    shown = [(turn["role"], [b["text"] for b in claude_blocks(turn)]) for turn in wire["messages"]]
    assert shown == [(turn["role"], [turn["content"]]) if isinstance(turn, dict) else turn for turn in turns]


def claude_blocks(turn: Json) -> list[Json]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


NOTE = base64.b64encode("grüße".encode()).decode()


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://pictures.example/cat.png"}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"filename": "a.txt", "file_data": f"data:text/plain;base64,{NOTE}"}},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "grüße"},
                "title": "a.txt",
            },
        ),
        (
            {"type": "text", "text": "Read", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Read", "cache_control": {"type": "ephemeral"}},
        ),
    ],
)
async def test_content_parts(ask: Ask, claude_fake: claude.FakeAnthropic, part: Json, block: Json) -> None:
    content = [part, {"type": "text", "text": "What is this?"}]
    assert message_of(await ask(model="complex", messages=[{"role": "user", "content": content}])).content
    assert claude_fake.last.json["messages"][0]["content"] == [block, content[1]]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-abc123"}},
        {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}},
    ],
)
async def test_what_claude_has_no_form_for_is_refused_by_its_place(
    client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic, part: Any
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=r"Anthropic|file_data") as caught:
            await client.chat.completions.create(
                model="complex", messages=[{"role": "user", "content": [part]}], stream=stream
            )
        assert str(caught.value.param).startswith("messages[0].content[0]")
    assert claude_fake.requests == []


async def test_cache_marks_pass(client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    messages: Any = [{"role": "system", "content": [{"type": "text", "text": "Long.", **mark}]}, *HI]
    tools: Any = [{**LOOK, **mark}]
    await client.chat.completions.create(model="complex", messages=messages, tools=tools)
    assert claude_fake.last.json["system"] == [{"type": "text", "text": "Long.", **mark}]
    assert claude_fake.last.json["tools"][0]["cache_control"] == mark["cache_control"]


# --- the way back ---


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
async def test_every_stop_reason(ask: Ask, claude_fake: claude.FakeAnthropic, stop: str, reason: str) -> None:
    claude_fake.script(claude.Answer("Hel", stop=stop))
    completion = await ask(model="complex")
    assert completion.choices[0].finish_reason == reason
    assert message_of(completion).content == "Hel"


async def test_a_refusal(ask: Ask, claude_fake: claude.FakeAnthropic) -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
    claude_fake.script(claude.Answer([], stop="refusal", extra={"stop_details": details}))
    completion = await ask(model="complex")
    assert completion.choices[0].finish_reason == "content_filter"
    assert message_of(completion).refusal == "Not this."


@pytest.mark.parametrize(
    ("read", "written", "fresh", "out"), [(0, 0, 10, 7), (5, 3, 10, 7), (90_000, 0, 4, 1), (0, 2048, 1, 0)]
)
async def test_usage_adds_up(
    ask: Ask, claude_fake: claude.FakeAnthropic, read: int, written: int, fresh: int, out: int
) -> None:
    counts = {"input_tokens": fresh, "cache_creation_input_tokens": written, "cache_read_input_tokens": read}
    claude_fake.script(claude.Answer("Hi", usage={**counts, "output_tokens": out}))
    usage = (await ask(model="complex")).usage
    assert usage.prompt_tokens == fresh + written + read
    assert usage.completion_tokens == out
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == read


async def test_the_frame_of_an_answer(ask: Ask, claude_fake: claude.FakeAnthropic) -> None:
    completion = await ask(model="complex")
    message = message_of(completion)
    assert (message.role, message.content, message.tool_calls) == ("assistant", "Hello world", None)
    assert completion.id and completion.created > 1_700_000_000
    assert completion.model == "claude-sonnet-4-5"
    assert completion.object == "chat.completion"
    assert completion.model_extra["_virtusoul"]["routed_to"] == "anthropic/claude-sonnet-4-5"


async def test_chunks_of_a_stream(client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic) -> None:
    claude_fake.script(claude.Answer([claude.thinking("hm"), claude.text("ü ☂"), claude.tool_use("look", {"q": "ü"})]))
    fields: Any = {"model": "complex", "messages": HI, "tools": [LOOK], "stream": True}
    chunks = [chunk async for chunk in await client.chat.completions.create(**fields)]
    assert all(chunk.choices for chunk in chunks)  # no usage chunk: none was asked for
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", *[None] * (len(chunks) - 1)]
    assert [("_virtusoul" in (chunk.model_extra or {})) for chunk in chunks] == [True, *[False] * (len(chunks) - 1)]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "tool_calls"
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert [call.id for call in calls] == ["toolu_look", *[None] * (len(calls) - 1)]
    arguments = "".join(call.function.arguments or "" for call in calls if call.function)
    assert json.loads(arguments) == {"q": "ü"}
    fields["stream_options"] = {"include_usage": True}
    chunks = [chunk async for chunk in await client.chat.completions.create(**fields)]
    assert [chunk.usage is not None for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
    assert chunks[-1].choices == []


@pytest.mark.parametrize(
    "model",
    ["claude-3-5-haiku-20241022", "claude-sonnet-4-20250514", "claude-opus-4-1", "claude-opus-4-5", "claude-sonnet-4-6",
     "claude-opus-4-7", "claude-sonnet-5", "claude-opus-5-5", "claude-haiku-5-5", "claude-fable-5-1"],
)  # fmt: skip
async def test_every_claude_takes_a_request_full_of_wishes(
    start_router: Start, claude_fake: claude.FakeAnthropic, model: str
) -> None:
    """Whatever an OpenAI client asks for, no Claude model ever sees what it would refuse."""
    router: Running = await start_router(claude_env("simple", claude_fake, model))
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    wishes: list[Json] = [
        {"temperature": 1.5, "top_p": 0.2, "stop": [" "], "user": "x" * 300, "seed": 1},
        {"reasoning_effort": "high", "temperature": 0.1, "max_tokens": 1000},
        {"reasoning_effort": "minimal", "tools": [LOOK], "tool_choice": "required", "max_completion_tokens": 1_000_000},
        {"reasoning_effort": "none", "extra_body": 1, "top_k": 3},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": schema}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}, "tools": [NOW]},
        {"response_format": {"type": "json_object"}, "reasoning_effort": "xhigh"},
    ]
    for fields in wishes:
        async with router.post({"model": "simple", "messages": HI, **fields}) as response:
            assert response.status == 200, (fields, await response.text())
