"""The only way out: one attempt of one target, over one pooled `ClientSession`; foreign exceptions become ours here.

The seam is two classes wide (`Upstream.send`, `Response`), so that a fake is forty lines and the HTTP library can be
exchanged without anyone noticing.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import aiohttp
from yarl import URL

from router.chat import Chat
from router.config import Target
from router.errors import Failure, UpstreamError
from router.providers import Dialect
from router.providers.dialect import Outgoing
from router.providers.echo import Echo
from router.providers.failures import not_the_dialect

# A whole answer larger than this is a fault: the longest real ones (images in base64) stay far below.
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
# How long an ended stream may take to close its connection, so that the pool gets it back.
_DRAIN_SECONDS = 0.2
_IN_PIECES_BYTES = 512 * 1024
_IDLE_CONNECTION_SECONDS = 60.0  # below the idle limits of the providers' load balancers


class Response(Protocol):
    """An upstream response whose headers are here. `close` is safe to call at any time, and more than once."""

    status: int
    headers: Mapping[str, str]

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

    async def finish(self) -> None:
        """The stream said that it is over: give the connection back to the pool if it really is."""
        ...

    def close(self) -> None: ...


class Upstream:
    """The connection pool. Create inside a running loop; `close` at the end."""

    def __init__(self) -> None:
        # No total limit: permits bound the requests. No cookies: providers' load balancers must not pin us.
        connector = aiohttp.TCPConnector(
            limit=0, ttl_dns_cache=60, keepalive_timeout=_IDLE_CONNECTION_SECONDS, enable_cleanup_closed=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("user-agent", "accept-encoding", "accept", "content-type"),
            auto_decompress=True,
        )
        self._routes: dict[tuple[int, str], tuple[Target, URL, dict[str, str], aiohttp.ClientTimeout]] = {}

    async def send(
        self, target: Target, dialect: Dialect, outgoing: Outgoing, chat: Chat | None, *, request_id: str, stream: bool
    ) -> Response:
        """Sends one attempt and waits for the response's headers. Raises `UpstreamError`; times out by its caller."""
        if isinstance(dialect, Echo):
            if chat is None:
                raise not_the_dialect(target, "nothing: the embedded echo only chats")
            return _EmbeddedResponse(dialect, chat, target, stream)
        url, fixed, timeout = self._route(target, dialect, outgoing.path)
        headers = {**fixed, "x-request-id": request_id}
        if outgoing.headers:
            headers.update(outgoing.headers)
        try:
            response = await self._session.post(
                url, data=_payload(outgoing.body), headers=headers, allow_redirects=False, timeout=timeout
            )
        except (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError) as error:
            raise _failed(error, target) from error
        if 300 <= response.status < 400:
            response.close()
            raise not_the_dialect(target, f"a redirect (status {response.status}), which is never followed")
        return _HttpResponse(response, target)

    async def close(self) -> None:
        await self._session.close()

    def _route(self, target: Target, dialect: Dialect, path: str) -> tuple[URL, dict[str, str], aiohttp.ClientTimeout]:
        """URL, fixed headers and connect timeout, made once per target and path."""
        key = (id(target), path)
        known = self._routes.get(key)
        if known is None or known[0] is not target:
            if len(self._routes) > 256:  # targets of configurations that were replaced
                self._routes.clear()
            headers = {
                "content-type": "application/json",
                "accept": "application/json, text/event-stream",
                "accept-encoding": "identity",
                "user-agent": "virtusoul-router",
                **dialect.headers(target),
            }
            timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=target.connect_timeout)
            known = self._routes[key] = (target, URL(target.base_url + path, encoded=True), headers, timeout)
        return known[1:]


class _Silence(Exception):
    """Put into a stream that said nothing for too long."""


