"""The fakes against the official SDKs, and the whole translation against the strict one, turn by turn."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import anthropic
import openai
import orjson
import pytest

from router.providers import dialect_for
from tests.fakes.anthropic import KEY, Answer, FakeAnthropic, redacted, text, thinking, tool_use
from tests.fakes.openai import Answer as OpenAIAnswer
from tests.fakes.openai import FakeOpenAI, Raw, Reset, Silence, Status, Stream, tool
from tests.providers.kit import chat, merged, read, target

ANTHROPIC = dialect_for("anthropic")
HI = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


async def test_openai_fake_answers_the_sdk() -> None:
    async with FakeOpenAI() as fake, openai.AsyncOpenAI(base_url=fake.url, api_key="k", max_retries=0) as client:
        messages: Any = [HI]
        whole = await client.chat.completions.create(model="m", messages=messages)
        assert whole.choices[0].message.content == "Hello world"
        fake.script(OpenAIAnswer(None, tools=[tool("f", {"a": 1})]))
        async with client.chat.completions.stream(model="m", messages=messages) as stream:
            final = await stream.get_final_completion()
        calls = final.choices[0].message.tool_calls
        assert calls and calls[0].function.arguments == '{"a": 1}'
        fake.script(Status(429, headers={"retry-after": "3"}))
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="m", messages=messages)
        assert [request.path for request in fake.requests] == ["/v1/chat/completions"] * 3


@pytest.mark.parametrize("step", [Reset(), Raw(b"nonsense\r\n\r\n"), Stream(cut_after=1), Silence(0)])
async def test_openai_fake_breaks_connections(step: Any) -> None:
    async with FakeOpenAI(step) as fake, aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.post(f"{fake.url}/chat/completions", json={"stream": True}) as response:
                await response.read()


async def test_openai_fake_notices_who_leaves() -> None:
    async with FakeOpenAI(Silence()) as fake, aiohttp.ClientSession() as client:
        waiting = asyncio.create_task(client.post(f"{fake.url}/chat/completions", json={}))
        while not fake.requests:
            await asyncio.sleep(0)
        waiting.cancel()
        async with asyncio.timeout(5):
            await fake.last.disconnected.wait()
        assert not fake.last.answered.is_set()


async def test_anthropic_fake_answers_the_sdk() -> None:
    async with FakeAnthropic(key=None) as fake, anthropic.AsyncAnthropic(base_url=fake.root, api_key="k") as client:
        messages: Any = [HI]
        whole = await client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=messages)
        assert whole.content[0].text == "Hello world"  # type: ignore[union-attr]
        fake.script(Answer([thinking("Hm."), text("a"), tool_use("f", {"ü": [1]})]))
        async with client.messages.stream(model="claude-haiku-4-5", max_tokens=9, messages=messages) as stream:
            final = await stream.get_final_message()
        assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
        assert final.content[2].input == {"ü": [1]}  # type: ignore[union-attr]
        with pytest.raises(anthropic.BadRequestError, match="non-empty content"):
            await client.messages.create(
                model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": []}]
            )


async def test_anthropic_fake_wants_its_key_and_version() -> None:
    body = {"model": "m", "max_tokens": 1, "messages": [HI]}
    async with FakeAnthropic() as fake, aiohttp.ClientSession() as client:
        for headers, status in (
            ({"x-api-key": "wrong", "anthropic-version": "2023-06-01"}, 401),
            ({"x-api-key": KEY}, 400),
            ({"x-api-key": KEY, "anthropic-version": "2023-06-01"}, 200),
        ):
            async with client.post(f"{fake.url}/messages", json=body, headers=headers) as response:
                assert response.status == status


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-6", "claude-sonnet-5", "claude-opus-5-5"])
async def test_a_thinking_tool_loop_is_accepted_turn_after_turn(model: str, streamed: bool) -> None:
    """Signatures come back as they were; the newest models also check that nothing before them has changed."""
    script = [
        Answer([thinking("First."), redacted(), text("Let me look."), tool_use("look", {"at": 1}, "toolu_1"),
                thinking("And there."), tool_use("look", {"at": 2}, "toolu_2")]),
        Answer([thinking("Seen."), text("It is a cat.")]),
        Answer([thinking("Easy."), text("Yes.")]),
        Answer("Done."),
    ]  # fmt: skip
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be kind."}, HI]
    async with FakeAnthropic(*script) as fake, aiohttp.ClientSession() as client:
        to = target(model, base_url=fake.url)
        for turn in range(4):
            asked = chat(messages=messages, tools=[TOOL], reasoning_effort="low", stream=streamed)
            outgoing = ANTHROPIC.request(asked, to)
            async with client.post(
                to.base_url + outgoing.path, data=outgoing.body, headers=ANTHROPIC.headers(to)
            ) as response:
                raw = await response.read()
                assert response.status == 200, raw
            if streamed:
                message = {"role": "assistant", **merged(read(ANTHROPIC, asked, to, raw)[0])}
            else:
                message = ANTHROPIC.response(raw, asked, to).document["choices"][0]["message"]
            messages.append(message)
            calls = message.get("tool_calls") or []
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": "a cat"} for call in calls]
            if not calls:
                messages += [{"role": "developer", "content": f"Rule {turn}."}, HI] if turn == 1 else [HI]
        assert not fake.refused and len(fake.requests) == 4
        assert orjson.loads(fake.last.body)["messages"][1]["content"][0]["thinking"] == "First."
