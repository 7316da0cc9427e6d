"""One process: listen, serve, drain. The same for the only process and for each of several workers.

SIGTERM and SIGINT: `/ready` turns 503, running requests get DRAIN_TIMEOUT seconds, then the process ends with 0; a
second signal ends it at once. SIGHUP: the configuration is read again, and swapped if it is valid.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from router.access import request_id
from router.app import STRAIGHT, build
from router.classifier import Classifier
from router.config import ConfigError, Settings
from router.errors import BadRequest
from router.http import error_response, unknown_packing
from router.service import SERVICE, Service

log = logging.getLogger("router.server")

# nginx keeps idle client connections for 75 s; load balancers in front expect the backend to be the more patient one.
CLIENT_KEEPALIVE_SECONDS = 75.0
# Header limits of the common servers; more is an attack.
MAX_LINE_BYTES = 8190
_BACKLOG = 1024
_HEARTBEAT_SECONDS = 1.0
_DRAIN_POLL_SECONDS = 0.05
# Requests leave next to no cycles behind: at Python's own 700, looking for them takes 2 % of a direct route's time.
_GC_THRESHOLD = 5_000


_Look = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Connection(web.RequestHandler):
    """One client connection; what is no HTTP is answered in our error shape, and not logged with a traceback."""

    __slots__ = ()

    @property
    def has_more(self) -> bool:
        """Whether its client sent more requests behind the present one."""
        return bool(self._messages)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Clients that leave or send damage are no news; everything else is a fault of ours."""
        error = kw.get("exc_info")
        if isinstance(error, ConnectionError | web.RequestPayloadError):
            log.debug("connection lost: %s", type(error).__name__)
        else:
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        log.debug("malformed HTTP: %s", type(exc).__name__)  # its text quotes the head, and a key may stand there
        error = BadRequest("The request is not valid HTTP.", code="invalid_http")
        if isinstance(
            exc, ContentEncodingError
        ):  # named in the head; one that only the body belies comes to the reader
            error = unknown_packing("")
        response = error_response(error, {"x-request-id": request_id({})})
        response.force_close()
        return response


class Runner(web.AppRunner):
    """aiohttp's runner with our limits and our kind of connection."""

    __slots__ = ()

    def __init__(self, app: web.Application) -> None:
        super().__init__(
            app,
            handle_signals=False,
            access_log=None,
            handler_cancellation=True,  # a client that vanished must not cost an upstream call
            keepalive_timeout=CLIENT_KEEPALIVE_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            shutdown_timeout=0.5,  # the draining below is what gives requests their time
        )

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server
        server.request_handler = _past(self.app, server.request_handler)
        return server


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        loop = self._loop if sys.version_info >= (3, 12) else _InPlace(self._loop)
        return _Connection(self, loop=cast(asyncio.AbstractEventLoop, loop), **self._kwargs)


class _InPlace:
    """The loop, but for one thing: a request is served within its connection's task, not in one of its own.

    aiohttp makes a task for each request so that each has context variables of its own, which nothing here uses. From
    Python 3.12 on such a task starts at once; before, the request waits for another round of the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.create_future, self.call_at, self.time = loop.create_future, loop.call_at, loop.time

    def create_task(self, work: Coroutine[Any, Any, Any]) -> Any:
        return work if getattr(work, "__name__", "") == "_handle_request" else self._loop.create_task(work)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def _past(app: web.Application, look_up: _Look) -> _Look:
    """Posts to the routed endpoints go straight to them; `look_up`, the application's own way, takes the rest.

    That way costs as much as parsing and checking a short chat.
    """
    doors = app[STRAIGHT]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.Request)  # noqa: S101 - the application makes them
        if cast(_Connection, request.protocol).has_more:
            await asyncio.sleep(0)  # or thousands of refusals in one packet would keep everybody else waiting
        door = doors.get(request.raw_path)
        if door is None or request.method != "POST" or "expect" in request.headers:
            return await look_up(request)
        return await door(request)

    return handle


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError` (address in use, not ours to bind)."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:  # two dots in a row, or a part of more than 63 letters: Python gives up before it asks
        raise OSError(errno.EINVAL, "not a host's name") from None
    # A name such as localhost may stand for ::1 first, and most clients try 127.0.0.1.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


async def serve(
    settings: Settings,
    classifier: Classifier,
    sockets: list[socket.socket],
    *,
    reload: Callable[[], Settings],
    started: Callable[[], None] = lambda: None,
    heartbeat: Callable[[], bool] = lambda: True,
) -> None:
    """Serves on `sockets` until a signal, or until `heartbeat` (asked once a second) says no; then drains.

    `started` is called once requests are accepted. `reload` gives the settings anew for SIGHUP; it may raise
    `ConfigError`, and then nothing changes.
    """
    app = build(settings, classifier)
    runner = Runner(app)
    await runner.setup()
    service = app[SERVICE]
    stop, now = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_stop() -> None:
        (now if stop.is_set() else stop).set()
        service.draining = True

    def on_reload() -> None:
        try:
            service.swap_settings(reload())
            log.info("configuration reloaded")
        except ConfigError as error:
            log.error("configuration not reloaded, the old one stays: %s", "; ".join(error.faults))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop)
    loop.add_signal_handler(signal.SIGHUP, on_reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked since the fork, where there was one
    sites = [web.SockSite(runner, sock, backlog=_BACKLOG) for sock in sockets]
    for site in sites:
        await site.start()
    # What start-up left alive lives as long as the process: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    started()
    try:
        await _until(stop, heartbeat)
        service.draining = True
        await _drain(runner, service, now, heartbeat)
    finally:
        await runner.cleanup()


async def _until(stop: asyncio.Event, heartbeat: Callable[[], bool]) -> None:
    while not stop.is_set() and heartbeat():
        try:
            async with asyncio.timeout(_HEARTBEAT_SECONDS):
                await stop.wait()
        except TimeoutError:
            pass


async def _drain(runner: Runner, service: Service, now: asyncio.Event, heartbeat: Callable[[], bool]) -> None:
    """Waits for running requests, a retraining among them, and for the last bytes of their answers.

    `/ready` answers 503 meanwhile.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + service.settings.drain_timeout
    if service.in_flight:
        log.info("draining: %d requests are running", service.in_flight)
    while (service.in_flight or service.is_retraining or _unsent(runner)) and not now.is_set() and loop.time() < end:
        heartbeat()
        await asyncio.sleep(_DRAIN_POLL_SECONDS)
    if service.in_flight:
        log.warning("drain timeout: %d requests are cut off", service.in_flight)


def _unsent(runner: Runner) -> bool:
    """Whether a slow client still has to take a part of its answer: it would be lost with the process."""
    connections = runner.server.connections if runner.server is not None else []
    return any(one.transport is not None and one.transport.get_write_buffer_size() > 0 for one in connections)
