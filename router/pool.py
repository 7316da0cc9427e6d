"""Connections to providers, kept open between requests: the last one used is the next one taken."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import NamedTuple, cast

import aiohappyeyeballs

from router.connection import Connection

# Below the idle limits of the providers' load balancers.
IDLE_SECONDS = 60.0
# So many idle connections an origin may keep for that long. What a burst left beyond them goes after a few seconds:
# long enough for the next wave of the same burst to find it, short enough to give the sockets back.
KEPT = 32
SURPLUS_SECONDS = 2.0
# How long a name's addresses are believed.
DNS_SECONDS = 60.0
# RFC 8305, 5: how long one address family has before the other is tried, too.
_NEXT_ADDRESS_SECONDS = 0.25

Addresses = list[aiohappyeyeballs.AddrInfoType]


class Origin(NamedTuple):
    """Where a connection leads; `host` as it stands in a URL, without brackets."""

    host: str
    port: int
    tls: bool


class _Kept(NamedTuple):
    since: float
    connection: Connection


class Shelf:
    """The idle connections of one origin."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self._loop = loop
        self._kept: list[_Kept] = []  # the oldest first
        self._trim: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self) -> Connection | None:
        """The youngest that is still open."""
        while self._kept:
            since, connection = self._kept.pop()
            if connection.is_open and self._loop.time() - since < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    def take_back(self, connection: Connection) -> None:
        if self._closed:
            connection.abort()
            return
        self._kept.append(_Kept(self._loop.time(), connection))
        if len(self._kept) > KEPT and self._trim is None:
            self._trim = self._loop.call_later(SURPLUS_SECONDS, self._let_go)

    def sweep(self, idle: float) -> None:
        """Closes what was not used for `idle` seconds, and forgets what the other side closed."""
        oldest = self._loop.time() - idle
        kept: list[_Kept] = []
        for one in self._kept:
            if one.connection.is_open and one.since > oldest:
                kept.append(one)
            else:
                one.connection.abort()
        self._kept = kept

    def close(self) -> None:
        """From now on nothing is kept: what still is in use is closed once it comes back."""
        self._closed = True
        if self._trim is not None:
            self._trim.cancel()
        self.sweep(0.0)

    def _let_go(self) -> None:
        """Closes those beyond `KEPT` that were not used for `SURPLUS_SECONDS`, and looks again while there are more."""
        surplus = len(self._kept) - KEPT
        oldest = self._loop.time() - SURPLUS_SECONDS
        going = [one for one in self._kept[: max(surplus, 0)] if one.since <= oldest]
        del self._kept[: len(going)]
        for one in going:
            one.connection.abort()
        more = surplus > len(going)
        self._trim = self._loop.call_later(SURPLUS_SECONDS, self._let_go) if more else None


class Pool:
    """All shelves. Create inside a running loop; `close` at the end. Permits bound the requests, so it has no limit."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._shelves: dict[Origin, Shelf] = {}
        self._known: dict[tuple[str, int], tuple[float, asyncio.Task[Addresses]]] = {}
        self._tls: ssl.SSLContext | None = None
        self._sweeper = self._loop.call_later(IDLE_SECONDS / 2, self._sweep)

    def shelf(self, origin: Origin) -> Shelf:
        """The shelf of `origin`, for `take` before `connect`."""
        found = self._shelves.get(origin)
        if found is None:
            found = self._shelves[origin] = Shelf(origin, self._loop)
        return found

    async def connect(self, shelf: Shelf, timeout: float) -> Connection:
        """A new connection. Raises `OSError`: `ssl.SSLError`, or `TimeoutError` after `timeout` seconds."""
        host, port, tls = shelf.origin
        try:
            async with asyncio.timeout(timeout):
                sock = await self._reach(host, port)
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    _, connection = await self._loop.create_connection(
                        lambda: Connection(shelf, self._loop),
                        sock=sock,
                        ssl=self._context() if tls else None,
                        server_hostname=host if tls else None,
                    )
                except BaseException:
                    sock.close()
                    raise
        except OSError:
            raise
        except (ValueError, RuntimeError) as error:  # a name that can be none; uvloop's word for a socket in use
            raise OSError(str(error)) from error
        return connection

    async def close(self) -> None:
        self._sweeper.cancel()
        for shelf in self._shelves.values():
            shelf.close()
        for _, task in self._known.values():
            task.cancel()
        await asyncio.sleep(0)  # the transports get their turn to close

    def _sweep(self) -> None:
        for shelf in self._shelves.values():
            shelf.sweep(IDLE_SECONDS)
        self._sweeper = self._loop.call_later(IDLE_SECONDS / 2, self._sweep)

    async def _reach(self, host: str, port: int) -> socket.socket:
        addresses = await self._resolve(host, port)
        try:
            return await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, loop=self._loop
            )
        except BaseException:
            self._known.pop((host, port), None)  # the name may have moved; timeouts come as a cancellation
            raise

    async def _resolve(self, host: str, port: int) -> Addresses:
        """The addresses of `host`: asked once for all that wait for them, and again after DNS_SECONDS."""
        now = self._loop.time()
        until, task = self._known.get((host, port), (0.0, None))
        if task is None or now >= until:
            task = self._loop.create_task(self._look_up(host, port))
            task.add_done_callback(lambda done: self._looked_up(host, port, done))
            self._known[host, port] = (now + DNS_SECONDS, task)
        return await asyncio.shield(task)  # one caller that gives up must not take the answer from the rest

    def _looked_up(self, host: str, port: int, task: asyncio.Task[Addresses]) -> None:
        # Here, as all callers may have given up by now. A failure is told to those that wait for it, and forgotten.
        if task.cancelled() or task.exception() is not None:
            _, known = self._known.get((host, port), (0.0, None))
            if known is task:
                del self._known[host, port]

    async def _look_up(self, host: str, port: int) -> Addresses:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return cast(Addresses, found)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls
