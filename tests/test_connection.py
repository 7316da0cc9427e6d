"""One connection against servers that keep to HTTP and servers that do not, under both event loops."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.connection import HIGH_WATER_BYTES, MAX_HEAD_BYTES, Broken, Connection, Silence
from tests.fakes.wire import POLICIES, Home, Peer, ask, dial, rest, serving, until, wired

NEVER = float("inf")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
TWO = OK + b"content-length: 2\r\n\r\nab"
# More than is read at a time, on either loop.
ONE_READ = 256 * 1024
BIG = hashlib.sha256(b"big").digest() * (20 * 1024 * 1024 // 32)


# A hook in its place is what newer versions of the plugin want, and older ones do not know.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")


@pytest.fixture(params=sorted(POLICIES))
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return POLICIES[request.param]()


@pytest.fixture
def home() -> Home:
    return Home()


# --- whole answers ---------------------------------------------------------------------------------------------------

# Answer → its body, and whether another request may follow.
WHOLE: dict[str, tuple[bytes, bytes, bool]] = {
    "content-length": (TWO, b"ab", True),
    "an empty body": (OK + b"content-length: 0\r\n\r\n", b"", True),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nab", b"ab", True),
    "chunked": (CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc", True),
    "chunked, named in capitals": (
        OK + b"Transfer-Encoding: Chunked \r\n\r\n2\r\nab\r\n0\r\n\r\n", b"ab", True
    ),
    "chunk extensions": (CHUNKED + b'2;a=b;c="d"\r\nab\r\n0;e\r\n\r\n', b"ab", True),
    "trailers": (CHUNKED + b"2\r\nab\r\n0\r\nstatus: 500\r\nx: y\r\n\r\n", b"ab", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n", b"", True),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", b"", True),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + TWO, b"ab", True),
    "several 103": (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3 + TWO, b"ab", True),
    "an upgrade that is only offered": (
        OK + b"upgrade: h2c\r\nconnection: upgrade, keep-alive\r\ncontent-length: 2\r\n\r\nab", b"ab", True
    ),
    "connection: close": (OK + b"connection: close\r\ncontent-length: 2\r\n\r\nab", b"ab", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab", b"ab", False),
    "HTTP/1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nab", b"ab", True
    ),
}  # fmt: skip
TO_THE_END = {
    "nothing said": OK + b"\r\nab",
    "keep-alive said": OK + b"connection: keep-alive\r\n\r\nab",
    "identity": OK + b"transfer-encoding: identity\r\n\r\nab",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nab",
}


@pytest.mark.parametrize("case", WHOLE)
async def test_a_whole_answer(home: Home, case: str) -> None:
    data, body, stays = WHOLE[case]

    async def answer(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(data)

    async with serving(answer) as port:
        connection = await dial(port, home)
        for _ in range(2 if stays else 1):
            await ask(connection)
            assert await rest(connection) == body
            assert connection.is_whole
            assert str(connection.status).encode() in data
            assert "status" not in connection.headers and "link" not in connection.headers
            connection.close()
            assert connection.is_open is stays
            assert home.back == ([connection] if stays else [])
            home.back.clear()
        connection.abort()


@pytest.mark.parametrize("case", TO_THE_END)
async def test_an_answer_that_ends_with_its_connection(home: Home, case: str) -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(TO_THE_END[case])

    async with serving(answer) as port:
        connection = await dial(port, home)
        await ask(connection)
        assert await rest(connection) == b"ab"
        connection.close()
    assert home.back == []


@given(st.sampled_from(sorted(WHOLE)), st.lists(st.integers(0, 300), max_size=20))
def test_cut_into_packets_anywhere(case: str, cuts: list[int]) -> None:
    data, body, stays = WHOLE[case]
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    async def read() -> bytes:
        home = Home()
        with wired(home) as (connection, _):
            await connection.send(b"", b"")
            for start, end in itertools.pairwise(ends):
                if start < end:
                    connection.data_received(data[start:end])
            found = await rest(connection)
            connection.close()
            assert bool(home.back) is stays
            return found

    assert asyncio.run(read()) == body


async def test_headers_of_one_name_are_joined(home: Home) -> None:
    with wired(home) as (connection, _):
        await connection.send(b"", b"")
        connection.data_received(OK + b"X-A: 1\r\nx-b: \xe9\r\nx-a: 2\r\ncontent-length: 0\r\n\r\n")
        assert connection.headers == {"x-a": "1, 2", "x-b": "é", "content-length": "0"}


# --- cut and malformed answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", WHOLE)
async def test_no_beginning_of_an_answer_is_taken_for_whole(home: Home, case: str) -> None:
    data = WHOLE[case][0]
    for length in range(len(data)):
        for is_clean in (True, False):
            with wired(home) as (connection, _):
                await connection.send(b"", b"")
                if length:
                    connection.data_received(data[:length])
                if is_clean:
                    connection.eof_received()
                connection.connection_lost(None if is_clean else ConnectionResetError())
                with pytest.raises(Broken):
                    await connection.head()
                    await rest(connection)
                assert not connection.is_whole
                connection.close()
    assert home.back == []


CUT = {
    "nothing at all": b"",
    "inside the head": OK + b"content-le",
    "before the body": OK + b"content-length: 2\r\n\r\n",
    "inside the body": OK + b"content-length: 2\r\n\r\na",
    "inside a chunk": CHUNKED + b"2\r\na",
    "between chunks": CHUNKED + b"2\r\nab\r\n",
    "before the last line end": CHUNKED + b"2\r\nab\r\n0\r\n",
    "behind an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("case", [*CUT, *(f"to the end, {case}" for case in TO_THE_END)])
async def test_a_cut_answer(home: Home, case: str, how: str) -> None:
    heard = asyncio.Event()
    data = CUT[case] if case in CUT else TO_THE_END[case.removeprefix("to the end, ")]
    if case not in CUT and how == "closed":
        return  # that is how such an answer ends

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(data)
        await heard.wait()
        if how == "reset":
            peer.reset()

    async with serving(answer) as port:
        connection = await dial(port, home)
        asking = asyncio.ensure_future(ask(connection))
        await until(lambda: connection.heard == len(data))
        heard.set()
        with pytest.raises(Broken, match="closed" if how == "closed" else "ConnectionResetError"):
            await asking
            await rest(connection)
        connection.close()
        assert not connection.is_open
    assert home.back == []


async def test_what_is_cut_off_here_is_not_the_end_of_an_answer(home: Home) -> None:
    """An answer that ends with its connection, and a reader that still waits when somebody closes."""

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"\r\nab")
        await peer.gone()

    async with serving(answer) as port:
        connection = await dial(port, home)
        await ask(connection)
        reading = asyncio.ensure_future(rest(connection))
        await asyncio.sleep(0.01)
        connection.close()
        with pytest.raises(Broken):
            await reading
        with pytest.raises(Broken):
            await connection.next()


MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "HTTP/1.1 without a status": b"HTTP/1.1 OK\r\n\r\n",
    "bare line feeds": TWO.replace(b"\r\n", b"\n"),
    "a folded header": OK + b"a: b\r\n c\r\ncontent-length: 2\r\n\r\nab",
    "a NUL in a header": OK + b"a: b\0\r\ncontent-length: 2\r\n\r\nab",
    "a blank before the colon": OK + b"content-length : 2\r\n\r\nab",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "a list of lengths": OK + b"content-length: 2, 2\r\n\r\nab",
    "a signed length": OK + b"content-length: +2\r\n\r\nab",
    "an endless length": OK + b"content-length: 99999999999999999999\r\n\r\nab",
    "length and chunks": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "chunks and length": OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "packed chunks": OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "chunks that are packed": OK + b"transfer-encoding: chunked, gzip\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "an unknown transfer coding": OK + b"transfer-encoding: xchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "a chunk size that is none": CHUNKED + b"zz\r\nab\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
    "an endless chunk": CHUNKED + b"ffffffffffffffffff\r\nab",
    "a length in the trailers": CHUNKED + b"2\r\nab\r\n0\r\ncontent-length: 2\r\n\r\n",
    "101 that was not asked for": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nab",
    "101 without a word": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + TWO,
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_answer(home: Home, case: str) -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(MALFORMED[case])
        await peer.gone()

    async with serving(answer) as port:
        connection = await dial(port, home)
        with pytest.raises(Broken, match="malformed"):
            await ask(connection)
            await rest(connection)
        assert not connection.is_whole
        connection.close()
    assert home.back == []


# --- keeping the connection ------------------------------------------------------------------------------------------

SURPLUS = [
    TWO + b"c",
    TWO + TWO,
    CHUNKED + b"0\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nab",
    OK + b"connection: close\r\ncontent-length: 2\r\n\r\nab" + TWO,
]


@pytest.mark.parametrize("data", SURPLUS)
async def test_surplus_bytes_in_the_same_packet(home: Home, data: bytes) -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(data)
        await peer.gone()

    async with serving(answer) as port:
        connection = await dial(port, home)
        await ask(connection)
        assert await rest(connection) in (b"", b"ab")  # the answer itself is whole
        connection.close()
        assert not connection.is_open
    assert home.back == []


@pytest.mark.parametrize("is_idle", [False, True])
async def test_surplus_bytes_that_come_later(home: Home, is_idle: bool) -> None:
    told = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(TWO)
        await told.wait()
        await peer.say(TWO)
        await peer.gone()

    async with serving(answer) as port:
        connection = await dial(port, home)
        await ask(connection)
        assert await rest(connection) == b"ab"
        if is_idle:
            connection.close()
            assert home.back == [connection]
        told.set()
        await until(lambda: connection.heard > len(TWO))
        connection.close()
        assert not connection.is_open
        assert is_idle or home.back == []
        with pytest.raises(Broken):
            await ask(connection)


async def test_a_server_that_speaks_first(home: Home) -> None:
    async def answer(peer: Peer) -> None:
        await peer.say(TWO)
        await peer.gone()

    async with serving(answer) as port:
        connection = await dial(port, home)
        await until(lambda: connection.heard > 0)
        with pytest.raises(Broken):
            await ask(connection)


@pytest.mark.parametrize("how", ["closed", "ended", "reset"])
async def test_an_idle_connection_that_the_server_closes(home: Home, how: str) -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(TWO)
        await told.wait()
        if how == "reset":
            peer.reset()
        elif how == "ended":
            peer.end()
            await peer.gone()

    told = asyncio.Event()
    async with serving(answer) as port:
        connection = await dial(port, home)
        await ask(connection)
        connection.close()
        assert connection.is_open
        told.set()
        await until(lambda: not connection.is_open)
        with pytest.raises(Broken):
            await ask(connection)


async def test_the_end_is_known_before_the_transport_has_closed(home: Home) -> None:
    with wired(home) as (connection, _):
        connection.eof_received()
        assert not connection.is_open  # asyncio tells of the loss one turn later; until then it could be taken


async def test_an_answer_before_all_of_the_request_was_taken(home: Home) -> None:
    with wired(home) as (connection, wire):
        await connection.send(b"head", b"body")
        connection.data_received(TWO)
        wire.waiting = 1
        assert await rest(connection) == b"ab"
        connection.close()
        assert wire.is_aborted and home.back == []


async def test_an_unread_answer_leaves_nothing_to_the_next_one(home: Home) -> None:
    large = OK + b"content-length: 1000000\r\n\r\n" + b"a" * 1000000

    async def answer(peer: Peer) -> None:
        for data in (large, TWO):
            await peer.request()
            await peer.say(data)

    async with serving(answer) as port:
        connection = await dial(port, home)
        await ask(connection)
        while not connection.is_whole:
            connection.take()
            await asyncio.sleep(0)
        connection.close()
        await ask(connection)
        assert await rest(connection) == b"ab"
        connection.abort()


async def test_a_reader_that_reads_again_and_one_that_never_does(home: Home) -> None:
    large = b"a" * (HIGH_WATER_BYTES + 1)
    with wired(home) as (connection, wire):
        await connection.send(b"", b"")
        connection.data_received(OK + b"content-length: %d\r\n\r\n" % (2 * len(large) + 1))
        connection.data_received(large)
        assert wire.is_paused
        assert await connection.next() == large
        assert not wire.is_paused
        connection.data_received(b"b")
        assert not wire.is_paused
        connection.data_received(large)
        assert wire.is_paused and connection.is_whole
        connection.close()
        assert home.back == [connection]
        assert not wire.is_paused  # or its end would not be noticed


async def test_nothing_comes_after_close(home: Home) -> None:
    with wired(home) as (connection, wire):
        await connection.send(b"", b"")
        connection.data_received(OK + b"content-length: 3\r\n\r\nab")
        connection.close()
        assert wire.is_aborted
        with pytest.raises(Broken):
            await connection.next()


async def test_nothing_refers_to_a_connection_that_was_lost(home: Home) -> None:
    """Neither a timer nor its parser: thousands of broken connections must not wait for the garbage collector."""

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"content-length: 2\r\n\r\na")

    async with serving(answer) as port:
        gc.collect()
        gc.disable()
        try:
            connection = await dial(port, home)
            connection.expect(60.0, NEVER)
            await ask(connection)
            try:
                await rest(connection)
            except Broken:
                connection.close()
            await asyncio.sleep(0.01)
            reference = weakref.ref(connection)
            del connection
            assert reference() is None
        finally:
            gc.enable()


# --- floods ----------------------------------------------------------------------------------------------------------

FLOODS = {
    "a status line": (b"HTTP/1.1 200 ", b"x" * 100),
    "one header": (OK + b"a: ", b"x" * 100),
    "a header's name": (OK, b"x" * 100),
    "headers": (OK, b"a: b\r\n" * 20),
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    "blank lines": (b"", b"\r\n" * 50),
    "a chunk extension": (CHUNKED + b"2;a=", b"x" * 100),
    "a trailer": (CHUNKED + b"2\r\nab\r\n0\r\na: ", b"x" * 100),
    "trailers": (CHUNKED + b"2\r\nab\r\n0\r\n", b"a: b\r\n" * 20),
}


@pytest.mark.parametrize("case", FLOODS)
async def test_what_is_no_body_has_a_limit(home: Home, case: str) -> None:
    start, piece = FLOODS[case]

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(start)
        await peer.flood(piece)

    async with serving(answer) as port:
        connection = await dial(port, home)
        with pytest.raises(Broken):
            await ask(connection)
            await rest(connection)
        assert connection.heard < MAX_HEAD_BYTES + ONE_READ
        connection.close()
        assert not connection.is_open


async def test_a_large_head_within_the_limit(home: Home) -> None:
    lines = b"".join(b"x-%d: %b\r\n" % (i, b"y" * 90) for i in range(500))

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + lines + TWO.removeprefix(OK))

    async with serving(answer) as port:
        connection = await dial(port, home)
        await ask(connection)
        assert await rest(connection) == b"ab"
        assert len(connection.headers) == 501
        connection.abort()


async def test_many_headers_of_one_name_are_refused(home: Home) -> None:
    with wired(home) as (connection, wire):
        await connection.send(b"", b"")
        connection.data_received(OK + b"a:b\r\n" * 40_000 + b"content-length: 0\r\n\r\n")
        with pytest.raises(Broken):
            await connection.head()
        assert wire.is_aborted


async def test_many_small_chunks_are_no_flood(home: Home) -> None:
    with wired(home) as (connection, _):
        await connection.send(b"", b"")
        connection.data_received(CHUNKED)
        for _ in range(3 * MAX_HEAD_BYTES // 100):
            connection.data_received(b"1;" + b"x" * 100 + b"\r\n")
            connection.data_received(b"a\r\n")
            assert await connection.next() == b"a"


# --- large requests --------------------------------------------------------------------------------------------------


async def test_a_large_request_arrives_whole(home: Home) -> None:
    got = []

    async def answer(peer: Peer) -> None:
        for _ in range(2):
            got.append(hashlib.sha256(await peer.request()).digest())
            await peer.say(TWO)

    async with serving(answer) as port:
        connection = await dial(port, home)
        for body in (BIG, BIG[:-1]):
            await ask(connection, body)
            assert await rest(connection) == b"ab"
            connection.close()
            assert home.back.pop() is connection
        connection.abort()
    assert got == [hashlib.sha256(BIG).digest(), hashlib.sha256(BIG[:-1]).digest()]


REFUSED = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno"


@pytest.mark.parametrize("how", ["and reads no more", "and reads on", "and ends"])
async def test_a_large_request_that_is_refused_early(home: Home, how: str) -> None:
    closed = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.head()
        await peer.say(REFUSED)
        if how == "and reads no more":
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await closed.wait()
        elif how == "and ends":
            peer.end()
        await peer.gone()

    async with serving(answer) as port:
        connection = await dial(port, home)
        await ask(connection, BIG)
        assert connection.status == 413
        assert await rest(connection) == b"no"
        connection.close()
        assert not connection.is_open
        closed.set()
    assert home.back == []


async def test_a_refusal_whose_text_is_cut_keeps_its_status(home: Home) -> None:
    with wired(home) as (connection, _):
        connection.pause_writing()
        asking = asyncio.ensure_future(connection.send(b"", BIG))
        await asyncio.sleep(0)
        connection.data_received(REFUSED[:-1])
        connection.connection_lost(ConnectionResetError())
        await asking
        await connection.head()
        assert connection.status == 413
        assert await connection.next() == b"n"
        with pytest.raises(Broken):
            await connection.next()


@pytest.mark.parametrize("how", ["closes", "resets", "reads no more", "says only 100"])
async def test_a_large_request_that_nobody_takes(home: Home, how: str) -> None:
    """Half of it is taken, and then the server…"""
    closed = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.reader.readexactly(len(BIG) // 2)
        if how == "resets":
            peer.reset()
        elif how != "closes":
            if how == "says only 100":
                await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n" * 3)
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await closed.wait()

    async with serving(answer) as port:
        connection = await dial(port, home)
        loop = asyncio.get_running_loop()
        connection.expect(NEVER, loop.time() + (0.3 if how in ("reads no more", "says only 100") else 60.0))
        with pytest.raises(Broken if how in ("closes", "resets") else Silence):
            await ask(connection, BIG)
        connection.close()
        assert not connection.is_open
        closed.set()
    assert home.back == []


async def test_a_large_request_goes_no_faster_than_it_is_taken(home: Home) -> None:
    """Neither an interim answer nor anything else that wakes the sender may open the floodgates."""
    with wired(home) as (connection, wire):
        sending = asyncio.ensure_future(connection.send(b"", BIG))
        await asyncio.sleep(0)
        connection.pause_writing()
        await asyncio.sleep(0)
        written = len(wire.written)
        for _ in range(10):
            connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
            for _ in range(3):
                await asyncio.sleep(0)
        assert len(wire.written) == written
        connection.resume_writing()
        await sending
        assert wire.written == BIG


# --- slow readers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_reader_that_does_not_read_stops_the_server(home: Home, chunked: bool) -> None:
    sent = 0

    async def answer(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.writer.transport.set_write_buffer_limits(high=0)
        await peer.say(CHUNKED if chunked else OK + b"content-length: %d\r\n\r\n" % len(BIG))
        for start in range(0, len(BIG), 65536):
            piece = BIG[start : start + 65536]
            await peer.say(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            sent += len(piece)
        await peer.say(b"0\r\n\r\n" if chunked else b"")

    def server_socket(port: int) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        return sock

    async with serving(answer) as port:
        connection = await dial(port, home, sock=server_socket(port))
        await ask(connection)
        await until(lambda: connection.heard > HIGH_WATER_BYTES)
        for _ in range(5):
            before = sent, connection.heard
            await asyncio.sleep(0.02)
            if before == (sent, connection.heard):
                break
        assert before == (sent, connection.heard)
        assert sent < len(BIG)
        waiting = connection.take()
        assert HIGH_WATER_BYTES < len(waiting) < HIGH_WATER_BYTES + ONE_READ
        assert hashlib.sha256(waiting + await rest(connection)).digest() == hashlib.sha256(BIG).digest()
        connection.close()
        assert home.back == [connection]
        connection.abort()


# --- time ------------------------------------------------------------------------------------------------------------


class Clock:
    """A loop whose time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.set = 0
        self._timers: list[tuple[float, Callable[[], None], Any]] = []

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def call_at(self, when: float, call: Callable[[], None]) -> Any:
        self.set += 1
        handle = _Handle()
        self._timers.append((when, call, handle))
        return handle

    @property
    def pending(self) -> int:
        return sum(not handle.is_cancelled for _, _, handle in self._timers)

    async def to(self, seconds: float) -> None:
        """`seconds` after the start."""
        target = 1000.0 + seconds
        while due := [timer for timer in self._timers if timer[0] <= target]:
            timer = min(due, key=lambda timer: timer[0])
            self._timers.remove(timer)
            self.now = max(self.now, timer[0])
            if not timer[2].is_cancelled:
                timer[1]()
            await _turns()
        self.now = target
        await _turns()


