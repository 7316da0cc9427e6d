"""A stream to the client: headers late, comments while it is silent, back-pressure from its slowness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from router.sse import KEEPALIVE

# A client that takes nothing of what waits for it for so long (seconds) has gone, whatever its socket says.
# nginx's `send_timeout` is 60 s: https://nginx.org/en/docs/http/ngx_http_core_module.html#send_timeout
STALLED_SECONDS = 120.0
# More than this waiting for a client, and its upstream waits with it.
_KEEPS_UP_BYTES = 64 * 1024


class Downstream:
    """One streamed response. Nothing is sent before `write`, or before `keepalive` seconds of silence.

    The first comment commits the status 200 and the headers known by then; from then on a failure can only be told
    inside the stream (`committed`).
    """

    def __init__(self, request: web.Request, headers: Callable[[], Mapping[str, str]], keepalive: float) -> None:
        """`headers` is asked when the response starts. `keepalive` in seconds; 0 = never."""
        self._request = request
        self._headers = headers
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._response: web.StreamResponse | None = None
        self._last_write = self._loop.time()
        self._writing = False  # the client is being waited for
        self._commenting: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None  # once a write went out, and the headers with it
        self._is_chunked = request.version >= HttpVersion11
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(keepalive or STALLED_SECONDS, self._tick)

    @property
    def committed(self) -> bool:
        return self._response is not None

    @property
    def response(self) -> web.StreamResponse:
        """What the handler returns, once something was written."""
        assert self._response is not None  # noqa: S101 - callers write first
        return self._response

    async def write(self, data: bytes) -> None:
        """Sends `data`; waits while the client reads more slowly than we write."""
        if self._commenting is not None:
            await self._commenting
        self._last_write = self._loop.time()
        self._writing = True
        response = self._response or await self._start()
        await response.write(data)
        self._writing = False
        self._transport = self._request.transport

    @property
    def ready(self) -> bool:
        """Whether `write_now` can be called: the stream has begun, and its client keeps up."""
        transport = self._transport
        return (
            transport is not None
            and not self._writing
            and self._commenting is None
            and not transport.is_closing()
            and transport.get_write_buffer_size() < _KEEPS_UP_BYTES
        )

    def write_now(self, data: bytes) -> None:
        """Sends `data` without waiting: everything that aiohttp's writer would look at is known once a stream runs."""
        transport = self._transport
        assert transport is not None  # noqa: S101 - `ready` was asked
        self._last_write = self._loop.time()
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def end(self) -> None:
        self._keepalive = 0
        self._transport = None  # what comes behind the end would be taken for the head of the next response
        self._last_write = self._loop.time()
        self._writing = True
        if self._commenting is not None:
            await self._commenting
        await self.response.write_eof()
        self._writing = False

    async def silence(self) -> None:
        """No more comments: the stream is ending, or another response is about to be sent instead."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._keepalive = 0
        if self._commenting is not None:
            await self._commenting

    async def _start(self) -> web.StreamResponse:
        headers: CIMultiDict[str] = CIMultiDict(self._headers())
        headers["content-type"] = "text/event-stream; charset=utf-8"
        headers["cache-control"] = "no-cache"
        headers["x-accel-buffering"] = "no"  # nginx in front of us would hold the stream back
        response = web.StreamResponse(headers=headers)
        if not self._is_chunked:
            response.force_close()  # nothing else can tell such a client where the stream ends
        self._response = response
        await response.prepare(self._request)
        return response

    def _tick(self) -> None:
        quiet = self._loop.time() - self._last_write
        if self._writing or self._commenting is not None:
            if quiet >= STALLED_SECONDS and self._request.transport is not None:
                self._request.transport.abort()  # the handler is cancelled by it
                return
            wait = min(self._keepalive or STALLED_SECONDS, STALLED_SECONDS - quiet)
        elif not self._keepalive:
            wait = STALLED_SECONDS
        elif quiet >= self._keepalive * 0.99:
            self._commenting = self._loop.create_task(self._comment())
            wait = self._keepalive
        else:
            wait = self._keepalive - quiet
        self._timer = self._loop.call_later(wait, self._tick)

    async def _comment(self) -> None:
        try:
            self._last_write = self._loop.time()
            response = self._response or await self._start()
            await response.write(KEEPALIVE)
        except (ConnectionError, RuntimeError):
            pass  # the client left; the handler is told by its own cancellation
        finally:
            self._commenting = None
