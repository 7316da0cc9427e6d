"""Hundreds of slow streams at once: none mixed up, none damaged, nothing kept. Real processes: their memory is theirs.

The router and the provider are processes of their own; a stream is checked byte for byte by its digest.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.conftest import tier_env
from tests.fakes.openai import FakeOpenAI, Stream
from tests.integration.test_lifecycle import Process, Spawn, spawn

__all__ = ["spawn"]  # a fixture, used by its name


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Talker(FakeOpenAI):
    """Says to each client what only that client is told, slowly; how much of it is up to `words`."""

    words = 20
    pause = 0.1

    def next_step(self) -> Stream:
        name = self.last.json["user"]
        return Stream([f"{name}:{number} " for number in range(self.words)], delay=self.pause)

    def told(self, name: str) -> str:
        return "".join(f"{name}:{number} " for number in range(self.words))


async def listen(process: Process, client: aiohttp.ClientSession, name: str) -> tuple[str, bool]:
    """The digest of what one client heard, and whether its stream ended as a whole one does."""
    heard, ended, rest = hashlib.sha256(), False, b""
    body = {"model": "simple", "stream": True, "user": name, "messages": [{"role": "user", "content": f"I am {name}"}]}
    async with client.post(process.url + "/v1/chat/completions", json=body) as response:
        assert response.status == 200
        async for data in response.content.iter_any():
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                if event.startswith(b":"):
                    continue
                assert not ended and event.startswith(b"data: "), event
                if event == b"data: [DONE]":
                    ended = True
                    continue
                chunk = orjson.loads(event[6:])
                assert "error" not in chunk, chunk
                for choice in chunk["choices"]:
                    heard.update((choice["delta"].get("content") or "").encode())
    return heard.hexdigest(), ended and not rest


async def crowd(process: Process, talker: Talker, count: int, prefix: str) -> None:
    """`count` streams at once, each on a connection of its own, each checked."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
        names = [f"{prefix}-{number}-é" for number in range(count)]
        heard = await asyncio.gather(*(listen(process, client, name) for name in names))
    for name, (digest, whole) in zip(names, heard, strict=True):
        assert whole, f"{name} was cut"
        assert digest == hashlib.sha256(talker.told(name).encode()).hexdigest(), f"{name} heard something else"


@pytest.mark.parametrize(
    ("count", "words", "pause"),
    [(100, 20, 0.05), pytest.param(500, 60, 0.5, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
@pytest.mark.parametrize("recovery", ["error", "buffer"])
async def test_slow_streams_are_whole_and_leave_no_memory(
    spawn: Spawn, count: int, words: int, pause: float, recovery: str
) -> None:
    async with Talker() as talker:
        talker.words, talker.pause = words, pause
        process = await spawn({**tier_env("simple", talker), "STREAM_RECOVERY": recovery, "KEEPALIVE": "0.3"})
        talker.words, talker.pause = 5, 0.01
        for number in range(3):  # what a process that has seen such a crowd keeps for the next one
            await crowd(process, talker, count, f"warm-up {number}")
        talker.words, talker.pause = words, pause
        before = resident(process.popen.pid)
        peak = before
        talking = asyncio.create_task(crowd(process, talker, count, "stream"))
        while not talking.done():
            peak = max(peak, resident(process.popen.pid))
            await asyncio.wait([talking], timeout=0.1)
        await talking
        await asyncio.sleep(0.5)
        after = resident(process.popen.pid)
        print(f"{count} streams ({recovery}): {before / 1e6:.1f} MB, peak {peak / 1e6:.1f}, then {after / 1e6:.1f}")
        assert after < before * 1.1
        async with process.client.get(process.url + "/metrics") as response:
            text = await response.text()
        assert "virtusoul_in_flight 0.0" in text
        ended = 'virtusoul_requests_total{mechanism="direct",provider="custom",status="200",tier="simple"}'
        assert f"{ended} {float(4 * count)}" in text
    gc.collect()


async def test_a_worker_killed_under_load_takes_only_its_own_streams(spawn: Spawn) -> None:
    """Every stream of the other worker ends whole; those of the dead one are cut, not taken for whole."""
    async with Talker() as talker, AsyncExitStack() as stack:
        talker.words, talker.pause = 30, 0.05
        process = await spawn(tier_env("simple", talker), "--workers", "2")
        await process.until(lambda: _is(len(process.children()) == 2 and all(map(serves, process.children()))))
        await asyncio.sleep(0.3)
        names = [f"stream-{number}" for number in range(60)]
        clients = [await stack.enter_async_context(aiohttp.ClientSession()) for _ in names]
        talking = []
        for client, name in zip(clients, names, strict=True):
            talking.append(asyncio.create_task(listen(process, client, name)))
            await asyncio.sleep(0.01)  # of connections that come all at once, the worker that wakes first takes most
        await process.until(lambda: _is(len(talker.requests) == len(names)))
        os.kill(process.children()[0], signal.SIGKILL)
        heard: list[Any] = await asyncio.gather(*talking, return_exceptions=True)
        right = [
            (hashlib.sha256(talker.told(name).encode()).hexdigest(), True) == one
            for name, one in zip(names, heard, strict=True)
        ]
        wrong = [one for one, good in zip(heard, right, strict=True) if not good]
        assert all(isinstance(one, aiohttp.ClientError) for one in wrong), "cut off, and seen to be"
        assert sum(right) >= 5, "the other worker's streams did not notice"
        await process.until(lambda: _is(len(process.children()) == 2))
        await crowd(process, talker, 20, "afterwards")
        async with process.client.get(process.url + "/metrics") as response:
            text = await response.text()
        assert "virtusoul_in_flight 0.0" in text, "the dead worker's requests are in flight no more"


def serves(pid: int) -> bool:
    """Whether the worker has begun to serve: it holds metrics of its own. Until then the other one takes everything."""
    return f"_{pid}.db" in Path(f"/proc/{pid}/maps").read_text()


async def _is(value: bool) -> bool:
    return value
