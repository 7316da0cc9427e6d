"""Each door, opened by the official client of its API, with either kind of provider behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.conftest import Running, Start, tier_env
from tests.fakes import anthropic as claude
from tests.fakes.openai import Answer, FakeOpenAI, Status, Stream, tool

Json = dict[str, Any]
LOOK = {
    "name": "look",
    "description": "Looks.",
    "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}},
}
FUNCTION = {"type": "function", "name": "look", "parameters": LOOK["input_schema"], "strict": False}
THINK = {"type": "enabled", "budget_tokens": 2000}
ASK: list[Any] = [{"role": "user", "content": "Look for cats"}]


@pytest.fixture
async def messages(both: Running) -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(base_url=both.url, api_key="none", max_retries=0) as client:
        yield client.messages


# --- Anthropic's API, OpenAI's dialect behind it ---


async def test_a_message(messages: Any, fake: FakeOpenAI) -> None:
    fake.script(Answer("Hello"))
    message = await messages.create(model="virtusoul-v1", max_tokens=50, system="Be brief.", messages=ASK)
    assert message.content[0].text == "Hello"
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (8, 4, 7)
    assert message.model_extra["_virtusoul"]["tier"] == "simple"
    assert fake.last.json == {
        "model": "simple-model",
        "messages": [{"role": "system", "content": "Be brief."}, *ASK],
        "max_tokens": 50,
    }


async def test_a_tool_loop(messages: Any, fake: FakeOpenAI) -> None:
    calls = [tool("look", {"q": "cats"}, "call_1"), tool("look", {"q": "dogs"}, "call_2")]
    fake.script(Answer(tools=calls), Answer("Found"))
    first = await messages.create(model="simple", max_tokens=50, messages=ASK, tools=[LOOK])
    assert first.stop_reason == "tool_use"
    assert [block.input for block in first.content] == [{"q": "cats"}, {"q": "dogs"}]
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "here"} for block in first.content]
    again = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = await messages.create(model="simple", max_tokens=50, messages=again, tools=[LOOK])
    assert second.content[0].text == "Found"
    sent = fake.last.json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_1", "call_2"]


async def test_a_stream(messages: Any, fake: FakeOpenAI) -> None:
    fake.script(Answer("one two", tools=[tool("look", {"q": "cats"})], message={"reasoning_content": "hm"}))
    words = []
    async with messages.stream(model="simple", max_tokens=50, messages=ASK, tools=[LOOK]) as stream:
        async for word in stream.text_stream:
            words.append(word)
        message = await stream.get_final_message()
    assert "".join(words) == "one two"
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[2].input == {"q": "cats"}
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (8, 7)
    assert message.model_extra["_virtusoul"]["tier"] == "simple"


async def test_the_request_is_classified_by_what_the_person_wrote(messages: Any, both: Running) -> None:
    blocks = [
        {"type": "text", "text": "<system-reminder>reasoning</system-reminder>"},
        {"type": "text", "text": "medium please"},
    ]
    await messages.create(model="virtusoul-v1", max_tokens=5, messages=[{"role": "user", "content": blocks}])
    assert both.classifier.seen == ["medium please"]


async def test_what_the_hub_cannot_say_is_reported_where_it_is_lost(messages: Any) -> None:
    fields: Json = {"max_tokens": 5, "messages": ASK, "extra_body": {"top_k": 3}}
    lossy = await messages.with_raw_response.create(model="simple", **fields)
    assert lossy.headers["x-virtusoul-dropped-params"] == "top_k"
    native = await messages.with_raw_response.create(model="complex", **fields)
    assert "x-virtusoul-dropped-params" not in native.headers


async def test_count_tokens(messages: Any) -> None:
    count = await messages.count_tokens(model="simple", messages=ASK, tools=[LOOK])
    assert count.input_tokens > 0
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        await messages.count_tokens(model="simple", messages=[])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (404, anthropic.NotFoundError),
        (422, anthropic.UnprocessableEntityError),
        (429, anthropic.RateLimitError),
        (401, anthropic.InternalServerError),  # the router's key, not the client's
        (500, anthropic.InternalServerError),
    ],
)
async def test_errors_raise_the_right_class(
    messages: Any, fake: FakeOpenAI, status: int, error: type[anthropic.APIStatusError]
) -> None:
    fake.script(Status(status, headers={"retry-after": "7"}))
    with pytest.raises(error) as caught:
        await messages.create(model="simple", max_tokens=5, messages=ASK)
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["message"]
    assert (caught.value.response.headers.get("retry-after") == "7") == (status in (429, 500))


async def test_faults_of_the_request_name_their_place(messages: Any) -> None:
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        await messages.create(model="simple", max_tokens=5, messages=[])
    with pytest.raises(anthropic.APIStatusError, match="virtusoul-v1"):
        await messages.create(model="claude-unknown", max_tokens=5, messages=ASK)


async def test_the_key_of_the_sdk_opens_the_router(start_router: Start, fake: FakeOpenAI) -> None:
    running = await start_router({**tier_env("simple", fake), "API_KEY": "secret"})
    async with anthropic.AsyncAnthropic(base_url=running.url, api_key="secret", max_retries=0) as client:
        assert (await client.messages.create(model="simple", max_tokens=5, messages=ASK)).content
    async with anthropic.AsyncAnthropic(base_url=running.url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(model="simple", max_tokens=5, messages=ASK)


async def test_a_broken_stream_raises(messages: Any, fake: FakeOpenAI) -> None:
    fake.script(Stream(["Hel", "lo"], cut_after=1))
    with pytest.raises(anthropic.APIStatusError, match="not complete"):
        async with messages.stream(model="simple", max_tokens=5, messages=ASK) as stream:
            await stream.get_final_message()


# --- Anthropic's API, Anthropic behind it ---


async def test_an_anthropic_target_gets_the_request_as_it_came(
    messages: Any, claude_fake: claude.FakeAnthropic
) -> None:
    blocks = [{"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}}]
    fields: Json = {"max_tokens": 50, "messages": [{"role": "user", "content": blocks}], "tools": [LOOK]}
    message = await messages.create(model="complex", extra_body={"top_k": 3}, **fields)
    assert message.content[0].text == "Hello world"
    assert message.model_extra["_virtusoul"]["tier"] == "complex"
    assert claude_fake.last.json == {**fields, "top_k": 3, "model": "claude-sonnet-4-5"}
    assert claude_fake.refused == []


async def test_signed_thinking_survives_a_tool_loop(messages: Any, claude_fake: claude.FakeAnthropic) -> None:
    claude_fake.script(
        claude.Answer([claude.thinking("hm"), claude.tool_use("look", {"q": "ü"})]), claude.Answer("Found")
    )
    fields: Json = {"model": "complex", "max_tokens": 5000, "tools": [LOOK], "thinking": THINK}
    async with messages.stream(messages=ASK, **fields) as stream:
        first = await stream.get_final_message()
    assert [block.type for block in first.content] == ["thinking", "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": first.content[1].id, "content": "here"}]
    again = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    async with messages.stream(messages=again, **fields) as stream:
        assert (await stream.get_final_message()).content[0].text == "Found"
    assert claude_fake.refused == []


async def test_a_conversation_moves_between_providers(
    messages: Any, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    """A tool call that an OpenAI-compatible model reasoned its way to is answered on an Anthropic tier, and back."""
    fake.script(Answer(tools=[tool("look", {"q": "cats"}, "functions.look:0")], message={"reasoning_content": "hm"}))
    fields: Json = {"max_tokens": 5000, "tools": [LOOK], "thinking": THINK}
    first = await messages.create(model="simple", messages=ASK, **fields)
    assert [block.type for block in first.content] == ["thinking", "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": first.content[1].id, "content": "here"}]
    turns = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = await messages.create(model="complex", messages=turns, **fields)
    assert claude_fake.refused == []
    turns += [{"role": "assistant", "content": second.content}, {"role": "user", "content": "Thanks"}]
    fake.script(Answer("Welcome"))
    third = await messages.create(model="simple", messages=turns, **fields)
    assert third.content[-1].text == "Welcome"
    sent = fake.last.json["messages"]
    assert sent[1]["reasoning_content"] == "hm"
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]


async def test_errors_of_anthropic_keep_their_class(messages: Any, claude_fake: claude.FakeAnthropic) -> None:
    for status, error in ((400, anthropic.BadRequestError), (429, anthropic.RateLimitError)):
        claude_fake.script(claude.Status(status))
        with pytest.raises(error):
            await messages.create(model="complex", max_tokens=5, messages=ASK)
    claude_fake.script(claude.Answer("Hello", error={"type": "overloaded_error", "message": "Overloaded"}))
    with pytest.raises(anthropic.APIStatusError):
        async with messages.stream(model="complex", max_tokens=5, messages=ASK) as stream:
            await stream.get_final_message()


# --- Responses ---


@pytest.mark.parametrize("tier", ["simple", "complex"])
async def test_a_response(client: openai.AsyncOpenAI, tier: str) -> None:
    response = await client.responses.create(model=tier, instructions="Be brief.", input="Hi", store=False)
    assert response.output_text == "Hello world"
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    assert (response.model_extra or {})["_virtusoul"]["tier"] == tier


@pytest.mark.parametrize("tier", ["simple", "complex"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop_of_responses(
    client: openai.AsyncOpenAI, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str, streamed: bool
) -> None:
    """The output goes back as it came; behind it, Anthropic finds the thinking that it signed."""
    fake.script(Answer(None, [tool("look", {"q": "ü"})], message={"reasoning_content": "hm"}), Answer("Found"))
    claude_fake.script(
        claude.Answer([claude.thinking("hm"), claude.tool_use("look", {"q": "ü"})]), claude.Answer("Found")
    )
    fields: Json = {"model": tier, "tools": [FUNCTION], "reasoning": {"effort": "low"}}
    first = await answer_of(client, streamed, input=ASK, **fields)
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    call = first.output[1]
    assert json.loads(call.arguments) == {"q": "ü"}
    output = [item.model_dump(exclude_none=True) for item in first.output]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "here"}
    second = await answer_of(client, streamed, input=[*ASK, *output, result], **fields)
    assert second.output_text == "Found"
    assert claude_fake.refused == []
    if tier == "complex":
        assert claude_fake.last.json["messages"][1]["content"][0]["type"] == "thinking"
    else:
        assert fake.last.json["messages"][1]["reasoning_content"] == "hm"


async def answer_of(client: openai.AsyncOpenAI, streamed: bool, **fields: Any) -> Any:
    if not streamed:
        return await client.responses.create(**fields)
    async with client.responses.stream(**fields) as stream:
        return await stream.get_final_response()


async def test_a_stream_of_responses(client: openai.AsyncOpenAI) -> None:
    kinds, words, numbers = [], [], []
    async for event in await client.responses.create(model="simple", input="Hi", stream=True):
        kinds.append(event.type)
        numbers.append(event.sequence_number)
        if event.type == "response.output_text.delta":
            words.append(event.delta)
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert "".join(words) == "Hello world"
    assert numbers == list(range(len(numbers)))


class Cat(BaseModel):
    name: str


async def test_structured_output(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    fake.script(Answer('{"name": "Tom"}'))
    response = await client.responses.parse(model="simple", input="Which cat?", text_format=Cat)
    assert response.output_parsed == Cat(name="Tom")
    assert fake.last.json["response_format"]["json_schema"]["schema"]["properties"]["name"]


async def test_what_needs_a_memory_is_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="whole conversation") as caught:
        await client.responses.create(model="simple", input="Hi", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError, match="web_search"):
        await client.responses.create(model="simple", input="Hi", tools=[{"type": "web_search"}])


async def test_a_broken_stream_of_responses_has_failed(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    fake.script(Stream(["Hel", "lo"], cut_after=1))
    events = [event async for event in await client.responses.create(model="simple", input="Hi", stream=True)]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error is not None


async def test_beta_features_reach_anthropic_and_nobody_else(
    messages: Any, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    beta = {"anthropic-beta": "context-management-2025-06-27"}
    for model in ("complex", "simple"):
        await messages.create(model=model, max_tokens=10, messages=ASK, extra_headers=beta)
    assert claude_fake.last.headers["anthropic-beta"] == beta["anthropic-beta"]
    assert "anthropic-beta" not in fake.last.headers
