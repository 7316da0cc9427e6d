"""Where a stream ends, byte for byte: what comes behind the end is nobody's, and what came before a fault is kept."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conftest import Running, Start
from tests.fakes import anthropic as claude
from tests.fakes.wire import Peer, serving, until

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
FAULT = b'data: {"error": {"message": "oops", "type": "server_error", "code": null}}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}\n\n'


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str = "", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode()


def request(version: str = "1.1", *lines: str, **fields: Any) -> bytes:
    chat = {"model": "simple", "stream": True, "messages": [{"role": "user", "content": "Hi"}], **fields}
    body = json.dumps(chat).encode()
    head = [f"POST /v1/chat/completions HTTP/{version}", "host: x", "content-type: application/json"]
    return "\r\n".join([*head, f"content-length: {len(body)}", *lines, "", ""]).encode() + body


async def body_of(reader: asyncio.StreamReader) -> bytes:
    """The body of one chunked response."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and b"chunked" in head.lower(), head
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)


@asynccontextmanager
async def client(router: Running) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = router.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


def env(port: int, **settings: str) -> dict[str, str]:
    return {
        "SIMPLE_PROVIDER": "custom",
        "SIMPLE_MODEL": "m",
        "SIMPLE_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "RETRIES": "0",
        **settings,
    }


