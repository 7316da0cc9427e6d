"""Packed answers: whole, cut, damaged, and made to fill our memory."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.connection import Broken, Connection, Silence
from router.inflater import Inflater
from tests.fakes.wire import POLICIES, Home, Peer, ask, dial, serving

PIECE = 256 * 1024
TEXT = random.Random(0).randbytes(3000) * 7  # neither incompressible nor a single run


# A hook in its place is what newer versions of the plugin want, and older ones do not know.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")


@pytest.fixture(params=sorted(POLICIES))
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return POLICIES[request.param]()


def raw(data: bytes, level: int = 9) -> bytes:
    """`data` without zlib's wrapper, as some servers send what they call deflate."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


# Encoding → how it packs.
PACKED: dict[str, tuple[str, Any]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "in capitals": (" GZIP ", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate, hardly packed": ("deflate", lambda data: zlib.compress(data, 1)),
    "deflate without its wrapper": ("deflate", raw),
    "deflate without its wrapper, stored": ("deflate", lambda data: raw(data, 0)),
}


class Fed:
    """A connection that these pieces came on."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.turns = 0

    async def next(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def turn(self) -> None:
        self.turns += 1


async def unpack(encoding: str, *pieces: bytes) -> bytes:
    inflater = Inflater(encoding)
    connection: Any = Fed(list(pieces))
    found = []
    while data := await inflater.next(connection):
        assert len(data) <= PIECE
        found.append(data)
    assert await inflater.next(connection) == b""  # the end stays the end
    return b"".join(found)


@pytest.mark.parametrize("case", PACKED)
async def test_whole(case: str) -> None:
    encoding, pack = PACKED[case]
    for text in (b"", b"a", TEXT):
        assert await unpack(encoding, pack(text)) == text


@pytest.mark.parametrize("case", PACKED)
async def test_byte_by_byte(case: str) -> None:
    encoding, pack = PACKED[case]
    packed = pack(TEXT[:200])
    assert await unpack(encoding, *(packed[i : i + 1] for i in range(len(packed)))) == TEXT[:200]


@given(st.sampled_from(sorted(PACKED)), st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=8))
def test_whatever_it_holds_however_it_is_cut(case: str, text: bytes, cuts: list[int]) -> None:
    encoding, pack = PACKED[case]
    packed = pack(text)
    ends = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    pieces = [packed[a:b] for a, b in itertools.pairwise(ends)]
    assert asyncio.run(unpack(encoding, *pieces)) == text


@pytest.mark.parametrize("case", PACKED)
async def test_no_beginning_is_taken_for_whole(case: str) -> None:
    encoding, pack = PACKED[case]
    packed = pack(TEXT[:50])
    for length in range(1, len(packed)):
        with pytest.raises(Broken, match="too early"):
            await unpack(encoding, packed[:length])
    assert await unpack(encoding) == b""  # no body at all is no packed one


@pytest.mark.parametrize("case", PACKED)
async def test_bytes_behind_the_end(case: str) -> None:
    encoding, pack = PACKED[case]
    for pieces in ((pack(TEXT) + b"x",), (pack(TEXT), b"x"), (pack(TEXT) + pack(TEXT),)):
        with pytest.raises(Broken, match="behind"):
            await unpack(encoding, *pieces)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_damage(encoding: str) -> None:
    packed = PACKED[encoding][1](TEXT)
    for damaged in (b"<html>no such thing</html>", packed[:100] + b"\xff" * 100 + packed[200:], packed[:-4] + b"four"):
        with pytest.raises(Broken, match=r"damaged|too early"):
            await unpack(encoding, damaged)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip, identity", "sk-secret-key"])
async def test_another_encoding_is_not_unpacked_and_not_repeated(encoding: str) -> None:
    with pytest.raises(Broken) as caught:
        await unpack(encoding, b"abc")
    assert encoding not in str(caught.value)


@pytest.mark.parametrize("case", PACKED)
async def test_the_last_bytes_at_the_end_of_a_piece(case: str) -> None:
    """zlib may hold some of them back where a piece is full, and without a checksum nothing follows to bring them."""
    encoding, pack = PACKED[case]
    for more in range(0, 300, 7):
        text = b"a" * (PIECE + more)
        assert await unpack(encoding, pack(text)) == text


# --- bombs, on real sockets ------------------------------------------------------------------------------------------

MEGABYTES = 64
BOMB = gzip.compress(bytes(MEGABYTES * 1024 * 1024), 9)


async def bomb(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB)
    await peer.gone()


async def begin(port: int) -> tuple[Connection, Inflater]:
    connection = await dial(port, Home())
    await ask(connection)
    return connection, Inflater(connection.headers["content-encoding"])


async def test_a_bomb_comes_in_pieces_and_others_get_their_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(bomb) as port:
        connection, inflater = await begin(port)
        task = asyncio.ensure_future(others())
        size = pieces = 0
        while data := await inflater.next(connection):
            assert len(data) <= PIECE
            size += len(data)
            pieces += 1
        task.cancel()
        assert size == MEGABYTES * 1024 * 1024
        assert turns >= pieces * 0.9 > 200
        connection.close()
        connection.abort()


async def test_a_bomb_ends_at_the_deadline() -> None:
    async with serving(bomb) as port:
        connection, inflater = await begin(port)
        loop = asyncio.get_running_loop()
        assert await inflater.next(connection)
        connection.expect(float("inf"), loop.time() - 1.0)
        with pytest.raises(Silence):
            for _ in range(10):
                await inflater.next(connection)
        connection.abort()


async def test_a_bomb_can_be_left() -> None:
    async with serving(bomb) as port:
        connection, inflater = await begin(port)

        async def read() -> None:
            while await inflater.next(connection):
                pass

        task = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        connection.abort()