class _Handle:
    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


BEGUN = OK + b"content-length: 1000000\r\n\r\n"


async def _begun(connection: Connection) -> None:
    await connection.send(b"", b"")
    connection.data_received(BEGUN)
    await connection.head()


async def test_silence_counts_from_the_last_data(home: Home, clock: Clock) -> None:
    with wired(home, clock) as (connection, _):
        connection.expect(5.0, NEVER)
        await _begun(connection)
        reading = asyncio.ensure_future(rest(connection))
        for second in (4, 8, 12):
            await clock.to(second)
            connection.data_received(b"x")
            await _turns()
        await clock.to(16.9)
        assert not reading.done()
        await clock.to(17)
        with pytest.raises(Silence):
            await reading
        with pytest.raises(Silence):
            await connection.next()


async def test_data_that_come_at_the_last_moment_count(home: Home, clock: Clock) -> None:
    with wired(home, clock) as (connection, _):
        connection.expect(5.0, NEVER)
        await _begun(connection)
        reading = asyncio.ensure_future(rest(connection))
        await _turns()
        clock.now += 5.0
        connection.data_received(b"x")
        await clock.to(9.9)  # the timer is due before the reader has its turn
        assert not reading.done()
        await clock.to(10)
        with pytest.raises(Silence):
            await reading


