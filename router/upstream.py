"""The only way out: one attempt of one target; what goes wrong on the wire becomes an `UpstreamError` here.

The seam is two classes wide (`Upstream.send`, `Response`), so that a fake is forty lines.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from router.chat import Chat
from router.config import Target
from router.connection import UNANSWERED, Broken, Connection, Silence, Sink
from router.errors import Failure, UpstreamError
from router.inflater import Inflater
from router.pool import Origin, Pool, Shelf
from router.providers import Dialect
from router.providers.dialect import Outgoing
from router.providers.echo import Echo
from router.providers.failures import not_the_dialect

# A whole answer larger than this is a fault: the longest real ones (images in base64) stay far below.
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
# How long an ended stream may take to close its connection, so that the pool gets it back.
_DRAIN_SECONDS = 0.2
# RFC 3986, 3.3, and the percent sign of what the operator encoded already.
_PATH_SAFE = "/%:@!$&'()*+,;=~-._"
_NEVER = float("inf")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Response(Protocol):
    """An upstream response whose headers are here. `close` is safe to call at any time, and more than once."""

    status: int
    headers: Mapping[str, str]

    def received(self, limit: int = MAX_RESPONSE_BYTES) -> bytes | None:
        """The whole body if it is all here already: no timer, no wait. Raises `UpstreamError` (too large)."""
        ...

    async def read(self, idle: float, limit: int = MAX_RESPONSE_BYTES) -> bytes:
        """The whole body; `idle` seconds of silence are too many. Raises `UpstreamError`."""
        ...

    async def next(self) -> bytes:
        """The next bytes, as they came; b"" at the end. Raises `UpstreamError` for a broken connection.

        With `expect`, also (SILENT) when nothing came in time.
        """
        ...

    def expect(self, idle: float, deadline: float) -> None:
        """From now on `next` waits for at most `idle` seconds, and not past `deadline` (loop time)."""
        ...

    def pour(self, sink: Sink) -> None:
        """While `next` waits, bytes may go to `sink` as they come; what it does not take comes out of `next`."""
        ...

    def nudge(self) -> None:
        """`next` returns, with b"", although it is not the end: for a sink that has seen enough."""
        ...

    def finish(self) -> None:
        """The stream said that it is over: give the connection back to the pool if it really is, and soon."""
        ...

    def close(self) -> None: ...


class _Route(NamedTuple):
    """What every request to one target and path has in common."""

    target: Target
    shelf: Shelf
    head: bytes  # request line and fixed headers


class Upstream:
    """The way out. Create inside a running loop; `close` at the end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = Pool()
        self._routes: dict[tuple[int, str], _Route] = {}
        self._draining: set[asyncio.Task[None]] = set()

    async def send(
        self,
        target: Target,
        dialect: Dialect,
        outgoing: Outgoing,
        chat: Chat | None,
        *,
        request_id: str,
        stream: bool,
        until: float,
    ) -> Response:
        """Sends one attempt and waits for the response's headers.

        Raises `UpstreamError`, and `TimeoutError` where they are not here at `until` (loop time). For what follows
        there is no limit but `Response.expect`.
        """
        if isinstance(dialect, Echo):
            if chat is None:
                raise not_the_dialect(target, "nothing: the embedded echo only chats")
            return _EmbeddedResponse(dialect, chat, target, stream)
        route = self._routes.get((id(target), outgoing.path))
        if route is None or route.target is not target:
            route = self._route(target, dialect, outgoing.path)
        more = _header_lines(outgoing.headers) if outgoing.headers else b""
        head = b"%bx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n" % (
            route.head, request_id.encode(), more, len(outgoing.body)
        )  # fmt: skip
        connection = route.shelf.take()
        while True:
            is_fresh = connection is None
            if connection is None:
                patience = max(0.0, min(target.connect_timeout, until - self._loop.time()))
                try:
                    connection = await self._pool.connect(route.shelf, patience)
                except (OSError, ssl.SSLError) as error:  # TimeoutError is an OSError
                    raise _unreachable(error, target, patience) from error
            try:
                connection.expect(_NEVER, until)
                await connection.send(head, outgoing.body)
                await connection.head()
                break
            except Silence:
                connection.close()
                raise TimeoutError from None
            except Broken as error:
                connection.close()
                if is_fresh or str(error) != UNANSWERED:
                    raise _reset(error, target) from error
                connection = None  # kept for too long: that is between us and the pool, and no fault of the target's
            except BaseException:
                connection.close()
                raise
        if 300 <= connection.status < 400:
            status = connection.status
            connection.close()
            raise not_the_dialect(target, f"a redirect (status {status}), which is never followed")
        return _HttpResponse(connection, target, self._draining)

    async def close(self) -> None:
        for task in self._draining:
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)
        await self._pool.close()

    def _route(self, target: Target, dialect: Dialect, path: str) -> _Route:
        if len(self._routes) > 256:  # targets of configurations that were replaced
            self._routes.clear()
        parts = urlsplit(target.base_url + path)
        host = parts.hostname or ""
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        named = f"[{host}]" if ":" in host else host if host.isascii() else host.encode("idna").decode()
        headers = {
            "host": named if port == (443 if tls else 80) else f"{named}:{port}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "accept-encoding": "identity",
            "user-agent": "virtusoul-router",
            **dialect.headers(target),
        }
        line = f"POST {quote(parts.path, safe=_PATH_SAFE)} HTTP/1.1\r\n".encode()
        shelf = self._pool.shelf(Origin(named.strip("[]"), port, tls))
        route = self._routes[id(target), path] = _Route(target, shelf, line + _header_lines(headers))
        return route


