"""The faulty upstream: every second another fault strikes some of the tiers. A process of its own; prints its port.

A request's tier is known by the model that the router asks for (`bench-simple`, …). Within a second, the struck tiers
fail for a share of their requests, so that retries, fallbacks, circuits and their probes all have work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from collections import Counter
from contextlib import suppress

import uvloop

from bench.soak import answers

FAULTS = (
    "429", "500", "503", "reset", "silence", "slow first token", "cut", "stall", "malformed", "none",
)  # fmt: skip
_STRUCK_SHARE = 0.5  # of a struck tier's requests
_TIERS = ("simple", "medium", "complex", "reasoning")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model"\s*:\s*"bench-(\w+)"')
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_WORD_SECONDS = (0.001, 0.02)
_HEADERS = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n"
_REASONS = {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class Broken(Exception):
    """The connection is to be broken now."""


class Faulty:
    """One server. `slow`: seconds of a late first token, beyond the router's limit."""

    def __init__(self, slow: float, seed: int) -> None:
        self._slow = slow
        self._rng = random.Random(seed)
        self._second = -1
        self._fault = "none"
        self._struck: frozenset[str] = frozenset()
        self.injected: Counter[str] = Counter()

    def fault_for(self, tier: str) -> str:
        """What happens to a request of `tier` now."""
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._fault = FAULTS[second % len(FAULTS)]
            self._struck = frozenset(self._rng.sample(_TIERS, k=self._rng.randint(1, 3)))
        struck = tier in self._struck and self._rng.random() < _STRUCK_SHARE
        fault = self._fault if struck else "none"
        self.injected[fault] += 1
        return fault

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request by request."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                body = await reader.readexactly(int(found[1])) if found else b""
                model = _MODEL.search(body)
                fault = self.fault_for(model[1].decode() if model else "")
                await self._answer(fault, body, reader, writer)
        except Broken:
            writer.transport.abort()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            with suppress(Exception):
                writer.close()

    async def _answer(
        self, fault: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        number = answers.number_in(body) or 0
        if fault.isdigit():
            writer.write(_error(int(fault)))
        elif fault == "reset":
            raise Broken
        elif fault == "silence":
            await _until_gone(reader)
        elif _STREAM.search(body):
            await self._stream(fault, number, reader, writer)
        else:
            await self._whole(fault, number, reader, writer)
        await writer.drain()

    async def _whole(self, fault: str, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._slow if fault == "slow first token" else self._rng.uniform(0.002, 0.2))
        document = {
            "id": "chatcmpl-soak", "object": "chat.completion", "created": 1700000000, "model": "bench",
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": answers.text(number)}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
        }  # fmt: skip
        body = json.dumps(document).encode()
        if fault == "malformed":
            body = body[: len(body) // 2]
        writer.write(_HEADERS % (b"application/json", b"content-length: %d\r\n" % len(body)))
        if fault in ("cut", "stall"):
            writer.write(body[: len(body) // 2])
            await self._break(fault, reader, writer)
        writer.write(body)

    async def _stream(
        self, fault: str, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(_HEADERS % (b"text/event-stream", b"transfer-encoding: chunked\r\n"))
        pace = self._rng.uniform(*_WORD_SECONDS)
        words = answers.words(number)
        middle = self._rng.randrange(1, len(words))
        if fault == "slow first token":
            await asyncio.sleep(self._slow)
        writer.write(_event({"role": "assistant", "content": ""}))
        for index, word in enumerate(words):
            if index == middle and fault in ("cut", "stall"):
                await self._break(fault, reader, writer)
            if index == middle and fault == "malformed":
                writer.write(_chunk(b'data: {"choices": [{"delta": {"content": \n\n'))
            await asyncio.sleep(pace)
            writer.write(_event({"content": word}))
            await writer.drain()
        writer.write(_event({}, "stop") + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def _break(self, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.drain()
        if fault == "stall":
            await _until_gone(reader)
        await asyncio.sleep(0.02)  # what was written leaves first: an abort throws the send buffer away
        raise Broken


async def _until_gone(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass
    raise Broken


def _error(status: int) -> bytes:
    body = json.dumps({"error": {"message": f"injected {status}", "type": "server_error", "code": None}}).encode()
    wait = b"retry-after: 1\r\n" if status == 429 else b""
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status, _REASONS[status].encode(), wait, len(body), body
    )  # fmt: skip


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    document = {
        "id": "chatcmpl-soak", "object": "chat.completion.chunk", "created": 1700000000, "model": "bench",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }  # fmt: skip
    return _chunk(b"data: " + json.dumps(document).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _main(slow: float, seed: int) -> None:
    faulty = Faulty(slow, seed)
    server = await asyncio.start_server(faulty.serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The soak's faulty upstream.")
    parser.add_argument("--slow-seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    uvloop.run(_main(arguments.slow_seconds, arguments.seed))
