"""The load generator: a process of its own that takes jobs as JSON lines on stdin and answers on stdout.

Raw protocol on uvloop with keep-alive connections, about 40 µs of CPU per whole answer, so that it is not what is
measured; every result says what it cost. Latencies in an open loop count from the moment a request was *due*, so a
server that falls behind cannot hide it (coordinated omission: Tene, "How NOT to Measure Latency").
"""

from __future__ import annotations

import asyncio
import gc
import random
import re
import ssl
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from time import perf_counter, perf_counter_ns
from typing import cast

import numpy as np
import orjson
import uvloop

from bench import prompts
from bench.jobs import Job, Result
from bench.wire import ResponseReader, WireError, request_bytes, request_head

_STAMP = re.compile(rb"@(\d{19})@")
# How long after its end a job waits for answers that are still due before it gives them up.
_PATIENCE_SECONDS = 5.0
_CONNECT_SECONDS = 10.0


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, done: Callable[[Connection, str], None], chunk: Callable[[Connection, int, int], None]) -> None:
        """`done(connection, error)` after every answer; `error` is empty for a good one.

        `chunk(connection, stamp, now)`, both in ns, for every time stamp in a stream.
        """
        self._done = done
        self._chunk = chunk
        self._reader = ResponseReader()
        self._transport: asyncio.Transport | None = None
        self._tail = b""
        self.busy = False
        self.due = 0.0
        self.sent = 0.0
        self.first = 0.0

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it

    def send(self, data: bytes, due: float) -> None:
        """Sends a request that was due at `due` (`perf_counter`)."""
        assert self._transport is not None  # noqa: S101 - callers ask `usable` first
        self._reader.reset()
        self._tail = b""
        self.busy = True
        self.due = due
        self.first = 0.0
        self.sent = perf_counter()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        now = perf_counter_ns()
        if not self.busy:
            return
        try:
            body = self._reader.feed(data)
        except WireError as error:
            self.close()
            return self._finish(str(error))
        if self._tail or b"@" in body:
            self._read_stamps(self._tail + body, now)
        if self._reader.done:
            if self._reader.closing:
                self.close()
            self._finish("" if self._reader.status == 200 else f"status {self._reader.status}")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.busy:
            self._finish("" if self._reader.eof() and self._reader.status == 200 else "connection lost")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _read_stamps(self, text: bytes, now: int) -> None:
        end = 0
        for found in _STAMP.finditer(text):
            self._chunk(self, int(found[1]), now)
            end = found.end()
        # A stamp may be split over two reads; one that was read must not be read again.
        cut = text.find(b"@", max(end, len(text) - 20))
        self._tail = text[cut:] if cut >= 0 else b""

    def _finish(self, error: str) -> None:
        self.busy = False
        self._done(self, error)