async def test_no_silence_while_nobody_waits(home: Home, clock: Clock) -> None:
    with wired(home, clock) as (connection, _):
        connection.expect(5.0, NEVER)
        await _begun(connection)
        await clock.to(62)
        reading = asyncio.ensure_future(rest(connection))
        await _turns()
        await clock.to(66.9)
        assert not reading.done()
        await clock.to(67)
        with pytest.raises(Silence):
            await reading


async def test_the_deadline_counts_whoever_waits(home: Home, clock: Clock) -> None:
    with wired(home, clock) as (connection, _):
        connection.expect(5.0, 1020.0)
        await _begun(connection)
        await clock.to(19)
        connection.data_received(b"x")
        await clock.to(21)
        assert await connection.next() == b"x"  # what came is not lost
        with pytest.raises(Silence):
            await connection.next()
        connection.expect(NEVER, NEVER)  # another time limit, another chance
        reading = asyncio.ensure_future(connection.next())
        await clock.to(1000)
        connection.data_received(b"y")
        assert await reading == b"y"


async def test_interim_answers_do_not_lengthen_the_wait_for_the_head(home: Home, clock: Clock) -> None:
    with wired(home, clock) as (connection, _):
        connection.expect(NEVER, 1010.0)
        await connection.send(b"", b"")
        waiting = asyncio.ensure_future(connection.head())
        for second in range(1, 10):
            await clock.to(second)
            connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
        await clock.to(10)
        with pytest.raises(Silence):
            await waiting