def _header_lines(headers: Mapping[str, str]) -> bytes:
    # A control character would end the line, and begin another header.
    lines = [f"{name}: {_CONTROL.sub(' ', value)}\r\n" for name, value in headers.items()]
    return "".join(lines).encode("utf-8", "replace")


class _HttpResponse:
    __slots__ = (
        "_closed",
        "_connection",
        "_draining",
        "_inflater",
        "_target",
        "headers",
        "status",
    )

    def __init__(self, connection: Connection, target: Target, draining: set[asyncio.Task[None]]) -> None:
        """`draining` holds the tasks that see to the ends of finished streams."""
        self._connection = connection
        self._draining = draining
        self._target = target
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        packed = connection.headers.get("content-encoding")  # not asked for, and sent all the same by some proxies
        self._inflater = Inflater(packed) if packed and packed.lower() != "identity" else None
        self._closed = False

    def received(self, limit: int = MAX_RESPONSE_BYTES) -> bytes | None:
        if not self._connection.is_whole or self._inflater is not None:
            return None
        whole = self._connection.take()
        if len(whole) > limit:
            raise not_the_dialect(self._target, f"more than {limit} bytes")
        return whole

    async def read(self, idle: float, limit: int = MAX_RESPONSE_BYTES) -> bytes:
        parts: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        self._connection.expect(_NEVER, _NEVER)
        try:
            async with asyncio.timeout(idle) as patience:
                while part := await self._part():
                    size += len(part)
                    if size > limit:
                        raise not_the_dialect(self._target, f"more than {limit} bytes")
                    parts.append(part)
                    patience.reschedule(loop.time() + idle)
        except TimeoutError as error:
            raise silent(self._target, "fell silent inside its answer") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def next(self) -> bytes:
        try:
            return await self._part()
        except Silence:
            raise silent(self._target, "fell silent inside its stream") from None

    async def _part(self) -> bytes:
        try:
            if self._inflater is None:
                return await self._connection.next()
            return await self._inflater.next(self._connection)
        except Broken as error:
            raise _reset(error, self._target) from error

    def expect(self, idle: float, deadline: float) -> None:
        self._connection.expect(idle, deadline)

    def pour(self, sink: Sink) -> None:
        if self._inflater is None:
            self._connection.pour(sink)

    def nudge(self) -> None:
        self._connection.nudge()

    def finish(self) -> None:
        if self._closed:
            return
        if self._connection.is_whole:
            self.close()
            return
        # The client has its answer, and does not wait for the last bytes of HTTP.
        self._closed = True
        self._connection.pour(None)
        task = asyncio.get_running_loop().create_task(_drained(self._connection))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    def close(self) -> None:
        if not self._closed:  # once it is back in the pool it may be somebody else's
            self._closed = True
            self._connection.close()


async def _drained(connection: Connection) -> None:
    """Reads on to the end of HTTP, if it comes within `_DRAIN_SECONDS`, and closes."""
    try:
        connection.expect(_DRAIN_SECONDS, asyncio.get_running_loop().time() + _DRAIN_SECONDS)
        with suppress(Broken, Silence):
            while await connection.next():
                pass
    finally:
        connection.close()


class _EmbeddedResponse:
    """What `echo` answers, behind the same surface."""

    def __init__(self, dialect: Echo, chat: Chat, target: Target, stream: bool) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {"content-type": "text/event-stream" if stream else "application/json"}
        self._pieces = iter(dialect.events(chat, target) if stream else [dialect.answer(chat, target)])

    def received(self, limit: int = MAX_RESPONSE_BYTES) -> bytes | None:
        return b"".join(self._pieces)

    async def read(self, idle: float, limit: int = MAX_RESPONSE_BYTES) -> bytes:
        return b"".join(self._pieces)

    async def next(self) -> bytes:
        return next(self._pieces, b"")

    def expect(self, idle: float, deadline: float) -> None:
        return None

    def pour(self, sink: Sink) -> None:
        return None

    def nudge(self) -> None:
        return None

    def finish(self) -> None:
        return None

    def close(self) -> None:
        return None


def silent(target: Target, what: str) -> UpstreamError:
    """The target did not answer in time."""
    return UpstreamError(
        f"The provider of tier '{target.tier}' ({target.route}) {what}.",
        Failure.SILENT,
        status=504,
        type="timeout_error",
        code="upstream_timeout",
    )


def _unreachable(error: Exception, target: Target, waited: float) -> UpstreamError:
    if isinstance(error, TimeoutError):
        return silent(target, f"could not be reached within {waited:g} s")
    return UpstreamError(
        f"Cannot connect to the provider of tier '{target.tier}' ({target.route}): {type(error).__name__}.",
        Failure.CONNECT,
        code="upstream_unreachable",
    )


def _reset(error: Broken, target: Target) -> UpstreamError:
    return UpstreamError(
        f"The connection to the provider of tier '{target.tier}' ({target.route}) broke before the answer was whole: "
        f"{error}.",
        Failure.RESET,
        code="upstream_reset",
    )
