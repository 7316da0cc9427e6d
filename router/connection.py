"""One HTTP/1.1 connection to a provider: a request goes out, a response comes in, then the next one may.

The bytes are parsed by llhttp (`httptools`); here is what it leaves to its user: where an answer ends, and that one
which was cut is never taken for whole (RFC 9112, 6.3 and 8). A general client spends most of a short call's time on
cookies, redirects, proxies and sessions, none of which a router's way out has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# What a reader does not take is left in the socket from here on: the provider is slowed, not our memory filled.
HIGH_WATER_BYTES = 128 * 1024
# The same for everything else that is no body: heads of interim answers, what frames the chunks, trailers.
MAX_HEAD_BYTES = 64 * 1024
# Repeated headers of one name, joined: putting together tens of thousands would take longer than receiving them.
_MAX_JOINED_CHARS = 16 * 1024
# Larger bodies go out in pieces of this size, so that other requests get their turn in between.
PIECE_BYTES = 256 * 1024

_NEVER = float("inf")
UNANSWERED = "closed unanswered"  # in good order: so end connections that were idle (RFC 9112, 9.5)

Sink = Callable[[bytes], bool]
"""Takes what came; False: it could not, and nothing of it is gone."""


class Broken(Exception):
    """The connection ended, or sent what is no HTTP, before the answer was whole."""


class Silence(Exception):
    """Nothing came within the time that `expect` gave."""


class Home(Protocol):
    """Where a connection goes once its answer is whole, and another request may use it."""

    def take_back(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """`send` a request, wait for its `head`, then `next` until it says b"", or `close` at any time.

    `status` and `headers` (names in lower case, repeated ones joined by commas) are there after `head`. Whatever waits
    raises `Silence` once the time is up that `expect` gave.
    """

    __slots__ = (
        "_at_end", "_deadline", "_fires", "_framing", "_heard", "_home", "_idle_seconds", "_is_full", "_late",
        "_loop", "_nudged", "_parser", "_parts", "_paused", "_reusable", "_sink", "_size", "_timer", "_to_eof",
        "_transport", "_waiter", "_why", "has_head", "headers", "is_idle", "is_open", "status",
    )  # fmt: skip

    def __init__(self, home: Home, loop: asyncio.AbstractEventLoop) -> None:
        self._home = home
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._idle_seconds = self._deadline = _NEVER
        self._heard = self._fires = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._is_full = False  # what goes out does not get away as fast as it is written
        self._parts: deque[bytes] = deque()
        self.is_open = False
        self.is_idle = True
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.has_head = False
        self._framing = 0  # bytes since the last ones of a body
        self._size = 0  # of what waits in `_parts`
        self._paused = False
        self._to_eof = False  # the end of the connection is the end of the answer
        self._at_end = False
        self._reusable = False
        self._why = ""  # why the rest of the answer never comes
        self._late = False  # the time is up that `expect` gave
        self._sink: Sink | None = None
        self._nudged = False

    async def send(self, head: bytes, body: bytes) -> None:
        """One request; an answer ends it, whole or not. Raises `Broken` where the connection is gone, and `Silence`."""
        transport = self._transport
        if transport is None or not self.is_open:
            raise Broken("closed")
        self._reset()
        self.is_idle = False
        if len(body) <= PIECE_BYTES:
            transport.write(head + body)
            return
        transport.write(head)
        for start in range(0, len(body), PIECE_BYTES):
            if self.has_head:  # refused before it was all there
                self._reusable = False
                return
            self._check()
            transport.write(body[start : start + PIECE_BYTES])
            await asyncio.sleep(0)
            while self._is_full and not self.has_head:
                self._check()
                await self._more()

    def expect(self, idle: float, deadline: float) -> None:
        """From now on no wait may take longer than `idle` seconds, nor last past `deadline` (loop time)."""
        self._late = False
        self._idle_seconds, self._deadline, self._heard = idle, deadline, self._loop.time()
        self._watch()

    async def head(self) -> None:
        """Waits for the response's status and headers. Raises `Broken` and `Silence`."""
        while not self.has_head:
            self._check()
            await self._more()

    @property
    def is_whole(self) -> bool:
        """Whether the whole answer is here, read or not."""
        return self._at_end

    def pour(self, sink: Sink | None) -> None:
        """While `next` waits, what comes goes to `sink` (None: no more) at once, until it says that it cannot take it.

        Waking a reader takes longer than the rest of a small chunk's way. What was not taken comes out of `next`, and
        so does the end. `sink` must not raise.
        """
        self._sink = sink

    def nudge(self) -> None:
        """`next` returns, with b"": for a sink that has seen enough."""
        self._nudged = True
        self._wake()

    async def next(self) -> bytes:
        """What has come of the body; b"" at its end. Raises `Broken` where the end never comes, and `Silence`."""
        while True:
            if self._parts:
                return self.take()
            if self._at_end or self._nudged:
                self._nudged = False
                return b""
            self._check()
            await self._more()

    async def turn(self) -> None:
        """Everything else gets its turn: for readers that make much out of the little that came."""
        await asyncio.sleep(0)
        if self._late:
            raise Silence

    def take(self) -> bytes:
        """All that waits, without waiting for more."""
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._size = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """The exchange is over: the connection goes home if its answer is whole, and is cut off otherwise."""
        if self.is_idle:
            return
        self._sink = None
        transport = self._transport
        if (
            self._at_end
            and self._reusable
            and self.is_open
            and transport is not None
            and not transport.get_write_buffer_size()  # answered, and yet not all of the request was taken
        ):
            self._parts.clear()
            if self._paused:
                self._paused = False
                transport.resume_reading()
            self.is_idle = True
            self._idle_seconds = self._deadline = _NEVER
            self._home.take_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        self.is_idle = True
        self.is_open = False
        self._sink = None
        self._parts.clear()
        self._cut("closed")

    def _check(self) -> None:
        if self._why:
            raise Broken(self._why)
        if self._late:
            raise Silence

    async def _more(self) -> None:
        if self.has_head:
            self._heard = self._loop.time()  # only while somebody waits is silence the provider's, not our client's
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # One timer for a connection's life, which looks when it fires whether it is needed any more: a timer for every
    # request costs microseconds, and one for every chunk more than the chunk.
    def _watch(self) -> None:
        limit = min(self._heard + self._idle_seconds, self._deadline)
        if self._timer is not None:
            if self._fires <= limit:
                return
            self._timer.cancel()
            self._timer = None
        if limit < _NEVER:
            self._fires = limit
            self._timer = self._loop.call_at(limit, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()  # timers fire a little early at times: then `_watch` sets another
        waiter = self._waiter
        if (waiter is None or waiter.done()) and now < self._deadline:
            self._heard = now
        if now < min(self._heard + self._idle_seconds, self._deadline):
            self._watch()
        else:
            self._late = True
            self._wake()

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self.is_idle or self._parser is None:  # nobody asked: what it is worth cannot be known
            self.abort()
            return
        if self._at_end:  # bytes behind an answer would be taken for the next one's
            self._reusable = False
            return
        self._framing += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._cut(f"malformed HTTP ({type(error).__name__})")
            return
        if self._framing > MAX_HEAD_BYTES and not self._at_end:
            self._cut(f"more than {MAX_HEAD_BYTES} bytes of {'framing' if self.has_head else 'headers'}")
            return
        if self._size > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._sink is not None and self._parts and self._waiter is not None and self._poured(self._sink):
            return
        self._wake()

    def _poured(self, sink: Sink) -> bool:
        """Whether all that came is out of the way, and its reader need not be woken."""
        data = self.take()
        if sink(data):
            self._heard = self._loop.time()
            return not self._at_end
        self._sink, self._size = None, len(data)
        self._parts.append(data)
        return False

    def eof_received(self) -> bool:
        """The other side has ended what it says: unlike a connection that is lost, this can be an answer's end."""
        self.is_open = False
        if self.has_head and self._to_eof and not self._why:
            self._at_end = True
        elif not self._at_end and not self._why:
            self._why = "closed" if self.has_head or self._framing else UNANSWERED
        self._wake()
        return False  # the transport closes itself, and `connection_lost` follows

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._parser = None  # it refers back to us
        if not self._at_end and not self._why:
            self._why = "closed" if exc is None else type(exc).__name__
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()

    def _cut(self, why: str) -> None:
        if not self._at_end and not self._why:
            self._why = why
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # httptools' callbacks
    def on_message_begin(self) -> None:
        if self._at_end:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:  # trailers, or another answer behind the end of ours
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        known = self.headers.get(key)
        if known is not None and len(known) > _MAX_JOINED_CHARS:
            raise ValueError(key)
        self.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        if self._at_end:
            return
        assert self._parser is not None  # noqa: S101 - it is calling
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            return
        coding = self.headers.get("transfer-encoding", "").strip().lower()
        if coding not in ("", "chunked", "identity"):
            raise ValueError(coding)  # packed, and nobody asked for it: not to be taken for the body
        self.status = status
        self.has_head = True
        self._reusable = self._parser.should_keep_alive()
        self._to_eof = coding != "chunked" and "content-length" not in self.headers

    def on_body(self, data: bytes) -> None:
        if self._at_end:
            return
        self._framing = 0
        self._parts.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if not self.has_head:  # "100 Continue", "103 Early Hints": the answer is still to come
            self.headers = {}
            return
        self._at_end = True
