"""What the conformance tests share: one question asked in four ways, and a wire that cuts bytes anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import cycle
from typing import Any, Self

Json = dict[str, Any]
Ask = Callable[..., Awaitable[Any]]

MODES = ("create", "create_sync", "stream", "stream_sync")
HI: list[Any] = [{"role": "user", "content": "Hi"}]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one grey pixel
)
LOOK: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
    },
}
NOW: Any = {"type": "function", "function": {"name": "now"}}


def asker(mode: str, client: Any, sync: Any) -> Ask:
    """`await ask(model=…, messages=…)` → the whole answer as the SDK puts it together; a stream is asked for usage."""
    usage: Json = {"stream_options": {"include_usage": True}}

    def stream_sync(fields: Json) -> Any:
        with sync.chat.completions.stream(**usage, **fields) as stream:
            for _ in stream:
                pass
            return stream.current_completion_snapshot

    async def ask(**fields: Any) -> Any:
        fields = {"messages": HI, **fields}
        if mode == "create":
            return await client.chat.completions.create(**fields)
        if mode == "create_sync":
            return await asyncio.to_thread(sync.chat.completions.create, **fields)
        if mode == "stream_sync":
            return await asyncio.to_thread(stream_sync, fields)
        async with client.chat.completions.stream(**usage, **fields) as stream:
            async for _ in stream:
                pass
            return stream.current_completion_snapshot

    return ask


def message_of(completion: Any) -> Any:
    return completion.choices[0].message


def sent(document: Json) -> Json:
    """A request as it reached a provider, without what only says that it was streamed."""
    return {name: value for name, value in document.items() if name not in ("stream", "stream_options")}


def dropped(response: Any) -> set[str]:
    """What the router says it could not pass on."""
    return set(filter(None, response.headers.get("x-virtusoul-dropped-params", "").split(",")))


class Wire:
    """A TCP proxy in front of a fake. What the fake answers comes `sizes` bytes at a time, in turn.

    `cut_after`: the connection breaks once so many bytes of an answer's body went through. `body` counts them.
    """

    def __init__(self, root: str) -> None:
        host, _, port = root.removeprefix("http://").partition(":")
        self._upstream = (host, int(port))
        self.sizes: tuple[int, ...] = (1 << 20,)
        self.cut_after: int | None = None
        self.body = 0
        self._head: bytes | None = b""  # of the answer that comes next; None: it has passed
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._upstream)
        try:
            with suppress(ConnectionError):
                async with asyncio.TaskGroup() as group:
                    upwards = group.create_task(self._upwards(reader, far_writer))
                    await self._downwards(far_reader, writer)
                    upwards.cancel()
        finally:
            far_writer.close()
            writer.close()

    async def _upwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                self._head, self.body = b"", 0
                writer.write(data)
        writer.close()

    async def _downwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sizes = cycle(self.sizes)
        while data := await reader.read(65536):
            if self._head is not None:
                head, end, data = (self._head + data).partition(b"\r\n\r\n")
                if not end:
                    self._head = head
                    continue
                self._head = None
                writer.write(head + end)
            while True:
                if self.cut_after == self.body:
                    await writer.drain()
                    await asyncio.sleep(0.005)  # what was written leaves before the reset overtakes it
                    writer.transport.abort()
                    return
                if not data:
                    break
                size = next(sizes)
                if self.cut_after is not None:
                    size = min(size, self.cut_after - self.body)
                writer.write(data[:size])
                self.body += len(data[:size])
                data = data[size:]
                await asyncio.sleep(0)
