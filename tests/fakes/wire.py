"""A server that says byte for byte what a test tells it, and connections of ours that count what they hear.

    async with serving(script) as port:
        connection = await dial(port, Home())

The script is called for every connection that comes; what it raises beside `ConnectionError` fails the test.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import uvloop

from router.connection import Connection

# Both event loops: serving runs on uvloop, and asyncio's own is what everybody else's code was tried on.
POLICIES = {"asyncio": asyncio.DefaultEventLoopPolicy, "uvloop": uvloop.EventLoopPolicy}


class Peer:
    """The server's end of one connection. `number` counts the connections, from 0."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def request(self) -> bytes:
        """The body of the next request."""
        head = await self.head()
        length = re.search(rb"content-length: (\d+)", head)
        return await self.reader.readexactly(int(length[1]) if length else 0)

    async def head(self) -> bytes:
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionError from error

    async def say(self, data: bytes) -> None:
        """Sends `data`; waits while the other end does not take it."""
        self.writer.write(data)
        await self.writer.drain()

    async def flood(self, piece: bytes) -> None:
        """Sends `piece` until the other end has enough."""
        while True:
            await self.say(piece)
            await asyncio.sleep(0)

    def end(self) -> None:
        """Says that nothing more will come, and still listens."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Tears the connection down, as a process does that dies."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Waits until the other end has closed."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script, host: str = "127.0.0.1", **options: Any) -> AsyncIterator[int]:
    """Serves `script` on the port that it gives; what still runs at the end is cancelled."""
    tasks: list[asyncio.Task[None]] = []

    async def run(peer: Peer) -> None:
        try:
            await script(peer)
        except ConnectionError:
            pass
        finally:
            peer.writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(run(Peer(reader, writer, len(tasks)))))

    server = await asyncio.start_server(accept, host, options.pop("port", 0), **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        await asyncio.sleep(0.001)  # the transports get their turn to close


class Home:
    """Where whole connections come back to."""

    def __init__(self) -> None:
        self.back: list[Connection] = []

    def take_back(self, connection: Connection) -> None:
        self.back.append(connection)


class Watched(Connection):
    """Counts the bytes that it was given."""

    heard = 0

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)
        super().data_received(data)


async def dial(port: int, home: Home, **options: Any) -> Watched:
    """A connection to a local server. `options` go to `create_connection`."""
    loop = asyncio.get_running_loop()
    target: tuple[Any, ...] = () if "sock" in options else ("127.0.0.1", port)
    _, connection = await loop.create_connection(lambda: Watched(home, loop), *target, **options)
    return connection


async def ask(connection: Connection, body: bytes = b"") -> None:
    """Sends one request, and waits for the answer's head."""
    await connection.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n\r\n" % len(body), body)
    await connection.head()


async def rest(connection: Connection) -> bytes:
    """What is left of the answer's body."""
    parts = []
    while part := await connection.next():
        parts.append(part)
    return b"".join(parts)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


class Wire(asyncio.Transport):
    """A transport that leads nowhere, for what needs neither sockets nor time."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.waiting = 0  # bytes that the other end did not take yet
        self.is_paused = self.is_aborted = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def abort(self) -> None:
        self.is_aborted = True


@contextmanager
def wired(home: Home, loop: Any = None) -> Iterator[tuple[Connection, Wire]]:
    """A connection on a `Wire`; a test plays the other end, by calling the protocol's methods."""
    connection = Connection(home, loop or asyncio.get_running_loop())
    wire = Wire()
    connection.connection_made(wire)
    try:
        yield connection, wire
    finally:
        connection.connection_lost(None)
