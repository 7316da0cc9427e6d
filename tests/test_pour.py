"""What comes goes on at once: `Connection.pour`, and `Opened` on top of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from router.chat import Chat
from router.config import Target, load
from router.connection import Broken, Sink
from router.errors import UpstreamError
from router.opened import Opened
from router.providers import dialect_for
from router.providers.dialect import Piece
from router.sse import Decoder
from tests.fakes.wire import Home, wired

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Basin:
    """Takes bytes while it is open."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.is_open = True

    def __call__(self, data: bytes) -> bool:
        if self.is_open:
            self.taken.append(data)
        return self.is_open


@pytest.fixture
def home() -> Home:
    return Home()


async def test_what_comes_while_a_reader_waits_is_poured(home: Home) -> None:
    basin = Basin()
    with wired(home) as (connection, _):
        await connection.send(b"", b"")
        connection.data_received(HEAD)
        connection.pour(basin)
        waiting = asyncio.ensure_future(connection.next())
        await asyncio.sleep(0)
        connection.data_received(framed(b"one"))
        connection.data_received(framed(b"two") + framed(b"three"))
        await asyncio.sleep(0)
        assert (basin.taken, waiting.done()) == ([b"one", b"twothree"], False)
        connection.data_received(framed(b"four") + END)
        assert await waiting == b""
        assert basin.taken[-1] == b"four" and connection.is_whole
        connection.close()
        assert home.back == [connection]


async def test_what_is_not_taken_comes_out_of_next_and_nothing_is_lost(home: Home) -> None:
    basin = Basin()
    with wired(home) as (connection, _):
        await connection.send(b"", b"")
        connection.data_received(HEAD)
        connection.pour(basin)
        waiting = asyncio.ensure_future(connection.next())
        await asyncio.sleep(0)
        connection.data_received(framed(b"one"))
        basin.is_open = False
        connection.data_received(framed(b"two"))
        connection.data_received(framed(b"three"))
        assert (await waiting, basin.taken) == (b"twothree", [b"one"])
        basin.is_open = True
        connection.data_received(framed(b"four"))  # nobody waits, and a sink that declined is asked no more
        assert (await connection.next(), basin.taken) == (b"four", [b"one"])


async def test_nothing_is_poured_while_nobody_waits(home: Home) -> None:
    basin = Basin()
    with wired(home) as (connection, _):
        await connection.send(b"", b"")
        connection.data_received(HEAD)
        connection.pour(basin)
        connection.data_received(framed(b"one"))
        assert (await connection.next(), basin.taken) == (b"one", [])


async def test_a_nudge_ends_the_wait_once(home: Home) -> None:
    with wired(home) as (connection, _):
        await connection.send(b"", b"")
        connection.data_received(HEAD)
        waiting = asyncio.ensure_future(connection.next())
        await asyncio.sleep(0)
        connection.nudge()
        assert await waiting == b""
        again = asyncio.ensure_future(connection.next())
        await asyncio.sleep(0)
        assert not again.done()
        connection.data_received(framed(b"one"))
        assert await again == b"one"


async def test_a_cut_while_pouring_is_a_cut(home: Home) -> None:
    basin = Basin()
    with wired(home) as (connection, _):
        await connection.send(b"", b"")
        connection.data_received(HEAD)
        connection.pour(basin)
        waiting = asyncio.ensure_future(connection.next())
        await asyncio.sleep(0)
        connection.data_received(framed(b"one"))
        connection.connection_lost(None)
        with pytest.raises(Broken):
            await waiting
        assert basin.taken == [b"one"]


async def test_the_next_exchange_pours_nothing_into_the_last_ones_sink(home: Home) -> None:
    basin = Basin()
    with wired(home) as (connection, _):
        await connection.send(b"", b"")
        connection.data_received(HEAD + END)
        connection.pour(basin)
        connection.close()
        await connection.send(b"", b"")
        connection.data_received(HEAD)
        waiting = asyncio.ensure_future(connection.next())
        await asyncio.sleep(0)
        connection.data_received(framed(b"two"))
        assert (await waiting, basin.taken) == (b"two", [])


# --- an opened stream


class Script:
    """A response that a test feeds by hand."""

    status = 200
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self.came: asyncio.Queue[bytes] = asyncio.Queue()

    def feed(self, data: bytes) -> None:
        if self.sink is None or not self.sink(data):
            self.sink = None
            self.came.put_nowait(data)

    def pour(self, sink: Sink) -> None:
        self.sink = sink

    def nudge(self) -> None:
        self.came.put_nowait(b"")

    async def next(self) -> bytes:
        return await self.came.get()

    def expect(self, idle: float, deadline: float) -> None: ...


