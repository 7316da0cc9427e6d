"""A whole answer's head is ours: what it says to clients of each HTTP version."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from tests.conftest import Running

BODY = orjson.dumps({"model": "simple", "messages": [{"role": "user", "content": "hi"}]})


async def exchange(router: Running, version: str, headers: str, times: int = 1) -> list[tuple[list[str], bytes]]:
    """Raw answers to the same request, sent `times` times over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(router.url.rpartition(":")[2]))
    answers = []
    for _ in range(times):
        writer.write(
            f"POST /v1/chat/completions HTTP/{version}\r\nhost: x\r\ncontent-type: application/json\r\n{headers}"
            f"content-length: {len(BODY)}\r\n\r\n".encode()
            + BODY
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        length = next(int(line.split(":")[1]) for line in head if line.lower().startswith("content-length"))
        answers.append((head, await reader.readexactly(length)))
    if "connection: close" in answers[-1][0]:
        assert await reader.read() == b""
    writer.close()
    return answers


@pytest.mark.parametrize(
    ("version", "headers", "said"),
    [
        ("1.1", "", None),
        ("1.1", "connection: close\r\n", "connection: close"),
        ("1.0", "", "connection: close"),
        ("1.0", "connection: keep-alive\r\n", "connection: keep-alive"),
    ],
)
async def test_the_connection_is_what_the_client_asked_for(
    router: Running, version: str, headers: str, said: str | None
) -> None:
    times = 1 if said == "connection: close" else 3
    for head, body in await exchange(router, version, headers, times):
        assert head[0] == f"HTTP/{version} 200 OK"
        assert [line for line in head if line.startswith("connection")] == ([said] if said else [])
        assert orjson.loads(body)["_virtusoul"]["tier"] == "simple"


async def test_the_head_is_complete(router: Running) -> None:
    [(head, _)] = await exchange(router, "1.1", "x-request-id: an-id\r\n")
    names = [line.partition(":")[0] for line in head[1:]]
    assert len(names) == len(set(names))
    assert {"content-type: application/json", "x-request-id: an-id", "x-virtusoul-tier: simple"} <= set(head)
    assert {"date", "x-virtusoul-routed-to", "x-virtusoul-latency-ms", "x-virtusoul-attempts"} <= set(names)
