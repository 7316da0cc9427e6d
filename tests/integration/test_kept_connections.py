"""A provider closes a connection that it kept open for us, just as the next request goes out on it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.conftest import Running, Start

ANSWER = json.dumps({"choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}).encode()
GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
# What comes instead of the answer to the second request on a connection, before it is closed.
RESET = b"reset"


class Provider:
    """Answers the first request of every connection, and `ends` every second one."""

    def __init__(self, end: bytes, first: bytes = GOOD) -> None:
        self.end, self.first = end, first
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._request(reader)
            writer.write(self.first)
            if self.first == GOOD:
                await self._request(reader)
                if self.end == RESET:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                else:
                    writer.write(self.end)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the router closed it
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        self.asked += 1


@asynccontextmanager
async def routed(start_router: Start, provider: Provider) -> AsyncIterator[Running]:
    async with await asyncio.start_server(provider.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = {"SIMPLE_PROVIDER": "custom", "SIMPLE_MODEL": "m", "SIMPLE_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        yield await start_router({**settings, "RETRIES": "0", "COOLDOWN_FAILURES": "1"})


async def test_a_connection_that_was_closed_while_idle_costs_no_attempt(start_router: Start) -> None:
    provider = Provider(b"")
    async with routed(start_router, provider) as router:
        for _ in range(4):
            status, body = await router.chat()
            assert (status, body["_virtusoul"]["attempts"]) == (200, 1)
        assert await router.metric('virtusoul_circuit_open{tier="simple"}') == 0
    assert provider.asked == 7, "the first of each connection, and each second one but the last anew"


@pytest.mark.parametrize("end", [RESET, b"HTTP/1.1 200 OK\r\ncont", b"H"], ids=["reset", "in the headers", "one byte"])
async def test_a_connection_that_broke_is_a_fault_all_the_same(start_router: Start, end: bytes) -> None:
    provider = Provider(end)
    async with routed(start_router, provider) as router:
        assert (await router.chat())[0] == 200
        status, body = await router.chat()
    assert (status, body["error"]["code"], provider.asked) == (502, "upstream_reset", 2)


async def test_a_new_connection_that_is_closed_unanswered_is_a_fault(start_router: Start) -> None:
    provider = Provider(b"", first=b"")
    async with routed(start_router, provider) as router:
        status, body = await router.chat()
    assert (status, body["error"]["code"], provider.asked) == (502, "upstream_reset", 1)