class Taker:
    def __init__(self) -> None:
        self.ready = True
        self.pieces: list[Piece] = []
        self.fault: Exception | None = None

    def take(self, pieces: list[Piece]) -> None:
        if self.fault is not None:
            raise self.fault
        self.pieces += pieces


@pytest.fixture
def target() -> Target:
    return load({"SIMPLE_PROVIDER": "openai", "SIMPLE_MODEL": "m", "SIMPLE_API_KEY": "k"}).targets["simple"]


def event(text: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


def said(pieces: list[Piece]) -> str:
    return "".join(piece.document["choices"][0]["delta"]["content"] for piece in pieces)


async def collected(opened: Opened, taker: Taker, found: list[Piece]) -> None:
    async for batch in opened.batches(5, asyncio.get_running_loop().time() + 5, taker):
        found += batch


def opened_on(script: Script, target: Target) -> Opened:
    chat = Chat.parse(b'{"model": "simple", "messages": [{"role": "user", "content": "x"}]}')
    return Opened(script, dialect_for("openai").stream(chat, target), Decoder(), target, [])  # type: ignore[arg-type]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_pieces_go_past_the_task_in_order_and_the_end_is_seen(target: Target) -> None:
    script, taker, found = Script(), Taker(), list[Piece]()
    task = asyncio.ensure_future(collected(opened_on(script, target), taker, found))
    await turns()
    script.feed(event("a") + event("b")[:20])
    script.feed(event("b")[20:])
    taker.ready = False
    script.feed(event("c"))
    await turns()
    taker.ready = True
    script.feed(event("d"))
    script.feed(b"data: [DONE]\n\n")
    await asyncio.wait_for(task, 2)
    assert (said(taker.pieces), said(found)) == ("abd", "c")


async def test_an_error_event_is_raised_after_what_came_before_it(target: Target) -> None:
    script, taker, found = Script(), Taker(), list[Piece]()
    task = asyncio.ensure_future(collected(opened_on(script, target), taker, found))
    await turns()
    script.feed(event("a") + b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n')
    with pytest.raises(UpstreamError, match="overloaded"):
        await asyncio.wait_for(task, 2)
    assert said(taker.pieces) == "a"


async def test_a_fault_of_the_taker_comes_out_where_it_can_be_handled(target: Target) -> None:
    script, taker = Script(), Taker()
    taker.fault = RuntimeError("a writer of ours fails")
    task = asyncio.ensure_future(collected(opened_on(script, target), taker, []))
    await turns()
    script.feed(event("a"))
    with pytest.raises(RuntimeError, match="a writer of ours fails"):
        await asyncio.wait_for(task, 2)


async def test_an_end_without_its_mark_is_a_cut(target: Target) -> None:
    script, taker, found = Script(), Taker(), list[Piece]()
    task = asyncio.ensure_future(collected(opened_on(script, target), taker, found))
    await turns()
    script.feed(event("a"))
    script.came.put_nowait(b"")
    with pytest.raises(UpstreamError, match="cut"):
        await asyncio.wait_for(task, 2)
    assert said(taker.pieces) == "a"


@pytest.mark.parametrize("end", [b'data: {"error":{"message":"overloaded"}}\n\n', b"data: [DONE]\n\n"])
async def test_nothing_goes_out_behind_an_error_or_the_end(target: Target, end: bytes) -> None:
    """Several reads can come before the task has run that was woken."""
    script, taker, found = Script(), Taker(), list[Piece]()
    task = asyncio.ensure_future(collected(opened_on(script, target), taker, found))
    await turns()
    script.feed(event("a") + end)
    script.feed(event("behind"))
    await asyncio.wait([task], timeout=2)
    assert task.done() and (task.exception() is None) == (b"DONE" in end)
    assert (said(taker.pieces), said(found)) == ("a", "")


async def test_what_was_read_with_a_fault_comes_before_it(target: Target) -> None:
    script, taker, found = Script(), Taker(), list[Piece]()
    taker.ready = False
    task = asyncio.ensure_future(collected(opened_on(script, target), taker, found))
    await turns()
    script.feed(event("a") + b'data: {"error":{"message":"overloaded"}}\n\n')
    with pytest.raises(UpstreamError, match="overloaded"):
        await asyncio.wait_for(task, 2)
    assert said(found) == "a"