async def test_a_connection_lost_after_the_deadline_is_still_broken(home: Home, clock: Clock) -> None:
    with wired(home, clock) as (connection, _):
        connection.expect(NEVER, 1010.0)
        await _begun(connection)
        await clock.to(11)
        connection.connection_lost(None)
        connection.expect(NEVER, NEVER)
        with pytest.raises(Broken):
            await connection.next()


@pytest.mark.parametrize(("first", "second"), [(10, 100), (100, 10)])
async def test_every_exchange_has_a_time_limit_of_its_own(home: Home, clock: Clock, first: int, second: int) -> None:
    with wired(home, clock) as (connection, _):
        connection.expect(NEVER, 1000.0 + first)
        await connection.send(b"", b"")
        connection.data_received(TWO)
        assert await rest(connection) == b"ab"
        connection.close()
        connection.expect(NEVER, 1000.0 + second)
        await connection.send(b"", b"")
        waiting = asyncio.ensure_future(connection.head())
        await clock.to(second - 1)
        assert not waiting.done()
        await clock.to(second)
        with pytest.raises(Silence):
            await waiting


async def test_no_time_limit_while_idle(home: Home, clock: Clock) -> None:
    with wired(home, clock) as (connection, _):
        connection.expect(5.0, 1010.0)
        await connection.send(b"", b"")
        connection.data_received(TWO)
        connection.close()
        await clock.to(100)
        assert clock.pending == 0
        await connection.send(b"", b"")
        waiting = asyncio.ensure_future(connection.head())
        await clock.to(200)  # what the last exchange was given holds for this one no more
        connection.data_received(TWO)
        await waiting
        assert await rest(connection) == b"ab"


