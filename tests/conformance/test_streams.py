"""Streams whose bytes come in any pieces decode the same; streams that break never look whole."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from tests.conformance.conftest import claude_env
from tests.conformance.kit import HI, LOOK, NOW, Json, Wire, message_of
from tests.conftest import Running, Start, tier_env
from tests.fakes import anthropic as claude
from tests.fakes.openai import Answer, FakeOpenAI, Stream, tool

WORDS = "grüße ☂ 🐈‍⬛ 漢字 \u2028 \r\n end"
TIERS = ("simple", "complex")
SIZES = [(size,) for size in range(1, 8)] + [(1, 2, 3, 4, 5, 6, 7), (13, 1), (4096,)]


def whole_answers() -> tuple[Answer, claude.Answer]:
    """The same answer in both dialects: words, two calls, thinking; every character of UTF-8's four lengths."""
    return (
        Answer(WORDS, [tool("look", {"q": "ü"}, "a"), tool("now", "{}", "b")], message={"reasoning_content": "hm ☂"}),
        claude.Answer(
            [claude.thinking("hm ☂"), claude.text(WORDS), claude.tool_use("look", {"q": "ü"}, "a"), claude.tool_use("now", id="b")]
        ),
    )  # fmt: skip


async def through(start: Start, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str, wire: Wire) -> Running:
    """A router whose `tier` is reached through the wire."""
    if tier == "simple":
        env = {**tier_env("simple", fake), "SIMPLE_BASE_URL": wire.url}
    else:
        env = {**claude_env("complex", claude_fake, "claude-sonnet-4-5"), "COMPLEX_BASE_URL": wire.url}
    return await start({**env, "RETRIES": "0", "COOLDOWN_FAILURES": "1000"})


async def final(client: openai.AsyncOpenAI, tier: str, **fields: Any) -> Any:
    fields = {"messages": HI, "tools": [LOOK, NOW], "stream_options": {"include_usage": True}, **fields}
    async with client.chat.completions.stream(model=tier, **fields) as stream:
        async for _ in stream:
            pass
        return stream.current_completion_snapshot


def told(completion: Any) -> Json:
    """What an answer says, without the times and places that differ between two of them."""
    document: Json = completion.model_dump()
    return {name: document[name] for name in ("choices", "usage", "model", "id")}


