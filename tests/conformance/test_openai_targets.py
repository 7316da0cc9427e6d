"""Towards an OpenAI-compatible target everything passes as sent, and everything comes back as it was said."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.conformance.kit import HI, LOOK, NOW, PIXEL, Ask, Json, dropped, message_of, sent
from tests.conftest import Running, Start, tier_env
from tests.fakes.openai import Answer, FakeOpenAI, Status, Stream, tool

PARTS: list[Json] = [
    {"type": "text", "text": "What are these? ☂"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
    {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png"}},
    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
    {"type": "file", "file": {"file_id": "file-abc123"}},
]
SCHEMA: Json = {
    "type": "json_schema",
    "json_schema": {"name": "cat", "strict": True, "schema": {"type": "object", "properties": {}}},
}
EVERY_FIELD: list[Json] = [
    {"messages": [{"role": "user", "content": PARTS}]},
    {"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "tom"}]},
    {"tools": [LOOK, NOW], "tool_choice": "required", "parallel_tool_calls": False},
    {"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "look"}}},
    {"response_format": {"type": "json_object"}, "seed": 7, "stop": ["END", "\n\n"]},
    {"response_format": SCHEMA, "stop": "END", "max_tokens": 12},
    {"logprobs": True, "top_logprobs": 3, "logit_bias": {"50256": -100}, "n": 1},
    {"temperature": 1.7, "top_p": 0.3, "presence_penalty": -0.5, "frequency_penalty": 0.5},
    {"reasoning_effort": "high", "max_completion_tokens": 99, "verbosity": "low"},
    {"metadata": {"trace": "1"}, "user": "u1", "store": False, "service_tier": "flex", "safety_identifier": "s"},
    {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    {"prediction": {"type": "content", "content": "Hi"}, "web_search_options": {"search_context_size": "low"}},
    {"extra_body": {"top_k": 40, "min_p": 0.1, "provider": {"order": ["a"]}, "chat_template_kwargs": {"x": None}}},
]


@pytest.mark.parametrize("fields", EVERY_FIELD, ids=lambda fields: "-".join(fields))
async def test_every_field_arrives_as_sent(ask: Ask, fake: FakeOpenAI, fields: Json) -> None:
    fake.script(Answer("Hello"))
    completion = await ask(model="simple", **fields)
    assert message_of(completion).content == "Hello"
    extra = fields.get("extra_body", {})
    plain = {name: value for name, value in fields.items() if name != "extra_body"}
    assert sent(fake.last.json) == {"messages": HI, **plain, **extra, "model": "simple-model"}


async def test_what_a_reasoning_model_refuses_is_left_out_and_named(
    client: openai.AsyncOpenAI, fake: FakeOpenAI
) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="medium", messages=HI, max_tokens=50, temperature=0.2, top_p=0.5, stop="x", seed=3, user="u"
    )
    assert dropped(raw) == {"temperature", "top_p", "stop"}
    assert fake.last.json == {
        "model": "gpt-5-mini", "messages": HI, "max_completion_tokens": 50, "seed": 3, "user": "u"
    }  # fmt: skip
    streamed = await client.chat.completions.with_raw_response.create(
        model="medium", messages=HI, temperature=0.2, stream=True
    )
    assert dropped(streamed) == {"temperature"}


@pytest.mark.parametrize(
    ("vendor", "model", "given", "want"),
    [
        ("ollama", "llama3.2", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("mistral", "mistral-large-latest", {"max_completion_tokens": 5, "seed": 1}, {"max_tokens": 5, "random_seed": 1}),
        ("openai", "o3", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("openai", "gpt-4.1", {"max_tokens": 5, "temperature": 0.1}, {"max_tokens": 5, "temperature": 0.1}),
        ("deepseek", "deepseek-chat", {"max_completion_tokens": 5, "top_p": 0.1}, {"max_tokens": 5, "top_p": 0.1}),
    ],
)  # fmt: skip
async def test_limits_are_called_what_the_target_calls_them(
    start_router: Start, any_sync: openai.OpenAI, fake: FakeOpenAI, vendor: str, model: str, given: Json, want: Json
) -> None:
    router = await start_router(tier_env("simple", fake, vendor, MODEL=model))
    async with router.post({"model": "simple", "messages": HI, **given}) as response:
        assert response.status == 200
        assert "x-virtusoul-dropped-params" not in response.headers
    assert fake.last.json == {"model": model, "messages": HI, **want}


async def test_every_field_of_the_answer_comes_back(ask: Ask, fake: FakeOpenAI) -> None:
    fake.script(
        Answer(
            "Hello there ☂",
            extra={"service_tier": "default", "x_vendor": {"deep": [1, None]}},
            message={"reasoning_content": "because", "reasoning_details": [{"index": 0, "text": "a"}]},
        )
    )
    completion = await ask(model="simple")
    message = message_of(completion)
    assert (message.role, message.content) == ("assistant", "Hello there ☂")
    assert message.model_extra["reasoning_content"] == "because"
    assert message.model_extra["reasoning_details"][0]["text"] == "a"
    assert (completion.id, completion.created, completion.service_tier) == ("chatcmpl-fake", 1700000000, "default")
    assert completion.model_extra["x_vendor"] == {"deep": [1, None]}
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (12, 7, 19)
    assert usage.prompt_tokens_details.cached_tokens == 4
    meta = completion.model_extra["_virtusoul"]
    assert (meta["tier"], meta["routed_to"], meta["attempts"]) == ("simple", "custom/simple-model", 1)


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_every_finish_reason(ask: Ask, fake: FakeOpenAI, reason: str) -> None:
    fake.script(Answer("Hel", finish=reason))
    assert (await ask(model="simple")).choices[0].finish_reason == reason


async def test_a_refusal(ask: Ask, fake: FakeOpenAI) -> None:
    fake.script(Answer(None, message={"refusal": "I cannot."}))
    message = message_of(await ask(model="simple"))
    assert message.refusal == "I cannot."
    assert not message.content


LOGPROBS = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}], "refusal": None}


async def test_logprobs_and_several_choices(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    choices = [
        {"index": at, "message": {"role": "assistant", "content": word}, "logprobs": LOGPROBS, "finish_reason": "stop"}
        for at, word in enumerate(("one", "two"))
    ]
    fake.script(Status(200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}))
    completion = await client.chat.completions.create(model="simple", messages=HI, n=2, logprobs=True)
    assert [choice.message.content for choice in completion.choices] == ["one", "two"]
    logprobs: Any = completion.choices[1].logprobs
    assert (logprobs.content[0].token, logprobs.content[0].logprob) == ("Hi", -0.1)
    assert completion.usage is None


async def test_several_choices_in_a_stream(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    """The first choice's end is not the stream's."""

    def chunk(index: int, delta: Json, finish: str | None = None) -> Json:
        choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": LOGPROBS if delta else None}
        return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    fake.script(
        Stream(
            [chunk(0, {"role": "assistant", "content": "o"}), chunk(1, {"role": "assistant", "content": "t"}),
             chunk(0, {"content": "ne"}), chunk(0, {}, "stop"), chunk(1, {"content": "wo"}), chunk(1, {}, "length")],
            delay=0.01,
        )
    )  # fmt: skip
    async with client.chat.completions.stream(model="simple", messages=HI, n=2, logprobs=True) as stream:
        async for _ in stream:
            pass
        choices = stream.current_completion_snapshot.choices
    assert [choice.message.content for choice in choices] == ["one", "two"]
    assert [choice.finish_reason for choice in choices] == ["stop", "length"]
    logprobs: Any = choices[0].logprobs
    assert len(logprobs.content) == 2


async def test_usage_comes_only_where_it_is_asked_for(client: openai.AsyncOpenAI) -> None:
    for options, want in (({}, 0), ({"stream_options": {"include_usage": True}}, 1)):
        fields: Any = {"model": "simple", "messages": HI, "stream": True, **options}
        chunks = [chunk async for chunk in await client.chat.completions.create(**fields)]
        assert sum(chunk.usage is not None for chunk in chunks) == want
        assert [("_virtusoul" in (chunk.model_extra or {})) for chunk in chunks] == [True, *[False] * (len(chunks) - 1)]


async def test_audio_comes_back(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    fake.script(Answer(None, message={"audio": {"id": "a1", "data": "AAAA", "expires_at": 5, "transcript": "Hi"}}))
    message = message_of(await client.chat.completions.create(model="simple", messages=HI, modalities=["audio"]))
    assert (message.audio.data, message.audio.transcript) == ("AAAA", "Hi")
    again: Any = [*HI, {"role": "assistant", "audio": {"id": "a1"}}, *HI]
    await client.chat.completions.create(model="simple", messages=again)
    assert fake.last.json["messages"] == again


async def test_events_of_the_stream_helper(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    fake.script(Answer("one two", tools=[tool("look", {"q": "ü"})]))
    words, calls = [], []
    async with client.chat.completions.stream(model="simple", messages=HI, tools=[LOOK]) as stream:
        async for event in stream:
            if event.type == "content.delta":
                words.append(event.delta)
            elif event.type == "tool_calls.function.arguments.done":
                calls.append((event.name, event.arguments))
    assert "".join(words) == "one two"
    assert calls == [("look", '{"q": "\\u00fc"}')]


async def test_models(client: openai.AsyncOpenAI, sync: openai.OpenAI, router: Running) -> None:
    names = [model.id async for model in client.models.list()]
    assert names[:5] == ["virtusoul-v1", "simple", "medium", "complex", "reasoning"]
    assert (await client.models.retrieve("complex")).object == "model"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nothing")


async def test_raw_responses_say_where_it_went(client: openai.AsyncOpenAI, router: Running) -> None:
    fields: Json = {"model": "virtusoul-v1", "messages": [{"role": "user", "content": "reasoning, please"}]}
    raw = await client.chat.completions.with_raw_response.create(**fields, extra_headers={"x-request-id": "trace-1"})
    assert raw.headers["x-request-id"] == "trace-1"
    assert raw.headers["x-virtusoul-tier"] == "reasoning"
    assert raw.headers["x-virtusoul-routed-to"] == "anthropic/claude-sonnet-5-5"
    assert (raw.headers["x-virtusoul-confidence"], raw.headers["x-virtusoul-attempts"]) == ("0.9", "1")
    parsed: Any = raw.parse()
    assert parsed.choices[0].message.content == "Hello world"
    async with client.chat.completions.with_streaming_response.create(**fields, stream=True) as streamed:
        assert streamed.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in streamed.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert streamed.headers["x-virtusoul-tier"] == "reasoning"