def said(*steps: bytes | float) -> Callable[[Peer], Any]:
    """Answers each request with `steps`: bytes, and seconds between them."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for step in steps:
                if isinstance(step, bytes):
                    await peer.say(step)
                else:
                    await asyncio.sleep(step)

    return script


@pytest.mark.parametrize(
    "steps",
    [
        (HEAD + framed(event("one")), 0.05, framed(event("", "stop") + DONE), 0.05, framed(event("LATE")), 0.02, END),
        (HEAD + framed(event("one")), 0.05, framed(event("", "stop")), 1.1, framed(USAGE + DONE) + END),
        (HEAD + framed(event("one")), 0.05, framed(event("", "stop") + DONE), 0.05, framed(event("LATE") * 5000), END),
    ],
    ids=["behind the end marker", "usage that nobody asked for, late", "much"],
)
async def test_what_a_provider_sends_behind_the_end_reaches_nobody(
    start_router: Start, steps: tuple[bytes | float, ...]
) -> None:
    async with serving(said(*steps)) as port:
        router = await start_router(env(port))
        async with client(router) as (reader, writer):
            writer.write(request())
            body = await body_of(reader)
            assert b"one" in body and b"LATE" not in body and body.endswith(DONE)
            writer.write(HEALTH)
            await asyncio.sleep(0.3)
            assert (await reader.read(100_000)).startswith(b"HTTP/1.1 200 OK")  # and no chunk of the stream before it


async def test_a_request_behind_a_stream_gets_its_own_answer(start_router: Start) -> None:
    steps = (HEAD + framed(event("one")), 0.05, framed(event("", "stop") + DONE), 0.05, framed(event("LATE")), 0.1, END)
    async with serving(said(*steps)) as port:
        router = await start_router(env(port))
        async with client(router) as (reader, writer):
            writer.write(request() * 2)
            for _ in range(2):
                assert b"LATE" not in await body_of(reader)


async def test_the_client_does_not_wait_for_the_end_of_http(start_router: Start) -> None:
    """Its answer is whole at the end marker. A client that goes then has not left early."""
    async with serving(said(HEAD + framed(event("one") + event("", "stop") + DONE), 0.15, END)) as port:
        router = await start_router(env(port))
        left = await router.metric("virtusoul_client_disconnects_total")
        for _ in range(3):
            async with client(router) as (reader, writer):
                began = time.perf_counter()
                writer.write(request())
                await body_of(reader)
                writer.write(HEALTH)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                assert time.perf_counter() - began < 0.12
            async with client(router) as (reader, writer):
                writer.write(request())
                await body_of(reader)
        await until(lambda: router.service.in_flight == 0)
        assert await router.metric("virtusoul_client_disconnects_total") == left


async def test_a_drained_connection_serves_again(start_router: Start) -> None:
    numbers = []

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            numbers.append(peer.number)
            await peer.say(HEAD + framed(event("one") + event("", "stop") + DONE))
            await asyncio.sleep(0.05)
            await peer.say(END)

    async with serving(script) as port:
        router = await start_router(env(port))
        for _ in range(2):
            assert (await router.stream())[0] == 200
            await asyncio.sleep(0.15)
    assert numbers == [0, 0]


@pytest.mark.parametrize("lines", [(), ("connection: close",), ("connection: keep-alive",)])
async def test_a_stream_to_an_http_1_0_client_ends_with_its_connection(
    start_router: Start, lines: tuple[str, ...]
) -> None:
    async with serving(said(HEAD + framed(event("one") + event("", "stop") + DONE) + END)) as port:
        router = await start_router(env(port))
        async with client(router) as (reader, writer), asyncio.timeout(3):
            writer.write(request("1.0", *lines))
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            assert b"one" in body and body.endswith(DONE) and b"keep-alive" not in head


@pytest.mark.parametrize("pause", [None, 0.05], ids=["in one read", "a little later"])
@pytest.mark.parametrize("retries", ["0", "2"])
async def test_a_fault_right_behind_content_breaks_the_stream_it_began(
    start_router: Start, pause: float | None, retries: str
) -> None:
    asked = []
    first = HEAD + framed(event("Hel") + event("lo"))
    steps: list[bytes | float] = [first + framed(FAULT)] if pause is None else [first, pause, framed(FAULT)]

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            asked.append(peer.number)
            for step in steps:
                if isinstance(step, bytes):
                    await peer.say(step)
                else:
                    await asyncio.sleep(step)

    async with serving(script) as port:
        router = await start_router(env(port, RETRIES=retries))
        status, text = await router.stream()
    assert status == 200 and "Hel" in text and "lo" in text
    assert text.count('"error"') == 1 and "oops" in text and "[DONE]" not in text
    assert len(asked) == 1


async def test_what_came_in_the_same_read_as_a_later_fault_is_kept(start_router: Start) -> None:
    steps = (HEAD + framed(event("Hel")), 0.05, framed(event("lo") + FAULT))
    async with serving(said(*steps)) as port:
        router = await start_router(env(port))
        status, text = await router.stream()
    assert status == 200 and "lo" in text and text.count('"error"') == 1 and "[DONE]" not in text


async def test_a_fault_right_behind_content_falls_back_where_streams_are_held(start_router: Start) -> None:
    whole = HEAD + framed(event("better") + event("", "stop") + DONE) + END
    async with serving(said(HEAD + framed(event("Hel") + FAULT))) as port, serving(said(whole)) as other:
        settings = env(port, STREAM_RECOVERY="buffer", SIMPLE_FALLBACKS="complex")
        settings |= {"COMPLEX_PROVIDER": "custom", "COMPLEX_MODEL": "m"}
        settings["COMPLEX_BASE_URL"] = f"http://127.0.0.1:{other}/v1"
        router = await start_router(settings)
        status, text = await router.stream()
    assert status == 200 and "better" in text and "Hel" not in text and text.endswith("[DONE]\n\n")


async def test_an_overload_behind_anthropic_text_keeps_the_text(start_router: Start) -> None:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Bonjour"}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    ]
    stream = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)
    async with serving(said(HEAD + framed(stream))) as port:
        settings = env(port) | {"SIMPLE_PROVIDER": "anthropic", "SIMPLE_API_KEY": claude.KEY}
        router = await start_router(settings | {"SIMPLE_MODEL": "claude-sonnet-4-5"})
        status, text = await router.stream()
    assert status == 200 and "Bonjour" in text and text.count('"error"') == 1 and "[DONE]" not in text


@pytest.mark.parametrize("recovery", ["error", "buffer"])
@pytest.mark.parametrize("marked", [True, False])
async def test_a_whole_native_stream_ends_in_one_end_marker(start_router: Start, marked: bool, recovery: str) -> None:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Bonjour"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        *([{"type": "message_stop"}] if marked else []),
    ]
    stream = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)
    async with serving(said(HEAD + framed(stream) + END)) as port:
        settings = env(port, STREAM_RECOVERY=recovery) | {"SIMPLE_PROVIDER": "anthropic", "SIMPLE_API_KEY": claude.KEY}
        router = await start_router(settings | {"SIMPLE_MODEL": "claude-sonnet-4-5"})
        body = {"model": "simple", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "stream": True}
        async with router.post(body, "/v1/messages") as response:
            text = await response.text()
    assert "Bonjour" in text and text.count("event: message_stop") == 1
    assert text.rstrip().rpartition("data: ")[2].replace(" ", "") == '{"type":"message_stop"}'


async def test_usage_that_was_asked_for_is_waited_for(start_router: Start) -> None:
    steps = (HEAD + framed(event("one") + event("", "stop")), 1.4, framed(USAGE), 0.01, framed(DONE) + END)
    async with serving(said(*steps)) as port:
        router = await start_router(env(port))
        status, text = await router.stream(stream_options={"include_usage": True})
    assert status == 200 and '"prompt_tokens": 7' in text and text.endswith("[DONE]\n\n")


async def test_a_client_that_asks_and_never_reads_is_not_served_into_memory(start_router: Start) -> None:
    answer = json.dumps({"choices": [{"message": {"content": "x" * 1_000_000}}]}).encode()
    served = []

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            served.append(peer.number)
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))

    async with serving(script) as port:
        router = await start_router(env(port))
        async with client(router) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request(stream=False) * 100)
            await asyncio.sleep(1.0)
            assert 1 <= len(served) < 30  # what the sockets' buffers take
            writer.transport.abort()
        await until(lambda: router.service.in_flight == 0)


async def test_a_crowd_of_refusals_on_one_connection_lets_others_in_between(start_router: Start) -> None:
    router = await start_router({})
    turns, answered = 0, 0

    async def others() -> None:
        nonlocal turns
        while answered < 1000:
            turns += 1
            await asyncio.sleep(0)

    async with client(router) as (reader, writer):
        watching = asyncio.create_task(others())
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" * 1000)
        while answered < 1000:
            answered += b"HTTP/1.1 400" in await reader.readuntil(b"\r\n")
        await watching
    assert turns > 700  # one for each request; without them, a few for each read