@pytest.mark.parametrize("tier", TIERS)
async def test_any_pieces_of_any_size_decode_the_same(
    start_router: Start, client: openai.AsyncOpenAI, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str
) -> None:
    for upstream, answer in zip((fake, claude_fake), whole_answers(), strict=True):
        upstream.script(answer)
    whole = told(await final(client, tier))
    message = whole["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == (WORDS, "hm ☂")
    assert [call["id"] for call in message["tool_calls"]] == ["a", "b"]
    wire_root = fake.root if tier == "simple" else claude_fake.root
    async with Wire(wire_root) as wire:
        router = await through(start_router, fake, claude_fake, tier, wire)
        cut = client.with_options(base_url=router.url + "/v1")
        for sizes in SIZES:
            wire.sizes = sizes
            assert told(await final(cut, tier)) == whole, sizes
        wire.sizes = (3,)
        alone = await cut.chat.completions.create(model=tier, messages=HI, tools=[LOOK, NOW])
        assert message_of(alone).content == WORDS


@pytest.mark.parametrize("tier", TIERS)
async def test_a_stream_cut_at_any_byte_raises_or_was_whole(
    start_router: Start, client: openai.AsyncOpenAI, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str
) -> None:
    for upstream, answer in zip((fake, claude_fake), whole_answers(), strict=True):
        upstream.script(answer)
    wire_root = fake.root if tier == "simple" else claude_fake.root
    async with Wire(wire_root) as wire:
        router = await through(start_router, fake, claude_fake, tier, wire)
        cut = client.with_options(base_url=router.url + "/v1")
        whole = told(await final(cut, tier))
        length = wire.body
        complete = 0
        for position in [*range(0, length - 200, 149), *range(length - 200, length, 9), length]:
            wire.cut_after = position
            try:
                completion = told(await final(cut, tier))
            except openai.APIError:
                assert complete == 0, f"whole before byte {position}, and broken there"
                continue
            complete += 1
            choices = completion["choices"]
            assert choices == whole["choices"], f"cut after {position} of {length} bytes"
        assert complete > 0


def frame(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


DELTA: Json = {"type": "content_block_delta", "index": 0}
BROKEN: list[tuple[str, Any, Any]] = [
    ("cut", Stream(["Hel", "lo"], cut_after=1), claude.Stream(["Hel", "lo"], cut_after=1)),
    ("ended without its end", Stream(["Hel", "lo"], done=False), claude.Stream(["Hel", "lo"], done=False)),
    (
        "an error event",
        Stream(["Hel", b'data: {"error": {"message": "Busy", "type": "server_error"}}\n\n'], done=False, delay=0.05),
        claude.Stream(
            ["Hel", frame({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}})],
            done=False,
            delay=0.05,
        ),
    ),
    ("stalled", Stream(["Hel", "lo"], stall_after=1), claude.Stream(["Hel", "lo"], stall_after=1)),
]


@pytest.mark.parametrize(("name", "openai_step", "claude_step"), BROKEN, ids=[name for name, _, _ in BROKEN])
@pytest.mark.parametrize("tier", TIERS)
async def test_a_broken_stream_raises(
    start_router: Start, client: openai.AsyncOpenAI, any_sync: openai.OpenAI, fake: FakeOpenAI,
    claude_fake: claude.FakeAnthropic, tier: str, name: str, openai_step: Any, claude_step: Any,
) -> None:  # fmt: skip
    """In `create(stream=True)`, in the stream helper, and in the sync client: words first, then the error."""
    fake.script(openai_step)
    claude_fake.script(claude_step)
    env = {**tier_env("simple", fake), **claude_env("complex", claude_fake, "claude-sonnet-4-5")}
    router = await start_router({**env, "STREAM_IDLE_TIMEOUT": "0.2", "RETRIES": "0"})
    client = client.with_options(base_url=router.url + "/v1")
    words = []
    with pytest.raises(openai.APIError) as caught:
        async for chunk in await client.chat.completions.create(model=tier, messages=HI, stream=True):
            words.append(chunk.choices[0].delta.content or "")
            assert chunk.choices[0].finish_reason is None
    assert "Hello".startswith("".join(words)) and any(words)
    body: Any = caught.value.body
    assert {"message", "type", "code"} <= set(body)
    with pytest.raises(openai.APIError):
        await final(client, tier)
    sync: Any = any_sync.with_options(base_url=router.url + "/v1")
    with pytest.raises(openai.APIError):
        await asyncio.to_thread(lambda: list(sync.chat.completions.create(model=tier, messages=HI, stream=True)))
    async with client.chat.completions.with_streaming_response.create(model=tier, messages=HI, stream=True) as response:
        assert "[DONE]" not in await response.text()


async def test_a_malformed_event_costs_no_more_than_itself(
    client: openai.AsyncOpenAI, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    fake.script(Stream(["Hel", "lo"], malformed_at=1))
    claude_fake.script(claude.Stream(["Hel", "lo"], malformed_at=1))
    for tier in TIERS:
        completion = await final(client, tier)
        assert message_of(completion).content == "Hello"
        assert completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("tier", TIERS)
async def test_half_a_surrogate_pair_costs_no_more_than_a_character(
    client: openai.AsyncOpenAI, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str
) -> None:
    """Servers that cut text between UTF-16 units send halves; a backslash before a `u` is no half."""
    halves = ["a", "\ud83d", "\ude00 \\ud83d", "b"]
    fake.script(Stream(halves), Answer("a \ud83d"))
    claude_fake.script(claude.Stream(["a", frame(DELTA | {"delta": {"type": "text_delta", "text": "\ud83d"}}), "b"]))
    stream = await client.chat.completions.create(model=tier, messages=HI, stream=True)
    words = [chunk.choices[0].delta.content or "" async for chunk in stream]
    if tier == "complex":
        assert "".join(words) == "a\ufffdb"
        return
    assert [word for word in words if word] == halves  # as sent
    answer = await client.chat.completions.create(model=tier, messages=HI)
    assert message_of(answer).content == "a \ud83d"


async def test_pings_comments_and_unknown_events_are_no_content(
    client: openai.AsyncOpenAI, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    fake.script(Stream(["Hel", b": keep-alive\n\n", b"event: x\nretry: 5\n\n", "lo"]))
    unknown = DELTA | {"delta": {"type": "someday_delta", "x": 1}}
    claude_fake.script(claude.Stream(["Hel", frame({"type": "ping"}), frame({"type": "new"}), frame(unknown), "lo"]))
    for tier in TIERS:
        assert message_of(await final(client, tier)).content == "Hello"


async def test_leaving_a_stream_ends_the_call_behind_it(
    client: openai.AsyncOpenAI, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    fake.script(Stream(["word "] * 500, delay=0.02))
    claude_fake.script(claude.Stream(["word "] * 500, delay=0.02))
    for tier, upstream in zip(TIERS, (fake, claude_fake), strict=True):
        stream = await client.chat.completions.create(model=tier, messages=HI, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await asyncio.wait_for(upstream.last.disconnected.wait(), 5)
