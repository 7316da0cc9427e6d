"""What attackers send, from either side, on real sockets. docs/threat-model.md says which test holds which threat."""

from __future__ import annotations

import ast
import asyncio
import gzip
import io
import json
import logging
import re
import time
import tomllib
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import aiohttp
import numpy as np
import pytest

from router import access, http, server
from router.artifacts import ArtifactError, NewFile, publish, read_manifest
from router.head import Head
from router.logs import _JsonFormatter, _TextFormatter
from tests.conftest import Running, Start, tier_env
from tests.fakes.anthropic import KEY as CLAUDE_KEY
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.openai import Answer, FakeOpenAI, Raw, Reset, Status, Stream

ROOT = Path(__file__).resolve().parents[2]
CHAT = {"model": "simple", "messages": [{"role": "user", "content": "Hi"}]}
KEY = "sk-simple-secret-key"  # as tests.conftest.tier_env has it
JSON = {"content-type": "application/json"}


async def raw(router: Running, data: bytes, patience: float = 3.0) -> bytes:
    """These bytes on a connection of their own; what came back until the router closed it."""
    host, _, port = router.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(patience):
            return await reader.read()
    finally:
        writer.close()


async def read(request: Any) -> None:
    """Sends a request of aiohttp's client and reads the answer to its end."""
    async with request as response:
        with suppress(aiohttp.ClientError):
            await response.read()


