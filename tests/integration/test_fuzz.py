"""Thousands of damaged requests and answers on real sockets: what is wrong is somebody's 4xx or a provider's 502, never
a fault of ours. Seeded, so that a failure comes back; `-m slow` runs the long form."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.conftest import Running, Start
from tests.fakes.samples import (
    BODIES,
    CHUNKS,
    COMPLETION,
    ERRORS,
    EVENTS,
    HEADERS,
    HOSTILE,
    MESSAGE,
    METHODS,
    PATHS,
)

SEED = 20_251_123
AT_ONCE = 12

# `custom` and `anthropic` tiers speak to sockets of the test; `simple` is the embedded echo.
MODELS = ("simple", "medium", "complex", "virtusoul-v1")


def paths(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a JSON document stands."""
    yield at
    if isinstance(document, dict):
        for key, value in document.items():
            yield from paths(value, (*at, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from paths(value, (*at, index))


def damaged(document: dict[str, Any], rng: random.Random) -> Any:
    """A copy with one to four values exchanged, removed, doubled, renamed or moved."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        places = [at for at in paths(document) if at]
        if not places:
            return rng.choice(HOSTILE)
        at, other = rng.choice(places), rng.choice(places)
        holder = _value(document, at[:-1])
        match rng.randrange(7):
            case 0:
                del holder[at[-1]]
            case 1 if isinstance(holder, list):
                holder.insert(at[-1], copy.deepcopy(holder[at[-1]]))
            case 2 if isinstance(holder, dict):
                holder[str(rng.choice(HOSTILE))] = holder.pop(at[-1])
            case 3:
                holder[at[-1]] = copy.deepcopy(_value(document, other))
            case _:
                holder[at[-1]] = copy.deepcopy(rng.choice(HOSTILE))
    return document


def _value(document: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        document = document[key]
    return document


def scratched(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a few of them exchanged, cut out, doubled or cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at : at + rng.randrange(1, 9)]
            case 2:
                out[at:at] = out[at : at + rng.randrange(1, 40)]
            case 3:
                out[at:at] = rng.choice(
                    (b"\r\n", b"\n", b"\0", b'"', b"\\", b"{" * 50, b"[" * 200, b"\xff\xfe", b"\r\n\r\n", b":")
                )
            case 4 if rng.random() < 0.2:
                del out[at:]
    return bytes(out)


# --- a request on the wire -------------------------------------------------------------------------------------------


def request(rng: random.Random) -> bytes:
    """One request, or a few in a row, damaged in JSON, in its bytes, or in its HTTP."""
    kind = rng.random()
    if kind < 0.08:
        method, path = rng.choice((b"GET", b"POST", *METHODS)), rng.choice(PATHS)
        return b"%b %b HTTP/1.%d\r\nhost: x\r\n\r\n" % (method, path.encode("latin-1"), rng.choice((0, 1, 1, 1)))
    path = rng.choice(list(BODIES))
    body = copy.deepcopy(BODIES[path])
    if "model" in body:
        body["model"] = rng.choice(MODELS)
    if "stream" in body:
        body["stream"] = rng.random() < 0.4
    for name in rng.sample(sorted(body), rng.randrange(len(body))):  # fewer fields: what is left is reached more often
        if name not in ("model", "messages", "input", "prompt", "max_tokens") or rng.random() < 0.1:
            del body[name]
    data = json.dumps(damaged(body, rng) if kind < 0.9 else body).encode()
    if rng.random() < 0.12:
        data = scratched(data, rng)
    headers = [b"host: x"]
    if rng.random() < 0.97:
        headers.append(b"content-type: application/json")
    if rng.random() < 0.25:
        headers += rng.sample(HEADERS, rng.randrange(1, 4))
    if rng.random() < 0.1:
        cut = rng.randrange(len(data) + 1)
        data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:cut], data[cut:]) if part) + b"0\r\n\r\n"
        headers.append(b"transfer-encoding: chunked")
    else:
        headers.append(b"content-length: %d" % (len(data) if rng.random() < 0.98 else rng.randrange(2 * len(data) + 1)))
    rng.shuffle(headers)
    method = b"POST" if rng.random() < 0.98 else rng.choice(METHODS)
    whole = b"%b %b HTTP/1.1\r\n%b\r\n\r\n%b" % (method, path.encode(), b"\r\n".join(headers), data)
    if rng.random() < 0.08:
        whole = scratched(whole, rng)
    if rng.random() < 0.05:
        whole += b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    return whole


_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


async def answer(router: Running, data: bytes, patience: float) -> bytes:
    """What comes back for `data` on a connection of its own, until it is whole or `patience` seconds are over."""
    host, _, port = router.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    got = b""
    try:
        with suppress(ConnectionError, TimeoutError):
            writer.write(data)
            async with asyncio.timeout(patience):
                while piece := await reader.read(65536):
                    got += piece
                    if whole(got):
                        break
    finally:
        writer.close()
    return got


def whole(got: bytes) -> bool:
    head, blank, body = got.partition(b"\r\n\r\n")
    if not blank:
        return False
    length = _LENGTH.search(head + b"\r\n")
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


def statuses(got: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", got)]


# --- providers that answer anything ----------------------------------------------------------------------------------


def good_answer(asked: dict[str, Any], native: bool) -> bytes:
    """A provider's whole HTTP answer, in Anthropic's dialect (`native`) or OpenAI's."""
    if asked.get("stream") is True:
        return _streamed(EVENTS if native else CHUNKS, native)
    return _document(MESSAGE if native else COMPLETION)


def bad_answer(asked: dict[str, Any], native: bool, rng: random.Random) -> bytes:
    """The same, damaged in its JSON, in its bytes, or an error in its place."""
    if rng.random() < 0.15:
        status = rng.choice((400, 401, 404, 408, 413, 422, 429, 499, 500, 503, 529, 599, 201, 204))
        return _document(damaged({"e": rng.choice(ERRORS)}, rng), status)
    if asked.get("stream") is True:
        events = [damaged(event, rng) if rng.random() < 0.25 else event for event in (EVENTS if native else CHUNKS)]
        if rng.random() < 0.2:
            events.insert(rng.randrange(len(events)), damaged(rng.choice(EVENTS + CHUNKS), rng))
        raw = _streamed(events, native)
    else:
        raw = _document(damaged(MESSAGE if native else COMPLETION, rng))
    head, blank, body = raw.partition(b"\r\n\r\n")
    return head + blank + scratched(body, rng) if rng.random() < 0.2 else raw


def _document(document: Any, status: int = 200) -> bytes:
    head = b"HTTP/1.1 %d No\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" % status
    return head + json.dumps(document).encode()


def _streamed(events: list[Any], native: bool) -> bytes:
    lines = []
    for event in events:
        name = event.get("type") if isinstance(event, dict) else None
        lines.append(b"event: %b\n" % str(name).encode() if native else b"")
        lines.append(b"data: %b\n\n" % json.dumps(event).encode())
    end = b"" if native else b"data: [DONE]\n\n"
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + b"".join(lines) + end


@asynccontextmanager
async def provider(respond: Callable[[dict[str, Any], bool], bytes]) -> AsyncIterator[str]:
    """A socket that answers every POST with `respond(its JSON, whether it went to /messages)`; its base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            writer.write(respond(json.loads(body), b"/messages" in head.partition(b"\r\n")[0]))
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    finally:
        listening.close()


def settings(url: str, first: str = "echo") -> dict[str, str]:
    env = {"SIMPLE_PROVIDER": first, "SIMPLE_MODEL": "m", "MEDIUM_PROVIDER": "custom", "MEDIUM_MODEL": "m"}
    env |= {"COMPLEX_PROVIDER": "anthropic", "COMPLEX_MODEL": "claude-sonnet-4-5", "COMPLEX_API_KEY": "k"}
    env |= {f"{tier}_BASE_URL": url for tier in ("MEDIUM", "COMPLEX")}
    if first == "custom":
        env["SIMPLE_BASE_URL"] = url
    return {
        **env,
        "RETRIES": "0",
        "COOLDOWN_FAILURES": "1000000",
        "TIMEOUT": "20",
        "MAX_BODY_MB": "1",
        "LOG_LEVEL": "ERROR",
    }


async def in_crowds(count: int, one: Callable[[int], Any]) -> None:
    """`one(number)` for each number, AT_ONCE of them side by side."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


COUNTS = [2_000, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]


@pytest.mark.parametrize("count", COUNTS)
async def test_no_request_is_a_fault_of_ours(start_router: Start, caplog: pytest.LogCaptureFixture, count: int) -> None:
    async with provider(good_answer) as url:
        router = await start_router(settings(url))
        seen: dict[int, int] = {}

        async def one(number: int) -> None:
            data = request(random.Random(SEED + number))
            got = await answer(router, data, 0.4)
            for status in statuses(got):
                seen[status] = seen.get(status, 0) + 1
                assert status < 500, f"request {number}: {data!r}\n{got!r}"
            faults = [line for line in caplog.records if line.exc_info]
            assert not faults, f"around request {number}: {data!r}\n{caplog.text}"

        await in_crowds(count, one)
        assert (await router.chat())[0] == 200
        assert router.service.in_flight == 0
    print(f"{count} requests: {dict(sorted(seen.items()))}")
    assert seen[200] > count / 4 and seen[400] > count / 10, "both sides of the line were tried"


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_no_answer_of_a_provider_is_a_fault_of_ours(
    start_router: Start, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    """Nor is any stream both whole and broken, or neither."""
    rng = random.Random(SEED)
    async with provider(lambda asked, native: bad_answer(asked, native, rng)) as url:
        router = await start_router(settings(url, "custom"))
        doors = [path for path in BODIES if path.startswith("/v1/") and path != "/v1/messages/count_tokens"]
        seen: dict[str, int] = {}

        async def one(number: int) -> None:
            path = doors[number % len(doors)]
            body = {**BODIES[path], "model": "complex" if number % 3 else "medium"}
            if path == "/v1/embeddings":
                body["model"] = "medium"
            body["stream"] = "stream" in body and number % 2 == 0
            async with router.post(body, path) as response:
                text = (await response.read()).decode("utf-8", "replace")
            assert response.status < 500 or response.status in (502, 503, 504), text
            assert "internal_error" not in text, text
            ended = "streamed" if response.headers["content-type"].startswith("text/event-stream") else "whole"
            if ended == "streamed" and path.endswith("completions"):
                broken = '"error":{' in text
                assert broken != text.endswith("data: [DONE]\n\n"), text
                ended = "broken" if broken else ended
            seen[f"{response.status} {ended}"] = seen.get(f"{response.status} {ended}", 0) + 1
            assert not [line for line in caplog.records if line.exc_info], caplog.text

        await in_crowds(count, one)
        assert router.service.in_flight == 0
    print(f"{count} answers: {dict(sorted(seen.items()))}")
