"""The clients: streamed and not, smart and direct, some that leave early; each answer is held against its checksum."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

from bench import prompts
from bench.soak import answers
from bench.stage import SMART_MODEL
from bench.wire import ResponseReader, WireError, request_bytes, request_head

_MODELS = (SMART_MODEL, SMART_MODEL, "simple", "medium", "complex", "reasoning")
_STREAM_SHARE = 0.5
_LEAVE_SHARE = 0.05
# A client that leaves has waited at least until its request was read.
_LEAVE_AFTER_SECONDS = (0.05, 0.6)


@dataclass
class Tally:
    """What the clients saw. `statuses` of HTTP, of clients that stayed; `left`: clients that went away.

    `whole`: answers with the right checksum; `told`: streams that ended in an error event. The lists hold what must
    never happen: `truncated` answers passed off as complete, `wrong` ones, `stuck` requests, `odd` endings.
    """

    sent: int = 0
    left: int = 0
    whole: int = 0
    told: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    truncated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    @property
    def ended(self) -> int:
        return self.left + sum(self.statuses.values()) + len(self.stuck) + len(self.odd)


class Clients:
    """Sends at a rate until told to stop."""

    def __init__(self, url: str, rate: float, patience: float, seed: int = 1) -> None:
        """`rate` in requests per second; a request that takes longer than `patience` seconds is stuck."""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = request_head(
            "POST", f"{parts.path}/chat/completions", f"{self._host}:{self._port}", {"content-type": "application/json"}
        )
        self._rate = rate
        self._patience = patience
        self._rng = random.Random(seed)
        self._running: set[asyncio.Task[None]] = set()
        self.tally = Tally()

    @property
    def running(self) -> int:
        return len(self._running)

    async def run(self, end: float) -> None:
        """Until `end` (`time.monotonic`), and on until the last request is over."""
        due = time.monotonic()
        while (due := due + self._rng.expovariate(self._rate)) < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._one(self.tally.sent))
            self.tally.sent += 1
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        while self._running:
            await asyncio.wait(set(self._running))

    async def _one(self, number: int) -> None:
        rng = self._rng
        streamed = rng.random() < _STREAM_SHARE
        leaves = rng.uniform(*_LEAVE_AFTER_SECONDS) if rng.random() < _LEAVE_SHARE else None
        model = rng.choice(_MODELS)
        name = f"request {number} ({model}{', streamed' if streamed else ''})"
        body = orjson.dumps(
            {
                "model": model,
                "stream": streamed,
                "messages": [{"role": "user", "content": answers.prompt(number, prompts.unique(number))}],
            }
        )
        try:
            async with asyncio.timeout(self._patience):
                reader, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError) as error:
            self.tally.odd.append(f"{name}: cannot connect: {error!r}")
            return
        try:
            writer.write(request_bytes(self._head, body))
            await self._watch(name, number, streamed, leaves, reader)
        finally:
            with suppress(OSError):
                writer.transport.abort()

    async def _watch(
        self, name: str, number: int, streamed: bool, leaves: float | None, reader: asyncio.StreamReader
    ) -> None:
        tally = self.tally
        response = ResponseReader()
        body = b""
        try:
            async with asyncio.timeout(self._patience if leaves is None else leaves):
                while not response.done:
                    data = await reader.read(65536)
                    if not data:
                        break
                    body += response.feed(data)
        except TimeoutError:
            if leaves is None:
                tally.stuck.append(name)
            else:
                tally.left += 1
            return
        except (OSError, WireError) as error:
            tally.odd.append(f"{name}: {error!r}")
            return
        if not response.done and not response.eof():
            tally.odd.append(f"{name}: the connection ended inside a response, status {response.status}")
            return
        tally.statuses[response.status] += 1
        if response.status == 200:
            judge(tally, name, number, body, streamed)


def judge(tally: Tally, name: str, number: int, body: bytes, streamed: bool) -> None:
    """Counts one whole HTTP response with status 200 by what it holds."""
    try:
        text, complete, told = _read_stream(body) if streamed else (_read_whole(body), True, False)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        tally.wrong.append(f"{name}: unreadable: {error!r}")
        return
    expected = answers.text(number)
    if told:
        tally.told += 1
        if complete:
            tally.wrong.append(f"{name}: an end marker after an error")
    elif complete and text == expected:
        tally.whole += 1
    elif expected.startswith(text):
        marker = "with" if complete else "without"
        tally.truncated.append(f"{name}: {len(text)} of {len(expected)} characters, {marker} an end marker")
    else:
        tally.wrong.append(f"{name}: not the text that belongs to it: {text[:60]!r}")


def _read_whole(body: bytes) -> str:
    return str(orjson.loads(body)["choices"][0]["message"]["content"])


def _read_stream(body: bytes) -> tuple[str, bool, bool]:
    """Text, whether the end marker came, whether an error event came."""
    text: list[str] = []
    complete = told = False
    for block in body.split(b"\n\n"):
        if not block.startswith(b"data: "):
            continue
        data = block.removeprefix(b"data: ")
        if data == b"[DONE]":
            complete = True
            continue
        document = orjson.loads(data)
        told = told or "error" in document
        text += [choice["delta"].get("content") or "" for choice in document.get("choices", ())]
    return "".join(text), complete, told
