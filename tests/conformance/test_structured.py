"""`.parse()` and `response_format`: the answer is bound to the schema on either side, and parses."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from tests.conformance.conftest import claude_env
from tests.conformance.kit import HI, LOOK, Ask, Json, dropped, message_of
from tests.conftest import Start
from tests.fakes import anthropic as claude
from tests.fakes.openai import Answer, FakeOpenAI, tool


class Tail(BaseModel):
    length: int


class Cat(BaseModel):
    name: str
    mood: Literal["calm", "wild"]
    tail: Tail | None


class Bounded(BaseModel):
    age: int = Field(ge=0, le=40)


TOM = '{"name": "Töm", "mood": "wild", "tail": {"length": 3}}'
CAT = Cat(name="Töm", mood="wild", tail=Tail(length=3))


@pytest.fixture(params=["parse", "parse_sync", "stream", "stream_sync"])
def parse(request: pytest.FixtureRequest, client: Any, sync: Any) -> Ask:
    """`.parse()`, and the stream helper with the same argument."""

    def stream_sync(fields: Json) -> Any:
        with sync.chat.completions.stream(**fields) as stream:
            return stream.get_final_completion()

    async def ask(**fields: Any) -> Any:
        fields = {"messages": HI, **fields}
        if request.param == "parse":
            return await client.chat.completions.parse(**fields)
        if request.param == "parse_sync":
            return await asyncio.to_thread(sync.chat.completions.parse, **fields)
        if request.param == "stream_sync":
            return await asyncio.to_thread(stream_sync, fields)
        async with client.chat.completions.stream(**fields) as stream:
            return await stream.get_final_completion()

    return ask


@pytest.mark.parametrize("tier", ["simple", "medium", "complex", "reasoning"])
async def test_a_pydantic_model(parse: Ask, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str) -> None:
    fake.script(Answer(TOM))
    claude_fake.script(claude.Answer(TOM))
    message = message_of(await parse(model=tier, response_format=Cat))
    assert message.parsed == CAT
    if tier in ("simple", "medium"):
        bound = fake.last.json["response_format"]["json_schema"]
        assert bound["strict"] is True
    else:
        bound = claude_fake.last.json["output_config"]["format"]
        assert bound["type"] == "json_schema"
    assert set(bound["schema"]["properties"]) == {"name", "mood", "tail"}


async def test_a_claude_without_structured_output_is_bound_by_a_tool(
    start_router: Start, any_sync: openai.OpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    router = await start_router(claude_env("simple", claude_fake, "claude-3-5-haiku-20241022"))
    sync = any_sync.with_options(base_url=router.url + "/v1")
    tom = {"name": "Töm", "mood": "wild", "tail": {"length": 3}}

    def ask(stream: bool) -> Any:
        if not stream:
            return sync.chat.completions.parse(model="simple", messages=HI, response_format=Cat)
        with sync.chat.completions.stream(model="simple", messages=HI, response_format=Cat) as opened:
            return opened.get_final_completion()

    for stream in (False, True):
        claude_fake.script(claude.Answer([claude.tool_use("Cat", tom)]))
        completion = await asyncio.to_thread(ask, stream)
        assert message_of(completion).parsed == CAT
        assert completion.choices[0].finish_reason == "stop"
        assert not message_of(completion).tool_calls
        assert claude_fake.last.json["tool_choice"] == {"type": "tool", "name": "Cat"}


async def test_what_a_schema_cannot_bind_is_named(
    client: openai.AsyncOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    claude_fake.script(claude.Answer('{"age": 3}'))
    fields: Json = {"model": "complex", "messages": HI}
    raw = await client.chat.completions.with_raw_response.parse(**fields, response_format=Bounded)
    assert dropped(raw) == {"response_format"}
    parsed: Any = raw.parse()
    assert message_of(parsed).parsed == Bounded(age=3)
    schema = claude_fake.last.json["output_config"]["format"]["schema"]
    assert "40" in schema["properties"]["age"]["description"]  # the model still reads it


@pytest.mark.parametrize("tier", ["simple", "complex"])
async def test_strict_tools_are_parsed(
    parse: Ask, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str
) -> None:
    fake.script(Answer(None, [tool("Tail", {"length": 4}, "t")]), Answer("Done"))
    claude_fake.script(claude.Answer([claude.tool_use("Tail", {"length": 4}, "t")]), claude.Answer("Done"))
    tools = [openai.pydantic_function_tool(Tail)]
    message = message_of(await parse(model=tier, tools=tools))
    assert message.tool_calls[0].function.parsed_arguments == Tail(length=4)
    if tier == "complex":
        assert claude_fake.last.json["tools"][0]["strict"] is True
    result = {"role": "tool", "tool_call_id": "t", "content": "here"}
    assert message_of(await parse(model=tier, tools=tools, messages=[*HI, message, result])).content == "Done"


@pytest.mark.parametrize("tier", ["simple", "complex"])
async def test_an_answer_cut_short_or_refused_is_never_parsed(
    parse: Ask, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str
) -> None:
    fake.script(Answer(TOM[:20], finish="length"), Answer("", finish="content_filter"))
    claude_fake.script(claude.Answer(TOM[:20], stop="max_tokens"), claude.Answer([], stop="refusal"))
    with pytest.raises(openai.LengthFinishReasonError):
        await parse(model=tier, response_format=Cat)
    with pytest.raises(openai.ContentFilterFinishReasonError):
        await parse(model=tier, response_format=Cat)


async def test_any_json(ask: Ask, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic) -> None:
    """Claude has no such mode: it is asked in words, and the fence it likes to write is taken off."""
    claude_fake.script(claude.Answer('```json\n{"a": "`ü`"}\n```'))
    fields: Json = {"model": "complex", "response_format": {"type": "json_object"}}
    assert message_of(await ask(**fields)).content == '{"a": "`ü`"}'
    assert "JSON" in claude_fake.last.json["system"]
    fake.script(Answer("{}"))
    assert message_of(await ask(**{**fields, "model": "simple"})).content == "{}"
    assert fake.last.json["response_format"] == {"type": "json_object"}


async def test_a_schema_beside_tools_leaves_the_choice(ask: Ask, claude_fake: claude.FakeAnthropic) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "Cat", "schema": Cat.model_json_schema()}}
    claude_fake.script(claude.Answer([claude.tool_use("look", {"q": "a"})]), claude.Answer(TOM))
    fields: Json = {"model": "complex", "tools": [LOOK], "response_format": schema}
    assert message_of(await ask(**fields)).tool_calls[0].function.name == "look"
    assert Cat.model_validate_json(message_of(await ask(**fields)).content) == CAT