class _HttpResponse:
    __slots__ = (
        "_deadline",
        "_heard",
        "_idle",
        "_loop",
        "_response",
        "_target",
        "_timer",
        "_waits",
        "headers",
        "status",
    )

    def __init__(self, response: aiohttp.ClientResponse, target: Target) -> None:
        self._response = response
        self._target = target
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._loop = asyncio.get_running_loop()
        self._idle = self._deadline = self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False  # somebody is in `next`: only then is silence the provider's, not the client's

    async def read(self, idle: float, limit: int = MAX_RESPONSE_BYTES) -> bytes:
        content = self._response.content
        if content.is_eof() and content.exception() is None:  # all of it came with the headers: no timer, no wait
            whole = content.read_nowait(-1)
            if len(whole) <= limit:
                return whole
            raise not_the_dialect(self._target, f"more than {limit} bytes")
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(idle) as patience:
                while part := await self._response.content.readany():
                    size += len(part)
                    if size > limit:
                        raise not_the_dialect(self._target, f"more than {limit} bytes")
                    parts.append(part)
                    patience.reschedule(asyncio.get_running_loop().time() + idle)
        except TimeoutError as error:
            raise silent(self._target, "fell silent inside its answer") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _failed(error, self._target) from error
        finally:
            if not self._response.content.at_eof():
                self._response.close()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def next(self) -> bytes:
        self._heard, self._waits = self._loop.time(), True
        try:
            return await self._response.content.readany()
        except _Silence:
            raise silent(self._target, "fell silent inside its stream") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _failed(error, self._target) from error
        finally:
            self._waits = False

    def expect(self, idle: float, deadline: float) -> None:
        # One timer for the whole stream, which looks from time to time: a timer for every chunk would cost more than
        # the chunk.
        self._idle, self._deadline, self._heard = idle, deadline, self._loop.time()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(self._heard + self._idle, self._deadline), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time() + 0.001
        if not self._waits and now < self._deadline:
            self._heard = self._loop.time()
        if now >= min(self._heard + self._idle, self._deadline):
            self._response.content.set_exception(_Silence())
        else:
            self._arm()

    async def finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._response.content.at_eof():
            with suppress(TimeoutError, aiohttp.ClientError, OSError, _Silence):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self._response.content.readany()
        self.close()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._response.close()  # does nothing once the body was read to its end


class _EmbeddedResponse:
    """What `echo` answers, behind the same surface."""

    def __init__(self, dialect: Echo, chat: Chat, target: Target, stream: bool) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {"content-type": "text/event-stream" if stream else "application/json"}
        self._pieces = iter(dialect.events(chat, target) if stream else [dialect.answer(chat, target)])

    async def read(self, idle: float, limit: int = MAX_RESPONSE_BYTES) -> bytes:
        return b"".join(self._pieces)

    async def next(self) -> bytes:
        return next(self._pieces, b"")

    def expect(self, idle: float, deadline: float) -> None:
        return None

    async def finish(self) -> None:
        return None

    def close(self) -> None:
        return None


def _payload(body: bytes) -> bytes | io.BytesIO:
    """Large bodies as a file, which aiohttp sends in pieces: other requests get their turn in between."""
    return body if len(body) < _IN_PIECES_BYTES else io.BytesIO(body)


def silent(target: Target, what: str) -> UpstreamError:
    """The target did not answer in time."""
    return UpstreamError(
        f"The provider of tier '{target.tier}' ({target.route}) {what}.",
        Failure.SILENT,
        status=504,
        type="timeout_error",
        code="upstream_timeout",
    )


def _failed(error: BaseException, target: Target) -> UpstreamError:
    """A network exception → what it means for the request."""
    where = f"the provider of tier '{target.tier}' ({target.route})"
    if isinstance(error, TimeoutError):  # connecting: aiohttp's ConnectionTimeoutError is one, too
        return silent(target, f"could not be reached within {target.connect_timeout:g} s")
    if isinstance(error, aiohttp.ClientConnectorError | ssl.SSLError):
        return UpstreamError(
            f"Cannot connect to {where}: {error.__class__.__name__}.", Failure.CONNECT, code="upstream_unreachable"
        )
    return UpstreamError(
        f"The connection to {where} broke before the answer was whole: {error.__class__.__name__}.",
        Failure.RESET,
        code="upstream_reset",
    )
