"""Faults in combination and at the edges: whose fault it is, what is forgotten, and what must not leak."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import pytest

from router import dispatch
from router.chat import Chat
from router.config import load
from router.providers import dialect_for
from router.sse import Decoder
from tests.conftest import Running, Start, tier_env
from tests.fakes import anthropic as claude
from tests.fakes.openai import Answer, FakeOpenAI, Raw, Reset, Silence, Status, Stream
from tests.integration.test_faults import chunk, events, pair_env, said


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BACKOFF_BASE", 0.01)


@pytest.fixture
async def third() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


def line_env(*fakes: FakeOpenAI, **settings: str) -> dict[str, str]:
    """`simple`, falling back to `complex`, falling back to `reasoning`."""
    env = {"SIMPLE_FALLBACKS": "complex,reasoning", "RETRIES": "1", "COOLDOWN_FAILURES": "50", **settings}
    for tier, fake in zip(("simple", "complex", "reasoning"), fakes, strict=True):
        env |= tier_env(tier, fake)
    return env


@pytest.mark.parametrize("fallbacks", ["complex", "complex,reasoning"])
async def test_a_fallback_that_has_no_words_for_the_request_is_passed_over(
    start_router: Start, fake: FakeOpenAI, third: FakeOpenAI, fallbacks: str
) -> None:
    """What the client sent is right for the tier it asked for: a 400 would tell it not to try again."""
    async with claude.FakeAnthropic() as other:
        env = tier_env("simple", fake, FALLBACKS=fallbacks) | tier_env("reasoning", third)
        env |= tier_env("complex", other, "anthropic", MODEL="claude-sonnet-4-5", API_KEY=claude.KEY)
        router = await start_router({**env, "RETRIES": "0"})
        fake.script(Status(429, headers={"retry-after": "3"}))
        audio = [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]
        body = {"model": "simple", "messages": [{"role": "user", "content": audio}]}
        async with router.post(body) as response:
            if fallbacks == "complex":
                assert (response.status, response.headers["retry-after"]) == (429, "3")
            else:
                assert (response.status, response.headers["x-virtusoul-tier"]) == (200, "reasoning")
        assert not other.requests
        # Where nothing has failed before, it is the request that is wrong.
        async with router.post({**body, "model": "complex"}) as response:
            assert response.status == 400


# --- circuits --------------------------------------------------------------------------------------------------------


async def test_a_probe_that_cannot_be_asked_is_given_back(start_router: Start) -> None:
    """A request that the dialect cannot say, or a client that leaves, must not keep the half-open circuit to itself."""
    async with claude.FakeAnthropic() as fake:
        env = tier_env("simple", fake, "anthropic", MODEL="claude-sonnet-4-5", API_KEY=claude.KEY)
        router = await start_router({**env, "RETRIES": "0", "COOLDOWN_FAILURES": "1", "COOLDOWN": "0.05"})
        fake.script(claude.Status(500), claude.Answer())
        assert (await router.chat())[0] == 502
        await asyncio.sleep(0.1)
        assert (await router.chat(messages=[{"role": "nobody", "content": "x"}]))[0] == 400
        assert (await router.chat())[0] == 200


async def test_a_client_that_leaves_between_retries_keeps_no_probe(start_router: Start, fake: FakeOpenAI) -> None:
    env = {**tier_env("simple", fake), "COOLDOWN_FAILURES": "1", "COOLDOWN": "0", "RETRIES": "2"}
    router = await start_router(env)
    fake.script(Status(429, headers={"retry-after": "30"}))
    leaving = asyncio.create_task(router.chat())
    while not fake.requests:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    fake.script(Answer())
    await asyncio.sleep(0.05)
    assert (await router.chat())[0] == 200


async def test_a_target_that_got_no_time_is_not_blamed(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI
) -> None:
    """The deadline left the fallback a moment: its silence says nothing about its health."""
    env = pair_env(fake, other, TIMEOUT="0.6", SIMPLE_ATTEMPT_TIMEOUT="0.4", COOLDOWN_FAILURES="1")
    router = await start_router(env)
    fake.script(Silence())
    other.script(Silence())
    assert (await router.chat())[0] == 504
    assert router.service.health.is_open("simple")
    assert not router.service.health.is_open("complex")


async def test_a_stream_that_outlives_the_deadline_is_not_blamed(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "TIMEOUT": "0.4", "COOLDOWN_FAILURES": "1"})
    fake.script(Stream(["a "] * 100, delay=0.02))
    _, text = await router.stream()
    assert events(text)[-1]["error"]["code"] == "stream_timeout"
    assert not router.service.health.is_open("simple")


async def test_flapping_under_a_crowd(start_router: Start, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    """Forty at a time, streamed and not, for as long as the primary is down: all served, few probes, then back."""
    env = pair_env(fake, other, COOLDOWN_FAILURES="3", COOLDOWN="0.25", RETRIES="1", STREAM_RECOVERY="buffer")
    router = await start_router(env)
    fake.script(Stream(["one "], cut_after=1))
    first = time.perf_counter()
    for number in range(6):
        asked = [router.stream() if index % 2 else router.chat() for index in range(40)]
        for status, answer in await asyncio.gather(*asked):
            assert status == 200
            assert said(answer) == "Hello world" if isinstance(answer, str) else answer["_virtusoul"]["tier"]
        if number == 0:
            opened = len(fake.requests)
        await asyncio.sleep(0.1)
    probes = len(fake.requests) - opened
    assert probes <= (time.perf_counter() - first) / 0.25 + 2
    fake.script(Answer())
    recovered = time.perf_counter()
    while (await router.chat())[1]["_virtusoul"]["tier"] != "simple":
        assert time.perf_counter() - recovered < 1
        await asyncio.sleep(0.01)


# --- what an error says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_that_repeats_the_prompt_is_still_the_clients(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, stream: bool
) -> None:
    """FastAPI's 422, which vLLM and many others speak, holds the whole input."""
    router = await start_router(pair_env(fake, other))
    fake.script(Status(422, {"detail": [{"type": "missing", "msg": "Field required", "input": "word " * 60_000}]}))
    async with router.post(
        {"model": "simple", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    ) as response:
        body = await response.json()
    assert (response.status, len(fake.requests), len(other.requests)) == (422, 1, 0)
    assert len(body["error"]["message"]) < 3000
    assert router.service.health.last_error("simple") is None


@pytest.mark.parametrize("end", [b"", b'{"error": {"mess'])
async def test_an_error_whose_body_is_cut_keeps_its_status(start_router: Start, fake: FakeOpenAI, end: bytes) -> None:
    router = await start_router({**tier_env("simple", fake), "RETRIES": "0"})
    fake.script(Raw(b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 500\r\n\r\n" + end))
    async with router.post({"model": "simple", "messages": [{"role": "user", "content": "x"}]}) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize(
    ("header", "told"),
    [("1e400", 86400), ("-5", None), ("nan", None), ("0", 1), ("1.5", 2), ("9" * 400, 86400), ("", None)],
)
async def test_retry_after_of_any_size(start_router: Start, fake: FakeOpenAI, header: str, told: int | None) -> None:
    """Nothing but a finite wait comes of it, and one that no deadline allows ends the attempts."""
    router = await start_router({**tier_env("simple", fake), "TIMEOUT": "5", "RETRIES": "1"})
    fake.script(Status(429, headers={"retry-after": header}))
    began = time.perf_counter()
    async with router.post({"model": "simple", "messages": [{"role": "user", "content": "x"}]}) as response:
        assert response.status == 429
        given = response.headers.get("retry-after")
    assert given == (None if told is None else str(told))
    assert time.perf_counter() - began < 4


# --- timeouts --------------------------------------------------------------------------------------------------------


async def test_a_body_that_trickles_ends_at_the_deadline(start_router: Start, fake: FakeOpenAI) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{")
        try:
            for _ in range(300):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    env = {"SIMPLE_PROVIDER": "custom", "SIMPLE_MODEL": "m", "SIMPLE_BASE_URL": url}
    router = await start_router({**env, "TIMEOUT": "0.8", "ATTEMPT_TIMEOUT": "0.5"})
    began = time.perf_counter()
    assert (await router.chat())[0] == 504
    assert time.perf_counter() - began < 2
    server.close()


async def test_a_reader_that_pauses_is_not_its_providers_silence(start_router: Start) -> None:
    """STREAM_IDLE_TIMEOUT counts what the provider keeps us waiting for, not what the client does."""
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 50_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for _ in range(400):
            writer.write(piece)
        writer.write(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    env = {"SIMPLE_PROVIDER": "custom", "SIMPLE_MODEL": "m", "SIMPLE_BASE_URL": url}
    router = await start_router({**env, "STREAM_IDLE_TIMEOUT": "0.3"})
    chat = {"model": "simple", "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with server, router.post(chat) as response:
        got = await response.content.readany()
        await asyncio.sleep(1.2)
        got += await response.content.read()
        assert got.endswith(b"data: [DONE]\n\n") and got.count(b"x" * 50_000) == 400


async def test_a_held_stream_without_an_end_marker_is_not_waited_for_twice(
    start_router: Start, fake: FakeOpenAI
) -> None:
    router = await start_router({**tier_env("simple", fake), "STREAM_RECOVERY": "buffer"})
    words = [f"{number} " for number in range(1000)]
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
    chunks = [*(chunk({"content": word}) for word in words), chunk({}, "stop"), usage]
    fake.script(Stream(chunks, done=False, keep_open=True))
    began = time.perf_counter()
    _, text = await router.stream(stream_options={"include_usage": True})
    assert time.perf_counter() - began < 1.9
    assert (said(text), events(text)[-1], text.count('"usage"')) == ("".join(words), "[DONE]", 1)
    assert text.count("_virtusoul") == 1


def test_a_held_stream_costs_little_more_than_its_bytes() -> None:
    """Documents take 25 times their bytes; hundreds of held streams must not."""
    target = load({"SIMPLE_PROVIDER": "openai", "SIMPLE_MODEL": "m", "SIMPLE_API_KEY": "k"}).targets["simple"]
    chat = Chat.parse(b'{"model": "simple", "messages": [{"role": "user", "content": "x"}]}')
    events = [json.dumps(chunk({"content": f"word {number}"})).encode() for number in range(4000)]
    data = b"".join(b"data: %b\n\n" % event for event in [*events, b"[DONE]"])

    class Whole:
        status = 200
        headers: Mapping[str, str] = MappingProxyType({})

        async def next(self) -> bytes:
            return pieces.pop(0)

        def expect(self, idle: float, deadline: float) -> None: ...

    async def hold() -> dispatch.Opened:
        opened = dispatch.Opened(Whole(), dialect_for("openai").stream(chat, target), Decoder(), target, [])  # type: ignore[arg-type]
        await opened.until_end(5, asyncio.get_running_loop().time() + 5)
        return opened

    pieces = [data[start : start + 5000] for start in range(0, len(data), 5000)]
    tracemalloc.start()
    try:
        opened = asyncio.run(hold())
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert opened.usage is None
    assert held < 3 * len(data)


async def test_buffer_keepalive_and_a_stall_together(start_router: Start, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    """Comments while the first stream stalls unseen; then the fallback's answer, whole, and nothing of the first."""
    env = pair_env(fake, other, STREAM_RECOVERY="buffer", KEEPALIVE="0.1", STREAM_IDLE_TIMEOUT="0.35")
    router = await start_router(env)
    fake.script(Stream(["lost ", "words"], stall_after=1))
    other.script(Stream(["kept ", "words"], delay=0.15))
    status, text = await router.stream()
    assert (status, said(text), events(text)[-1]) == (200, "kept words", "[DONE]")
    assert text.startswith(": keep-alive\n\n") and text.count(": keep-alive") >= 3
    assert events(text)[0]["_virtusoul"]["requested_tier"] == "simple"
    assert "lost" not in text and text.index("keep-alive") < text.index("kept")


async def test_late_first_tokens_all_along_the_line_end_inside_the_stream(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, third: FakeOpenAI
) -> None:
    env = line_env(fake, other, third, KEEPALIVE="0.1", FIRST_TOKEN_TIMEOUT="0.25")
    router = await start_router(env)
    for one in (fake, other, third):
        one.script(Stream(["late"], first_delay=5))
    status, text = await router.stream()
    got = events(text)
    assert (status, len(got)) == (200, 1) and got[0]["error"]["code"] == "upstream_timeout"
    assert [len(one.requests) for one in (fake, other, third)] == [1, 1, 1]


# --- fallbacks of fallbacks ------------------------------------------------------------------------------------------

FAULTS: dict[str, Any] = {
    "503": Status(503),
    "429": Status(429, headers={"retry-after": "0"}),
    "reset": Reset(),
    "silence": Silence(),
    "html": Status(200, "<html>"),
    "prefill": Status(400, {"error": {"message": "This model does not support assistant message prefill."}}),
    "context": Status(400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
    "late": Stream(["late"], first_delay=5),
    "cut": Stream(["cut"], cut_after=0),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("one", "two"), [(a, b) for a in FAULTS for b in ("503", "silence", "reset", "context")])
async def test_the_third_serves_where_two_fail(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, third: FakeOpenAI, one: str, two: str, stream: bool
) -> None:
    env = line_env(fake, other, third, ATTEMPT_TIMEOUT="0.2", FIRST_TOKEN_TIMEOUT="0.2")
    router = await start_router(env)
    fake.script(FAULTS[one])
    other.script(FAULTS[two])
    if stream:
        status, text = await router.stream()
        assert (status, said(text), events(text)[-1]) == (200, "Hello world", "[DONE]")
        meta = events(text)[0]["_virtusoul"]
    elif one in ("late", "cut"):
        return  # streams only
    else:
        status, body = await router.chat()
        assert status == 200
        meta = body["_virtusoul"]
    assert (meta["tier"], meta["requested_tier"]) == ("reasoning", "simple")
    assert meta["attempts"] == len(fake.requests) + len(other.requests) + len(third.requests)
    assert router.service.in_flight == 0


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"", b"\r\n"])
async def test_a_last_event_without_its_blank_line_counts(start_router: Start, fake: FakeOpenAI, end: bytes) -> None:
    """A whole document is a whole document, whatever stands behind it; half of one is none."""
    router = await start_router(tier_env("simple", fake))
    last = b"data: " + json.dumps(chunk({"content": "world"}, "stop")).encode()
    fake.script(Stream([chunk({"content": "Hello "}), last + end], done=False))
    _, text = await router.stream()
    assert (said(text), events(text)[-1]) == ("Hello world", "[DONE]")
    fake.script(Stream([chunk({"content": "Hello "}), last[:-2] + end], done=False))
    _, text = await router.stream()
    assert "error" in events(text)[-1] and "[DONE]" not in text


async def test_a_null_error_is_none(router: Running, fake: FakeOpenAI) -> None:
    usage = {"choices": [], "error": None, "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
    fake.script(Stream([usage, chunk({"content": "Hello"}), chunk({}, "stop"), usage]))
    _, text = await router.stream()
    assert (said(text), events(text)[-1]) == ("Hello", "[DONE]")


@pytest.mark.parametrize("odd", [[1], {"a": 1}, "0", None, -1, 1e300])
async def test_an_odd_index_is_no_fault_of_ours(router: Running, fake: FakeOpenAI, odd: Any) -> None:
    """Skipped or passed on, as the provider's oddity that it is."""
    choice = {"index": odd, "delta": {"content": "x"}, "finish_reason": "stop"}
    fake.script(Stream([chunk({"content": "Hello"}), {"choices": [choice]}, chunk({}, "stop")]))
    _, text = await router.stream()
    assert "internal_error" not in text and events(text)[-1] == "[DONE]"
