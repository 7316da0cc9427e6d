"""What clients do wrong, or merely do: leave, read slowly, come in crowds, send megabytes."""

from __future__ import annotations

import asyncio
import io
import time

import aiohttp
import pytest

from router import downstream
from tests.conftest import Running, Start, tier_env
from tests.fakes.openai import Answer, FakeOpenAI, Silence, Stream
from tests.integration.test_faults import events, said

CHAT = {"model": "simple", "messages": [{"role": "user", "content": "Hi"}]}
LEFT = 'virtusoul_requests_total{mechanism="direct",provider="custom",status="499",tier="simple"}'


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_upstream(router: Running, fake: FakeOpenAI, stream: bool) -> None:
    fake.script(Stream(["tick "] * 200, delay=0.02) if stream else Silence())
    before = await router.metric(LEFT)
    session = aiohttp.ClientSession()
    if stream:
        response = await session.post(router.url + "/v1/chat/completions", json={**CHAT, "stream": True})
        await response.content.readany()
        response.close()
    else:
        with pytest.raises(asyncio.TimeoutError):
            await session.post(router.url + "/v1/chat/completions", json=CHAT, timeout=aiohttp.ClientTimeout(total=0.2))
    await session.close()
    await asyncio.wait_for(fake.last.disconnected.wait(), 1.0)
    assert await router.metric(LEFT) - before == 1
    assert await router.metric("virtusoul_in_flight") == 0
    assert not router.service.health.is_open("simple")
    assert router.service.health.last_error("simple") is None, "no mark against the target"


async def test_a_client_that_leaves_while_its_prompt_waits_costs_no_upstream(
    router: Running, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def slow(text: str, bias: float | None = None, *, alone: bool = False) -> None:
        waiting.set()
        await asyncio.sleep(30)

    monkeypatch.setattr(router.service.classifier, "classify", slow)
    task = asyncio.create_task(router.chat("virtusoul-v1"))
    await waiting.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await router.client.close()
    await asyncio.sleep(0.1)
    assert fake.requests == []
    assert router.service.in_flight == 0


async def test_comments_keep_a_silent_stream_alive(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "KEEPALIVE": "0.1"})
    fake.script(Stream(["at last"], first_delay=0.6))
    _, text = await router.stream()
    assert text.startswith(": keep-alive\n\n")
    assert text.count(": keep-alive") >= 3
    assert (said(text), events(text)[-1]) == ("at last", "[DONE]")


async def test_a_fallback_is_still_possible_after_a_comment(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI
) -> None:
    env = {**tier_env("simple", fake, FALLBACKS="complex"), **tier_env("complex", other)}
    router = await start_router({**env, "KEEPALIVE": "0.1", "ATTEMPT_TIMEOUT": "0.4"})
    fake.script(Silence())
    status, text = await router.stream()
    assert (status, said(text)) == (200, "Hello world")
    assert events(text)[0]["_virtusoul"]["tier"] == "complex"


async def test_a_failure_after_a_comment_is_told_inside_the_stream(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "KEEPALIVE": "0.1", "ATTEMPT_TIMEOUT": "0.4"})
    fake.script(Silence())
    status, text = await router.stream()
    got = events(text)
    assert (status, len(got)) == (200, 1)
    assert got[0]["error"]["code"] == "upstream_timeout"


async def test_no_comments_where_they_are_off(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "KEEPALIVE": "0"})
    fake.script(Stream(["at last"], first_delay=0.3))
    assert "keep-alive" not in (await router.stream())[1]


async def test_permits(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "MAX_CONCURRENCY": "2"})
    fake.script(Answer(delay=0.5))
    running = [asyncio.create_task(router.chat()) for _ in range(2)]
    while len(fake.requests) < 2:
        await asyncio.sleep(0.01)
    async with router.post(CHAT) as response:
        assert response.status == 503
        assert int(response.headers["retry-after"]) >= 1
        assert (await response.json())["error"]["type"] == "overloaded_error"
    assert [status for status, _ in await asyncio.gather(*running)] == [200, 200]
    assert (await router.chat())[0] == 200


async def test_a_slow_reader_slows_its_upstream_not_our_memory(start_router: Start) -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 50_000)
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        try:
            while written < 200_000_000:
                writer.write(chunk)
                await writer.drain()
                written += len(chunk)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    env = {"SIMPLE_PROVIDER": "custom", "SIMPLE_MODEL": "m", "SIMPLE_BASE_URL": f"http://127.0.0.1:{port}/v1"}
    router = await start_router(env)
    async with router.post({**CHAT, "stream": True}) as response:
        await response.content.readany()
        await asyncio.sleep(0.5)
        stopped_at = written
        await asyncio.sleep(0.5)
        # What was written by then fills the sockets' buffers; a router that hoarded would have taken all 200 MB.
        assert written == stopped_at < 60_000_000
    server.close()