async def test_a_time_limit_of_before_that_nobody_renewed(home: Home, clock: Clock) -> None:
    with wired(home, clock) as (connection, _):
        connection.expect(5.0, 1010.0)
        await connection.send(b"", b"")
        connection.data_received(TWO)
        connection.close()
        await connection.send(b"", b"")
        waiting = asyncio.ensure_future(connection.head())
        await clock.to(200)
        connection.data_received(TWO)
        await waiting


async def test_one_timer_serves_many_requests(home: Home, clock: Clock) -> None:
    with wired(home, clock) as (connection, _):
        for _ in range(100):
            clock.now += 0.01
            connection.expect(NEVER, clock.now + 60.0)
            await connection.send(b"", b"")
            connection.data_received(TWO)
            connection.expect(30.0, clock.now + 300.0)
            assert await rest(connection) == b"ab"
            connection.close()
        assert clock.set == 2
    assert clock.pending == 0  # and none is left once the connection is lost


async def test_silence_on_a_real_clock(home: Home) -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.say(BEGUN)
        await peer.gone()

    loop = asyncio.get_running_loop()
    async with serving(answer) as port:
        connection = await dial(port, home)
        await ask(connection)
        for limit in (0.05, 0.0511, 0.0526, 0.0534):  # uvloop's timers know milliseconds only
            began = loop.time()
            connection.expect(limit, NEVER)
            with pytest.raises(Silence):
                await connection.next()
            assert began + limit <= loop.time() < began + 5.0
            began = loop.time()
            connection.expect(NEVER, began + limit)
            with pytest.raises(Silence):
                await connection.next()
            assert began + limit <= loop.time() < began + 5.0
        connection.close()