def logged(router: Running, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> str:
    """Everything logged so far: by the logging module in both formats, and the request log's own lines."""
    router.service.request_log.flush()
    lines = [_TextFormatter().format(line) + "\n" + _JsonFormatter().format(line) for line in caplog.records]
    return "\n".join(lines) + capfd.readouterr().err


# --- keys and prompts stay where they belong -------------------------------------------------------------------------

QUOTING = {
    "in its message": Status(400, {"error": {"message": f"Incorrect key {KEY}", "type": "x"}}),
    "refusing it": Status(401, {"error": {"message": f"Incorrect key {KEY}", "code": "invalid_api_key"}}),
    "in plain text": Status(500, f"upstream said: Bearer {KEY} is bad"),
    "where a long text is clipped": Status(500, "x" * (500 - len(KEY) + 4) + KEY + "y" * 2000),
    "in its code": Status(400, {"error": {"message": "no", "type": "t", "code": f"bad {KEY}"}}),
    "in its param and type": Status(400, {"error": {"message": "no", "type": KEY, "param": KEY}}),
    "in a nested message": Status(422, {"detail": [{"msg": "bad", "input": {"authorization": f"Bearer {KEY}"}}]}),
    "in HTML": Status(502, f"<html>{KEY}</html>"),
    "with a rate limit": Status(429, {"error": {"message": f"slow down, {KEY}", "code": KEY}}),
    "in a 200": Status(200, {"error": {"message": f"quota of {KEY}", "type": "server_error"}}),
    "in a redirect": Status(302, "", {"location": f"http://127.0.0.2:1/?key={KEY}"}),
    "in a broken status line": Raw(f"HTTP/1.1 {KEY}\r\n\r\n".encode()),
    "in a stream's error": Stream([{"error": {"message": f"bad {KEY}", "type": "server_error", "code": KEY}}]),
    "in a late stream's error": Stream(
        [
            {"choices": [{"index": 0, "delta": {"content": "a"}}]},
            {"error": {"message": f"bad {KEY}", "type": "server_error", "code": KEY}},
        ]
    ),
    "not at all": Reset(),
}
# A provider may quote it cut short; so many characters of it in a row are too many.
PART = KEY[:12]


@pytest.mark.parametrize(
    ("case", "stream"),
    [(case, stream) for stream in (False, True) for case in QUOTING if stream or "stream" not in case],
)
async def test_a_key_that_a_provider_quotes_goes_nowhere(
    start_router: Start,
    fake: FakeOpenAI,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    case: str,
    stream: bool,
) -> None:
    caplog.set_level(logging.DEBUG, "router")
    env = {**tier_env("simple", fake), "RETRIES": "0", "API_KEY": "client-key-1", "ADMIN_API_KEY": "admin-key-1"}
    router = await start_router(env)
    fake.script(QUOTING[case])
    headers = {"authorization": "Bearer client-key-1"}
    async with router.post({**CHAT, "stream": stream}, headers=headers) as response:
        seen = str(response.headers) + await response.text()
    for path in ("/", "/health", "/ready", "/metrics", "/v1/models", "/dashboard"):
        async with router.client.get(router.url + path, headers=headers) as response:
            seen += str(response.headers) + await response.text()
    log = logged(router, caplog, capfd)
    assert "/v1/chat/completions" in log
    seen += log
    assert fake.last.headers["authorization"] == f"Bearer {KEY}"
    for secret in (PART, "client-key-1", "admin-key-1"):
        assert secret not in seen


async def test_prompts_are_in_no_log(
    router: Running,
    fake: FakeOpenAI,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG, "router")
    monkeypatch.setattr("router.dispatch.BACKOFF_BASE", 0.0)
    secret = "my-secret-diary"
    for step in (Answer(secret), Status(500, secret), Status(400, secret), Reset(), Stream([secret], cut_after=1)):
        fake.script(step)
        for stream in (False, True):
            body = {**CHAT, "model": "virtusoul-v1", "messages": _said(secret), "stream": stream}
            await read(router.post(body))
    await read(router.post({**CHAT, "model": secret}))
    await read(router.post({**CHAT, "messages": [{"role": "user", "content": [secret]}]}))
    await read(router.post({"text": secret}, "/classify"))
    url = router.url + "/v1/chat/completions"
    await read(router.client.post(url, data=b'{"' + secret.encode(), headers=JSON))
    router.classifier.fail = RuntimeError("the classifier broke")
    await router.chat("virtusoul-v1", secret)
    log = logged(router, caplog, capfd)
    assert log.count("/v1/chat/completions") >= 13 and "the classifier broke" in log
    assert secret not in log


async def test_what_the_client_sent_beside_the_body_stays_here(router: Running, fake: FakeOpenAI) -> None:
    """Our key towards the provider, never the client's; none of its cookies and headers; none of theirs back."""
    fake.script(Answer(headers={"set-cookie": "pin=1", "x-internal": "host-7", "server": "secret/1"}))
    sent = {
        "authorization": "Bearer client-key",
        "cookie": "a=1",
        "x-forwarded-for": "10.0.0.1",
        "openai-organization": "o",
    }
    for _ in range(2):
        async with router.post(CHAT, headers=sent) as response:
            assert response.status == 200
            assert not {"set-cookie", "x-internal"} & {name.lower() for name in response.headers}
            assert "secret/1" not in str(response.headers)
    got = {name.lower(): value for name, value in fake.last.headers.items()}
    assert got["authorization"] == f"Bearer {KEY}"
    assert not {"cookie", "x-forwarded-for", "openai-organization"} & set(got)


def test_the_time_of_a_comparison_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is compared, whatever was found before, over digests of one length."""
    seen: list[tuple[int, int]] = []
    compare = access.hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        seen.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(access.hmac, "compare_digest", counted)
    keys = access.Keys(("first", "second-and-longer", "3"))
    for given in ("first", "3", "f", "x" * 4000, "\udcff"):
        seen.clear()
        with suppress(access.Unauthorized):
            keys.check({"authorization": f"Bearer {given}"})
        assert seen == [(32, 32)] * 3
    assert "first" not in repr(vars(keys))


# --- smuggling, forging ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"x-request-id: a\nx-evil: 1",
        b"x-request-id: a\rx-evil: 1",
        b"x-request-id: a\r\n x-evil: 1",
        b"x-request-id: a\0b",
        b"transfer-encoding : chunked",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: xchunked",
        b"content-length: +5",
        b"content-length: 5, 5",
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"content-length: 5\r\ncontent-length: 6",
        b"x evil: 1",
    ],
)
async def test_ambiguous_requests_are_refused_whole(router: Running, fake: FakeOpenAI, header: bytes) -> None:
    """One answer, a 400, and a closed connection: what follows in the same bytes is never read as a second request."""
    body = json.dumps(CHAT).encode()
    second = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    first = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n\r\n0\r\n\r\n"
    answer = await raw(router, first + second % len(body) + body)
    assert answer.count(b"HTTP/1.") == 1 and b" 400 " in answer.split(b"\r\n")[0]
    assert b"\r\nx-evil" not in answer.lower()
    assert fake.requests == []


async def test_names_from_outside_make_no_header(router: Running, fake: FakeOpenAI) -> None:
    for name in ("simple\r\nx-evil: 1", "simple\nx-evil: 1", "x" * 100_000, "\u2028\x00", "../../etc/passwd"):
        async with router.post({**CHAT, "model": name}) as response:
            assert response.status == 400
            assert "x-evil" not in response.headers
            assert len(await response.text()) < 1000
    assert fake.requests == []


async def test_dropped_parameters_make_no_header(start_router: Start) -> None:
    async with FakeAnthropic() as claude:
        env = {**tier_env("simple", claude, "anthropic", MODEL="claude-sonnet-4-5"), "SIMPLE_API_KEY": CLAUDE_KEY}
        router = await start_router(env)
        hostile = {"a\r\nx-evil: 1": 1, "b\nc": 2, "\u2028": 3}
        async with router.post({**CHAT, **hostile}) as response:
            assert response.status == 200
            assert "x-evil" not in response.headers
            assert response.headers["x-virtusoul-dropped-params"].isascii()
        many = {f"field_{number}": 1 for number in range(5000)}
        async with router.post({**CHAT, **many}) as response:
            assert response.status == 200
            assert len(response.headers["x-virtusoul-dropped-params"]) < 8000


async def test_log_lines_cannot_be_forged(
    router: Running, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "router")
    forged = "%0A2026-01-01%20ERROR%20forged%1B[2J%E2%80%A8"
    for path in (f"/{forged}", f"/v1/models/{forged}", f"/v1/chat/completions/{forged}"):
        await raw(router, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    for given in ('x"y=1', "a\x1b[2J", "id status=200"):
        head = f"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {given}\r\n\r\n"
        await raw(router, head.encode())
    await read(router.post({**CHAT, "model": "x\nforged"}))
    lines = logged(router, caplog, capfd).splitlines()
    assert lines
    assert [line for line in lines if "forged" in line or not line.isprintable()] == []


async def test_a_fault_of_ours_logs_the_path_on_one_line(router: Running, caplog: pytest.LogCaptureFixture) -> None:
    settings = router.service.settings
    router.service.settings = None  # type: ignore[assignment]
    await raw(router, b"GET /v1/models/a%0Aforged%20line HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    router.service.settings = settings
    (message,) = [line.getMessage() for line in caplog.records if line.name == "router.http"]
    assert message.isprintable()


async def test_what_is_no_http_is_not_quoted_in_the_log(router: Running, caplog: pytest.LogCaptureFixture) -> None:
    """The head of such a request may hold a key."""
    caplog.set_level(logging.DEBUG, "router")
    await raw(router, b"GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a-\x01client-key\r\n\r\n")
    assert "client-key" not in caplog.text
    assert [line.getMessage() for line in caplog.records if not line.getMessage().isprintable()] == []


async def test_a_logged_prompt_stays_on_its_line(
    start_router: Start, fake: FakeOpenAI, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    router = await start_router({**tier_env("simple", fake), "LOG_PROMPTS": "1"})
    await router.chat(text='x\n2026 forged status=200 "\x1b[2J\x9b2J\u2028\x85')
    (line,) = logged(router, caplog, capfd).splitlines()
    assert "forged" in line
    assert line.isprintable()


async def test_metrics_do_not_grow_with_what_clients_and_providers_invent(router: Running, fake: FakeOpenAI) -> None:
    async def series() -> set[str]:
        async with router.client.get(router.url + "/metrics") as response:
            return {line.rpartition(" ")[0] for line in (await response.text()).splitlines() if line[0] != "#"}

    router.service.health.reconfigure(10_000, 0)
    fake.script(*(Status(code, {"error": {"message": "x", "code": f"made-up-{code}"}}) for code in range(430, 499)))
    for number in range(69):
        await router.chat()
        await router.chat(f"invented-{number}")
        for path in (f"/invented/{number}", f"/v1/models/{number}"):
            await read(router.client.get(router.url + path, headers={"x-request-id": f"id-{number}"}))
    after = await series()
    assert not [line for line in after if "invented" in line or "made-up" in line or "id-" in line]
    statuses = set(re.findall(r'status="(\d+)"', " ".join(after)))
    assert statuses <= {"200", "400", "401", "404", "413", "415", "422", "429", "499", "500", "502", "503", "504"}


# --- where we connect to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, status: int
) -> None:
    router = await start_router({**tier_env("simple", fake), "RETRIES": "0"})
    for location in (other.url + "/chat/completions", "file:///etc/passwd", "//169.254.169.254/latest/meta-data"):
        fake.script(Status(status, "", {"location": location}))
        for stream in (False, True):
            async with router.post({**CHAT, "stream": stream}) as response:
                assert response.status == 502
                assert "169.254" not in await response.text()
    assert other.requests == []


async def test_nothing_in_a_request_names_a_host_that_we_connect_to(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, other.root)
    router = await start_router(tier_env("simple", fake))
    where = other.url + "/pixel.png"
    fields = {
        "base_url": other.url,
        "api_base": other.url,
        "api_key": "x",
        "extra_headers": {"host": "evil"},
        "url": where,
    }
    parts = [{"type": "text", "text": where}, {"type": "image_url", "image_url": {"url": where}}]
    headers = {"x-base-url": other.url, "x-forwarded-host": other.root[7:], "x-portkey-custom-host": other.url}
    async with router.post({**CHAT, **fields, "messages": _said(parts)}, headers=headers) as response:
        assert response.status == 200
    absolute = f"GET {other.url}/models HTTP/1.1\r\nhost: {other.root[7:]}\r\nconnection: close\r\n\r\n"
    await raw(router, absolute.encode())
    await raw(router, f"CONNECT {other.root[7:]} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    assert other.requests == []
    assert len(fake.requests) == 1 and fake.last.path == "/v1/chat/completions"


# --- bombs from clients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_packed_bomb_is_413(
    start_router: Start, fake: FakeOpenAI, name: str, pack: Callable[[bytes], bytes]
) -> None:
    router = await start_router({**tier_env("simple", fake), "MAX_BODY_MB": "4"})
    bomb = pack(b" " * 200_000_000)
    before = _memory()
    for path in ("/v1/chat/completions", "/classify", "/feedback"):
        headers = {**JSON, "content-encoding": name}
        async with (
            aiohttp.ClientSession() as client,
            client.post(router.url + path, data=bomb, headers=headers) as response,
        ):
            assert response.status in (409, 413), path  # 409: /feedback without TRAINING_DATA reads nothing
    assert _memory() - before < 60_000_000
    assert (await router.chat())[0] == 200


async def test_many_packed_members_cost_little_time(router: Running) -> None:
    """Empty members make no output, so that no limit on size would stop them (GHSA-h4cc-hm5h-fmm9)."""
    bomb = gzip.compress(b"") * 100_000
    began = time.perf_counter()
    headers = {**JSON, "content-encoding": "gzip"}
    url = router.url + "/v1/chat/completions"
    async with aiohttp.ClientSession() as client, client.post(url, data=io.BytesIO(bomb), headers=headers) as response:
        assert response.status == 400
    assert time.perf_counter() - began < 5


async def test_a_damaged_packing_is_a_400(router: Running, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("gzip", "deflate"):
        headers = {**JSON, "content-encoding": name}
        url = router.url + "/v1/chat/completions"
        async with aiohttp.ClientSession() as client, client.post(url, data=b"no gzip", headers=headers) as response:
            assert response.status == 400
    assert (await router.chat())[0] == 200
    assert not [line for line in caplog.records if line.exc_info]


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"simple","messages":[{"role":"user","content":"x"}],"temperature":' + b"9" * 100_000 + b"}",
        b'{"model":"simple","messages":[{"role":"user","content":"x"}],"temperature":1e999999}',
        b'{"model":"simple","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"simple","messages":[{"role":"user","content":"x"}],' + b'"a":1,' * 200_000 + b'"b":1}',
        b'{"model":"simple","messages":['
        + b'{"role":"user","content":""},' * 100_000
        + b'{"role":"user","content":""}]}',
        b'{"model":"simple","model":"complex","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"simple","messages":[{"role":"user","content":"x"}],"tools":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"model":"virtusoul-v1","messages":[{"role":"user","content":"' + b"<system-reminder>" * 100_000 + b'"}]}',
    ],
    ids=["digits", "infinity", "half a surrogate", "many fields", "many messages", "two models", "nested", "tags"],
)
async def test_hostile_json_costs_no_500_and_little_time(router: Running, body: bytes) -> None:
    began = time.perf_counter()
    async with router.client.post(router.url + "/v1/chat/completions", data=io.BytesIO(body), headers=JSON) as response:
        assert response.status in (200, 400)
    assert time.perf_counter() - began < 5
    assert (await router.chat())[0] == 200


async def test_slow_clients_are_hung_up_on_and_delay_nobody(
    start_router: Start, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing, half a head, half a body: each connection ends by itself, and others are served meanwhile."""
    monkeypatch.setattr(http, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(server, "CLIENT_KEEPALIVE_SECONDS", 0.5)
    router = await start_router({**tier_env("simple", fake), "MAX_CONCURRENCY": "4"})
    body = b"POST /classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{"
    half = [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ", body]
    slow = [asyncio.create_task(raw(router, data, patience=15)) for data in half]
    assert (await router.chat())[0] == 200
    answers = await asyncio.gather(*slow)
    assert b" 400 " in answers[-1].split(b"\r\n")[0] and b"body_timeout" in answers[-1]
    assert router.service.in_flight == 0


# --- bombs from providers --------------------------------------------------------------------------------------------

HEAD = "HTTP/1.1 200 OK\r\ncontent-type: {}\r\nconnection: close\r\n{}\r\n"
STREAM, DOCUMENT = HEAD.format("text/event-stream", ""), HEAD.format("application/json", "")
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
PACKED = HEAD.format("{}", "content-encoding: gzip\r\n")


@asynccontextmanager
async def flood(head: str, *chunks: bytes) -> AsyncIterator[str]:
    """A provider that sends `head`, the chunks, and the last one for ever, as fast as it can; its base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode())
            for chunk in chunks[:-1]:
                writer.write(chunk)
            while True:
                writer.write(chunks[-1])
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    finally:
        listening.close()


HELD = "a role without content, again and again"
BOMBS: dict[str, tuple[str, list[bytes], bool]] = {
    "an event without end": (STREAM, [b"data: " + b"x" * 65536], True),
    "comments without end": (STREAM, [b": hi\n\n" * 5000], True),
    "damaged events without end": (STREAM, [b"data: {\n\n" * 5000], True),
    HELD: (STREAM, [ROLE * 500], True),
    "a body without end": (DOCUMENT, [b" " * 65536], False),
    "a body in place of a stream": (DOCUMENT, [b" " * 65536], True),
    "an error without end": (DOCUMENT.replace("200 OK", "500 No"), [b"x" * 65536], False),
    "headers without end": ("HTTP/1.1 200 OK\r\n", [b"x-a: " + b"y" * 4000 + b"\r\n"], False),
    "hints without end": ("", [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100], False),
    "a packed document": (PACKED.format("application/json"), [gzip.compress(b" " * 500_000_000)], False),
    "a packed event": (PACKED.format("text/event-stream"), [gzip.compress(b"data: " + b" " * 500_000_000)], True),
}


@pytest.mark.parametrize(
    "name",
    BOMBS,
)
async def test_a_provider_s_bomb_is_a_clean_error_in_bounded_memory(start_router: Start, name: str) -> None:
    head, chunks, stream = BOMBS[name]
    async with flood(head, *chunks) as url:
        env = {"SIMPLE_PROVIDER": "custom", "SIMPLE_MODEL": "m", "SIMPLE_BASE_URL": url}
        router = await start_router({**env, "TIMEOUT": "3", "RETRIES": "0", "COOLDOWN_FAILURES": "100"})
        peak = before = _memory()
        asking = asyncio.create_task(_ask(router, stream))
        while not asking.done():
            peak = max(peak, _memory())
            await asyncio.wait([asking], timeout=0.02)
    status, error = asking.result()
    assert status in (502, 504)
    assert error["error"]["type"] in ("upstream_error", "timeout_error")
    if name == HELD:  # what is held until the first content is bounded by its size, not by time alone
        assert error["error"]["code"] == "upstream_protocol"
    assert peak - before < 160_000_000  # the largest whole answer (64 MiB), twice while its parts are joined


async def test_an_answer_without_end_ends_at_the_deadline(start_router: Start) -> None:
    async with flood(STREAM, ROLE.replace(b'""', b'"word"') * 200) as url:
        env = {"SIMPLE_PROVIDER": "custom", "SIMPLE_MODEL": "m", "SIMPLE_BASE_URL": url}
        router = await start_router({**env, "TIMEOUT": "1"})
        before, last = _memory(), b""
        async with router.post({**CHAT, "stream": True}) as response:
            async for piece in response.content.iter_any():
                last = (last + piece)[-400:]
        assert b"stream_timeout" in last and b"[DONE]" not in last
        assert _memory() - before < 60_000_000


async def _ask(router: Running, stream: bool) -> tuple[int, Any]:
    async with router.post({**CHAT, "stream": stream}) as response:
        return response.status, await response.json()


# --- administration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/retrain", "/feedback"])
async def test_administration_takes_no_other_key(start_router: Start, fake: FakeOpenAI, path: str) -> None:
    router = await start_router({**tier_env("simple", fake), "API_KEY": "user", "ADMIN_API_KEY": "root"})
    for headers in ({}, {"authorization": "Bearer user"}, {"x-api-key": "user"}, {"cookie": "key=root"}):
        for query in ("", "?key=root", "?api_key=root"):
            async with router.post({}, path + query, headers=headers) as response:
                assert response.status == 401


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/classify", "/feedback", "/retrain"])
async def test_a_page_of_another_site_cannot_use_an_open_router(
    start_router: Start, fake: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """What browsers send across sites without asking first: forms, text, and bodies without a content type.

    https://fetch.spec.whatwg.org/#cors-safelisted-request-header
    """
    router = await start_router({**tier_env("simple", fake), "TRAINING_DATA": str(tmp_path / "data.jsonl")})
    trained = Mock(return_value=SimpleNamespace(as_dict=dict))
    monkeypatch.setattr("router.training.retrain", trained)
    site = {"origin": "https://evil.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    body = json.dumps({**CHAT, "text": "x", "tier": "simple"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        headers = {**site, "content-type": kind} if kind else site
        for data in (body, b""):
            request = router.client.post(
                router.url + path, data=data, headers=headers, skip_auto_headers=("content-type",)
            )
            async with request as response:
                assert 400 <= response.status < 500, (kind, data)
                assert "access-control-allow-origin" not in response.headers
    asked = {**site, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    async with router.client.options(router.url + path, headers=asked) as response:
        assert response.status == 405 and "access-control-allow-origin" not in response.headers
    assert fake.requests == []
    assert not trained.called and not (tmp_path / "data.jsonl").exists()


async def test_feedback_teaches_known_tiers_only_and_is_kept_private(
    start_router: Start, fake: FakeOpenAI, tmp_path: Path
) -> None:
    store = tmp_path / "data.jsonl"
    router = await start_router({**tier_env("simple", fake), "TRAINING_DATA": str(store)})
    for wrong in ({"tier": "root"}, {"tier": "simple\n"}, {"tier": ["simple"]}, {"text": " ", "tier": "simple"}):
        async with router.post({"text": "x", **wrong}, "/feedback") as response:
            assert response.status == 400
    forged = 'x"}\n{"text": "y", "tier": "reasoning"}'
    async with router.post({"text": forged, "tier": "simple"}, "/feedback") as response:
        assert response.status == 200
    (line,) = store.read_text().splitlines()
    assert json.loads(line) == {"text": forged, "tier": "simple"}
    assert store.stat().st_mode & 0o077 == 0


# --- artefacts and dependencies --------------------------------------------------------------------------------------


class _Owned:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (Path("owned"),)  # type: ignore[return-value]


def test_artefacts_hold_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "head.npz", weights=np.array([_Owned()], dtype=object))
    with pytest.raises((ArtifactError, ValueError)):
        Head.from_file(tmp_path / "head.npz")
    assert not (tmp_path / "owned").exists()


def test_artefacts_are_what_the_manifest_says(tmp_path: Path) -> None:
    publish(tmp_path, {"head": NewFile(b"weights", ".npz")}, {})
    path = read_manifest(tmp_path).verified("head")
    path.write_bytes(b"WEIGHTS")
    with pytest.raises(ArtifactError, match="SHA-256"):
        read_manifest(tmp_path).verified("head")
    for name in ("../head.npz", "/etc/passwd", "a/b", ".hidden", ""):
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        manifest["files"]["head"]["name"] = name
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ArtifactError):
            read_manifest(tmp_path).verified("head")


def test_the_server_runs_no_code_from_data() -> None:
    """No unpickling, evaluating, shells or template engines anywhere in the package."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "joblib", "torch", "yaml", "subprocess", "ctypes", "code"}
    for path in (ROOT / "router").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not forbidden & {alias.name.split(".")[0] for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in forbidden, path
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "compile", "os.system", "os.popen", "__import__"), path
                if called.endswith("np.load"):
                    assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords), path


def test_dependencies_have_safe_lower_bounds() -> None:
    """Each has one, and aiohttp's lies above its advisories on packed bodies (the last: GHSA-h4cc-hm5h-fmm9)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups() for line in project["dependencies"])  # type: ignore[union-attr,misc]
    assert len(bounds) == len(project["dependencies"])
    assert tuple(int(part) for part in bounds["aiohttp"].split(".")) >= (3, 14, 4)


def test_the_threat_model_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text()
    named = re.findall(r"`(\w+)::(\w+)`", text)
    assert len(named) > 40
    for module, name in named:
        path = f"{module}.py" if module.startswith("test_") else f"integration/test_{module}.py"
        assert name == "x" or f"def test_{name}(" in (ROOT / "tests" / path).read_text(), (module, name)
    for line in text.split("## Threats")[1].split("\n## ")[0].splitlines():
        assert not line.startswith("| ") or line.startswith(("| threat", "| ---")) or "::" in line, line


# --- small things ----------------------------------------------------------------------------------------------------


def _said(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def _memory() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