async def test_megabytes_pass_and_others_do_not_wait(router: Running, fake: FakeOpenAI) -> None:
    big = {**CHAT, "messages": [{"role": "user", "content": "word " * 6_000_000}]}
    import orjson

    data = orjson.dumps(big)
    headers = {"content-type": "application/json"}

    async def send() -> int:
        async with router.client.post(
            router.url + "/v1/chat/completions", data=io.BytesIO(data), headers=headers
        ) as response:
            return response.status

    sending = asyncio.create_task(send())
    worst = 0.0
    while not sending.done():
        began = time.perf_counter()
        async with router.client.get(router.url + "/health") as response:
            assert response.status == 200
        worst = max(worst, time.perf_counter() - began)
        await asyncio.sleep(0.005)
    assert await sending == 200
    assert len(fake.last.body) == len(data) + len("-model")
    # Client, router and upstream share this loop and this core; the router's own share is the parse and one copy.
    assert worst < 1.0


async def test_many_slow_streams_are_not_mixed_up(router: Running, fake: FakeOpenAI) -> None:
    fake.script(Answer("start "))

    async def one(number: int) -> None:
        status, text = await router.stream(text=f"number {number}", user=str(number))
        assert (status, said(text), events(text)[-1]) == (200, "start ", "[DONE]")

    await asyncio.gather(*(one(number) for number in range(200)))
    assert sorted(int(request.json["user"]) for request in fake.requests) == list(range(200))
    assert router.service.in_flight == 0


@pytest.mark.parametrize("keepalive", ["0", "0.05"])
async def test_a_reader_that_stopped_for_good_gives_its_place_back(
    start_router: Start, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, keepalive: str
) -> None:
    monkeypatch.setattr(downstream, "STALLED_SECONDS", 0.6)
    router = await start_router({**tier_env("simple", fake), "KEEPALIVE": keepalive})
    fake.script(Stream(["x" * 200_000] * 500))
    async with router.post({**CHAT, "stream": True}) as response:
        await response.content.readany()
        await asyncio.wait_for(fake.last.disconnected.wait(), 10)
        while router.service.in_flight:
            await asyncio.sleep(0.01)
    assert router.service.health.last_error("simple") is None
    assert len(asyncio.all_tasks()) < 30, "no comments piled up"


async def test_comments_go_on_after_a_slow_moment(start_router: Start, fake: FakeOpenAI) -> None:
    """A comment never stands inside an event, nor in the way of one; whole words arrive among hundreds of them."""
    router = await start_router({**tier_env("simple", fake), "KEEPALIVE": "0.001"})
    fake.script(Stream([f"{number} " for number in range(150)], delay=0.002))
    _, text = await router.stream()
    assert said(text) == "".join(f"{number} " for number in range(150))
    assert text.count(": keep-alive\n\n") == text.count("keep-alive") >= 20
    blocks = text.split("\n\n")
    assert all(block.startswith(("data: ", ": keep-alive")) for block in blocks if block)


async def test_a_storm_of_leaving_clients_leaves_nothing_behind(
    router: Running, fake: FakeOpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    fake.script(Stream(["tick "] * 400, delay=0.01))
    before = await router.metric(LEFT)
    host, _, port = router.url.removeprefix("http://").partition(":")
    body = b'{"model":"simple","stream":true,"messages":[{"role":"user","content":"x"}]}'
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    data = head % len(body) + body

    async def leave(number: int) -> None:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(data[: len(data) - (number % 5 == 0) * 9])  # every fifth in the middle of its body
        await asyncio.sleep(number % 17 / 100)
        writer.transport.abort() if number % 2 else writer.close()

    await asyncio.gather(*(leave(number) for number in range(200)))
    for _ in range(300):
        if not router.service.in_flight and all(request.disconnected.is_set() for request in fake.requests):
            break
        await asyncio.sleep(0.01)
    assert router.service.in_flight == 0
    assert all(request.disconnected.is_set() for request in fake.requests)
    assert await router.metric(LEFT) - before >= len(fake.requests)
    faults = [caplog.handler.format(line) for line in caplog.records if line.exc_info]
    assert not [fault for fault in faults if "tests/fakes" not in fault]
    assert router.service.health.last_error("simple") is None