class Load:
    """Runs one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._host, self._port, path, self._secure = job.where()
        headers = {"content-type": "application/json", **job.headers}
        self._head = request_head("POST", path, f"{self._host}:{self._port}", headers)
        hint = f"drip={job.drip[0]}x{job.drip[1]} " if job.drip else ""
        stream = b',"stream":true' if job.drip else b""
        self._before = b'{"model":%b%b,"messages":[{"role":"user","content":"%b' % (
            orjson.dumps(job.model), stream, hint.encode()
        )  # fmt: skip
        self._number = job.first
        self._latencies: list[float] = []
        self._firsts: list[float] = []
        self._delays: list[int] = []
        self._late: list[float] = []
        self._errors: Counter[str] = Counter()
        self._connections: list[Connection] = []
        self._idle: deque[Connection] = deque()
        self._waiting: deque[float] = deque()  # open loop: due times of requests that have no connection yet
        self._opening: set[asyncio.Task[None]] = set()
        self._start = self._end = 0.0

    async def run(self) -> Result:
        job = self._job
        await asyncio.gather(*(self._connect() for _ in range(job.concurrency)))
        discard = max(job.discard, job.stream_seconds)
        began = perf_counter()
        self._start = began + discard
        self._end = self._start + job.seconds
        cpu = time.process_time()
        if job.kind == "closed":
            await self._closed(job.stream_seconds)
        else:
            await self._open()
        cpu = time.process_time() - cpu
        unserved = sum(connection.busy for connection in self._connections) + len(self._waiting)
        for connection in self._connections:
            connection.busy = False
            connection.close()
        await asyncio.sleep(0)
        return Result(
            latencies=np.array(self._latencies) * 1e3,
            firsts=np.array(self._firsts) * 1e3,
            delays=np.array(self._delays, dtype=np.float64) / 1e6,
            late=np.array(self._late) * 1e3,
            seconds=job.seconds,
            used=self._number - job.first,
            cpu=cpu,
            unserved=unserved if job.kind == "open" else 0,
            errors=self._errors,
        )

    async def _closed(self, spread: float) -> None:
        # Streams that all start together would drip together; a crowd's do not.
        loop = asyncio.get_running_loop()
        clients = list(self._connections)
        for index, connection in enumerate(clients):
            loop.call_later(index / len(clients) * spread, self._next, connection, "")
        await asyncio.sleep(max(0.0, self._end - perf_counter()))
        # Streams that still run are cut: their chunks and first bytes so far are counted.
        if not self._job.drip:
            await self._quiet()

    async def _open(self) -> None:
        """Arrivals from a thread of its own: the loop's timers are only good to a millisecond."""
        loop = asyncio.get_running_loop()
        rng = random.Random(self._number)
        self._idle.extend(self._connections)

        def pace() -> None:
            due = perf_counter()
            while (due := due + rng.expovariate(self._job.rate)) < self._end:
                if (wait := due - perf_counter()) > 0:
                    time.sleep(wait)
                loop.call_soon_threadsafe(self._arrive, due)

        thread = threading.Thread(target=pace, daemon=True)
        thread.start()
        await asyncio.sleep(max(0.0, self._end - perf_counter()))
        thread.join()
        await self._quiet()

    async def _quiet(self) -> None:
        """Waits until the answers that are still due have come, or patience ends."""
        give_up = perf_counter() + _PATIENCE_SECONDS
        # Polled: an event would cost every answer a check.
        while perf_counter() < give_up and (self._waiting or any(each.busy for each in self._connections)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if self._secure else None
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                lambda: Connection(self._on_done, self._on_chunk), self._host, self._port, ssl=context
            )
        self._connections.append(connection)

    def _arrive(self, due: float) -> None:
        while self._idle:
            connection = self._idle.popleft()
            if connection.usable:
                return self._send(connection, due)
        self._waiting.append(due)
        self._open_another()
        return None

    def _open_another(self) -> None:
        task = asyncio.get_running_loop().create_task(self._add())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _add(self) -> None:
        try:
            await self._connect()
        except (OSError, TimeoutError):
            self._errors["cannot connect"] += 1
            if self._job.kind == "open" and self._waiting:
                self._waiting.popleft()
            return
        self._free(self._connections[-1])

    def _free(self, connection: Connection) -> None:
        if self._job.kind == "closed":
            self._next(connection, "")
        elif self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _on_done(self, connection: Connection, error: str) -> None:
        now = perf_counter()
        if error:
            self._errors[error] += 1
        # A sample belongs to the measured stretch when its answer came in it (closed) or it was due in it (open).
        elif self._start <= (now if self._job.kind == "closed" else connection.due) < self._end:
            self._latencies.append(now - connection.due)
            self._late.append(connection.sent - connection.due)
        if self._job.kind == "closed":
            self._next(connection, error)
        elif connection.usable:
            self._free(connection)

    def _on_chunk(self, connection: Connection, stamp: int, now: int) -> None:
        seconds = now / 1e9
        measured = self._start <= seconds < self._end
        if measured:
            self._delays.append(now - stamp)
        if not connection.first:
            connection.first = seconds
            if measured:
                self._firsts.append(seconds - connection.due)

    def _next(self, connection: Connection, error: str) -> None:
        """The client's next request; a lost connection is replaced, a failing server not hammered."""
        if perf_counter() >= self._end:
            return
        if not connection.usable:
            self._open_another()
        elif error:
            asyncio.get_running_loop().call_later(0.01, self._next, connection, "")
        else:
            self._send(connection, perf_counter())

    def _send(self, connection: Connection, due: float) -> None:
        text = prompts.make(self._job.prompt, self._number)
        self._number += 1
        body = b'%b%b"}]}' % (self._before, text.encode())  # these prompts hold nothing that JSON would escape
        connection.send(request_bytes(self._head, body), due)


def main() -> None:
    """Until stdin ends. A job that cannot be run answers `{"failed": why}`."""
    gc.freeze()
    for line in sys.stdin.buffer:
        try:
            job = Job.from_dict(orjson.loads(line))
            answer = uvloop.run(Load(job).run()).as_dict()
        except (OSError, TimeoutError) as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
