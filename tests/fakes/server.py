"""What both fakes share: a real socket, a script of steps, recorded requests, and the ways a connection can go wrong.

    async with FakeOpenAI() as fake:            # or: fake = FakeOpenAI(); await fake.start(); …; await fake.stop()
        fake.script(Status(500), Answer("hi"))  # one step per request; the last one repeats
        …                                       # point a tier's BASE_URL at fake.url
        fake.requests[0].json["model"]

A step that the fake does not answer by itself (`Answer`, `Stream`) is the same for every dialect and lives here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass
class Request:
    """One request as it arrived. `body`: the bytes; `json`: parsed (None if they are not JSON).

    `disconnected` is set when the client left before the answer was whole; `answered` when it was.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    json: Any
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Status:
    """An error (or any other) status. `body`: str and bytes as they are, None = the dialect's own error form."""

    code: int
    body: str | bytes | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Silence:
    """Takes the request and says nothing for `seconds` (None: until the client leaves), then closes."""

    seconds: float | None = None


@dataclass(frozen=True)
class Reset:
    """Takes the request and breaks the connection without a byte."""


@dataclass(frozen=True)
class Raw:
    """These bytes on the wire, status line and all; then the connection is closed."""

    data: bytes


@dataclass(frozen=True)
class Stream:
    """A stream, piece by piece. A chunk is a str (text of the answer), a dict (one event's document) or bytes (as is).

    `delay` before every chunk, `first_delay` before the first (headers are sent at once), `cut_after` n chunks the
    connection breaks, `stall_after` n chunks nothing more comes, `malformed_at`: before chunk n comes an event that is
    no JSON, `done`: the dialect's end marker is sent, `keep_open`: the connection stays open after it. `bytewise`:
    one byte a write.
    """

    chunks: Sequence[str | Mapping[str, Any] | bytes] = ("Hello", " world")
    delay: float = 0.0
    first_delay: float = 0.0
    cut_after: int | None = None
    stall_after: int | None = None
    done: bool = True
    malformed_at: int | None = None
    keep_open: bool = False
    bytewise: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


class Fake:
    """The socket, the script and the records; a dialect's fake overrides `answer`, `frames` and `error_body`."""

    def __init__(self, *steps: Any, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[Request] = []
        self._steps: list[Any] = list(steps)
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    # --- life ---

    async def start(self) -> None:
        app = web.Application(client_max_size=256 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def root(self) -> str:
        """`http://host:port`."""
        return f"http://{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """What a tier's `_BASE_URL` is set to."""
        return f"{self.root}/v1"

    # --- script ---

    def script(self, *steps: Any) -> None:
        """Replaces what is left of the script. Steps are consumed one per request; the last one repeats."""
        self._steps = list(steps)

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def next_step(self) -> Any:
        if len(self._steps) > 1:
            return self._steps.pop(0)
        return self._steps[0] if self._steps else self.default_step()

    # --- what a dialect fills in ---

    def default_step(self) -> Any:
        raise NotImplementedError

    def refusal(self, request: Request) -> Status | None:
        """A strict fake's objection to `request`; asked before a step is consumed."""
        return None

    async def answer(self, step: Any, request: Request, http: web.Request) -> web.StreamResponse:
        """The response to a step of the dialect's own."""
        raise NotImplementedError

    def frames(self, step: Stream, request: Request) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Wire bytes of a stream: what comes before the chunks, the chunks, and what ends a whole answer."""
        raise NotImplementedError

    def error_body(self, status: int, message: str) -> bytes:
        raise NotImplementedError

    # --- serving ---

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        body = await http.read()
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        request = Request(http.method, http.path, http.headers, body, document)
        self.requests.append(request)
        try:
            response = await self._respond(request, http)
        except (asyncio.CancelledError, ConnectionError):
            request.disconnected.set()
            raise
        request.answered.set()
        return response

    async def _respond(self, request: Request, http: web.Request) -> web.StreamResponse:
        step: Any = self.refusal(request) or self.next_step()
        match step:
            case Status():
                return self._status(step)
            case Silence():
                if step.seconds is None:
                    await asyncio.Event().wait()
                else:
                    await asyncio.sleep(step.seconds)
                return self._abort(http)
            case Reset():
                return self._abort(http)
            case Raw():
                if http.transport is not None:
                    http.transport.write(step.data)
                    await asyncio.sleep(0.02)  # let the bytes leave before the connection goes
                    http.transport.close()
                return web.Response()
            case Stream():
                return await self._stream(step, request, http)
        return await self.answer(step, request, http)

    def _status(self, step: Status) -> web.Response:
        body = step.body
        kind = "application/json"
        if body is None:
            data = self.error_body(step.code, f"scripted {step.code}")
        elif isinstance(body, Mapping):
            data = json.dumps(body).encode()
        else:
            data = body.encode() if isinstance(body, str) else body
            kind = "text/html" if data.lstrip().startswith(b"<") else kind
        headers = {"content-type": kind, **{name.lower(): value for name, value in step.headers.items()}}
        return web.Response(status=step.code, body=data, headers=headers)

    def _abort(self, http: web.Request) -> web.Response:
        if http.transport is not None:
            http.transport.abort()
        return web.Response()

    async def _stream(self, step: Stream, request: Request, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8", **step.headers})
        await response.prepare(http)
        before, chunks, after = self.frames(step, request)
        if step.first_delay:
            await asyncio.sleep(step.first_delay)
        if not (step.cut_after == 0 or step.stall_after == 0):
            await self._write(response, b"".join(before), step)
        for index, chunk in enumerate(chunks):
            if step.cut_after == index:
                return await self._cut(response, http)
            if step.stall_after == index:
                await asyncio.Event().wait()
            if step.malformed_at == index:
                await self._write(response, b'data: {"choices": [{"delta": \n\n', step)
            if step.delay:
                await asyncio.sleep(step.delay)
            await self._write(response, chunk, step)
        if step.cut_after is not None and step.cut_after >= len(chunks):
            return await self._cut(response, http)
        if step.stall_after is not None and step.stall_after >= len(chunks):
            await asyncio.Event().wait()
        if step.done:
            await self._write(response, b"".join(after), step)
        if step.keep_open:
            request.answered.set()
            await asyncio.Event().wait()
        with suppress(ConnectionError):
            await response.write_eof()
        return response

    async def _cut(self, response: web.StreamResponse, http: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.02)  # what was written leaves first: an abort throws the send buffer away
        self._abort(http)
        return response

    async def _write(self, response: web.StreamResponse, data: bytes, step: Stream) -> None:
        if not step.bytewise:
            if data:
                await response.write(data)
            return
        for position in range(len(data)):
            await response.write(data[position : position + 1])
            await asyncio.sleep(0)