async def test_time_limits_too_short_for_a_timer(home: Home) -> None:
    """Below a millisecond uvloop calls at once, and gives back a handle that has no time."""

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    loop = asyncio.get_running_loop()
    async with serving(answer) as port:
        connection = await dial(port, home)
        for limit in (0.0001, -1.0, 0.0001, 60.0):
            connection.expect(NEVER, loop.time() + limit)
        connection.expect(NEVER, loop.time() - 1.0)
        with pytest.raises(Silence):
            await ask(connection)
        connection.close()


# --- cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["the request", "the head", "the body"])
async def test_cancelled_inside(home: Home, where: str) -> None:
    left = asyncio.Event()

    async def answer(peer: Peer) -> None:
        if where == "the request":
            await peer.head()
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await cancelled.wait()
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        else:
            await peer.request()
        if where == "the body":
            await peer.say(OK + b"content-length: 2\r\n\r\n")
        await peer.gone()
        left.set()

    cancelled = asyncio.Event()
    async with serving(answer) as port:
        connection = await dial(port, home)
        connection.expect(60.0, NEVER)

        async def exchange() -> None:
            await ask(connection, BIG if where == "the request" else b"")
            await rest(connection)

        task = asyncio.ensure_future(exchange())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        connection.close()
        connection.close()
        cancelled.set()
        async with asyncio.timeout(5.0):
            await left.wait()
        assert not connection.is_open
    assert home.back == []
