"""Connections that are kept, found and made: idle ones, names with several addresses, certificates."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from router import pool as pools
from router.connection import Broken, Connection
from router.pool import Addresses, Origin, Pool, Shelf
from tests.fakes.wire import POLICIES, Peer, ask, rest, serving, until

TWO = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"
# Key and certificate for the name localhost, signed by itself, for these tests alone.
CERTIFICATE = Path(__file__).parent / "fakes" / "localhost.pem"


# A hook in its place is what newer versions of the plugin want, and older ones do not know.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")


@pytest.fixture(params=sorted(POLICIES))
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return POLICIES[request.param]()


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    made = Pool()
    yield made
    await made.close()


async def answer(peer: Peer) -> None:
    """Every request with its connection's number."""
    while True:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nconnection-number: %d\r\ncontent-length: 2\r\n\r\nab" % peer.number)


def at(pool: Pool, port: int, host: str = "127.0.0.1", tls: bool = False) -> Shelf:
    return pool.shelf(Origin(host, port, tls))


async def exchange(connection: Connection) -> int:
    """One request; the number that the server gave this connection."""
    await ask(connection)
    assert await rest(connection) == b"ab"
    number = int(connection.headers["connection-number"])
    connection.close()
    return number


def addresses(pool: Pool, monkeypatch: pytest.MonkeyPatch, *found: tuple[str, int] | Exception) -> list[str]:
    """The name service answers with these, or fails with an exception once for every one; → the names asked for."""
    asked: list[str] = []
    failures = [one for one in found if isinstance(one, Exception)]

    async def look_up(host: str, port: int) -> Addresses:
        asked.append(host)
        await asyncio.sleep(0.001)
        if failures:
            raise failures.pop(0)
        rows: list[Any] = []
        for one in found:
            if not isinstance(one, Exception):
                rows += socket.getaddrinfo(*one, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return rows

    monkeypatch.setattr(pool, "_look_up", look_up)
    return asked


# --- keeping ---------------------------------------------------------------------------------------------------------


async def test_the_youngest_is_taken_first(pool: Pool) -> None:
    async with serving(answer) as port:
        shelf = at(pool, port)
        assert at(pool, port) is shelf
        assert shelf.take() is None
        made = [await pool.connect(shelf, 5.0) for _ in range(3)]
        assert [await exchange(made[i]) for i in (0, 2, 1)] == [0, 2, 1]
        assert [shelf.take() for _ in range(4)] == [made[1], made[2], made[0], None]
        assert await exchange(made[2]) == 2
        assert shelf.take() is made[2]
        for connection in made:
            connection.abort()


async def test_origins_do_not_share(pool: Pool) -> None:
    async with serving(answer) as port, serving(answer) as other:
        await exchange(await pool.connect(at(pool, port), 5.0))
        assert at(pool, other).take() is None
        assert at(pool, port, "localhost").take() is None
        assert at(pool, port, tls=True).take() is None
        assert at(pool, port).take() is not None


@pytest.mark.parametrize("how", ["whole but closing", "cut", "given up"])
async def test_what_is_not_kept(pool: Pool, how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if how == "whole but closing":
            await peer.say(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab")
        elif how == "cut":
            await peer.say(TWO[:-1])
        else:
            await peer.say(TWO[:-1])
            await peer.gone()

    async with serving(script) as port:
        connection = await pool.connect(at(pool, port), 5.0)
        await ask(connection)
        if how == "cut":
            with pytest.raises(Broken):
                await rest(connection)
        connection.close()
        assert at(pool, port).take() is None


@pytest.mark.parametrize("how", ["closes", "speaks"])
async def test_an_idle_connection_that_is_no_good_any_more(pool: Pool, how: str) -> None:
    told = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(TWO)
        if peer.number == 0:
            return
        await told.wait()
        if how == "speaks":
            await peer.say(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
            await peer.gone()

    async with serving(script) as port:
        shelf = at(pool, port)
        made = [await pool.connect(shelf, 5.0) for _ in range(2)]
        for connection in made:
            await ask(connection)
            connection.close()
        told.set()
        await until(lambda: not any(connection.is_open for connection in made))
        assert shelf.take() is None


async def test_what_was_idle_for_too_long_is_not_used(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer) as port:
        shelf = at(pool, port)
        connection = await pool.connect(shelf, 5.0)
        await exchange(connection)
        monkeypatch.setattr(pools, "IDLE_SECONDS", 0.0)
        assert shelf.take() is None
        assert not connection.is_open


async def test_the_sweep(pool: Pool) -> None:
    async with serving(answer) as port:
        shelf = at(pool, port)
        made = [await pool.connect(shelf, 5.0) for _ in range(4)]
        for connection in made[:3]:
            await exchange(connection)
        made[1].abort()
        shelf.sweep(60.0)
        assert [connection.is_open for connection in made] == [True, False, True, True]
        shelf.sweep(0.0)
        assert [connection.is_open for connection in made] == [False, False, False, True]  # the last is in use
        assert shelf.take() is None
        made[3].abort()


async def test_the_pool_sweeps_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(TWO)
        await peer.gone()
        gone.set()

    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.02)
    pool = Pool()
    async with serving(script) as port, asyncio.timeout(5.0):
        for _ in range(2):  # again and again
            gone.clear()
            connection = await pool.connect(at(pool, port), 5.0)
            await ask(connection)
            connection.close()
            await gone.wait()
            assert not connection.is_open
    await pool.close()


async def test_what_a_burst_leaves_is_let_go_but_for_a_few(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "KEPT", 2)
    monkeypatch.setattr(pools, "SURPLUS_SECONDS", 0.05)
    async with serving(answer) as port:
        shelf = at(pool, port)
        made = [await pool.connect(shelf, 5.0) for _ in range(5)]
        for connection in made:
            await exchange(connection)
        assert all(connection.is_open for connection in made)  # the next wave would find all of them
        await until(lambda: not any(connection.is_open for connection in made[:3]))
        assert [connection.is_open for connection in made[3:]] == [True, True]  # the youngest stay
        await asyncio.sleep(0.12)
        assert shelf.take() is made[4] and shelf.take() is made[3]
        assert shelf.take() is None

        for connection in made[3:]:  # a second burst is trimmed as the first was
            await exchange(connection)
        late = [await pool.connect(shelf, 5.0) for _ in range(2)]
        for connection in late:
            await exchange(connection)
        await until(lambda: not any(connection.is_open for connection in made))
        assert all(connection.is_open for connection in late)


async def test_a_burst_still_in_use_is_not_cut(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "KEPT", 1)
    monkeypatch.setattr(pools, "SURPLUS_SECONDS", 0.05)
    async with serving(answer) as port:
        shelf = at(pool, port)
        made = [await pool.connect(shelf, 5.0) for _ in range(3)]
        for connection in made:
            await exchange(connection)
        taken = [shelf.take(), shelf.take()]
        await asyncio.sleep(0.15)
        assert all(connection.is_open for connection in made)
        for connection in taken:
            assert connection is not None
            await exchange(connection)


async def test_a_closed_pool_keeps_nothing(pool: Pool) -> None:
    gone = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(TWO)
        await peer.gone()
        gone.append(peer.number)

    async with serving(script) as port:
        idle, used = [await pool.connect(at(pool, port), 5.0) for _ in range(2)]
        await ask(idle)
        idle.close()
        await ask(used)
        await pool.close()
        assert not idle.is_open and used.is_open
        assert await rest(used) == b"ab"  # what is in use may end
        used.close()
        assert not used.is_open
        assert at(pool, port).take() is None
        await until(lambda: len(gone) == 2)


# --- making ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_nobody_listens(pool: Pool, nobody: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        await pool.connect(at(pool, nobody), 5.0)


@pytest.mark.parametrize("timeout", [0.05, 0.0, -1.0])
async def test_nobody_answers(pool: Pool, timeout: float) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        full = [socket.socket() for _ in range(3)]
        for sock in full:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        with pytest.raises(TimeoutError):
            await pool.connect(at(pool, port), timeout)
        for sock in full:
            sock.close()


@pytest.mark.parametrize("listens", ["127.0.0.1", "::1"])
async def test_localhost_where_one_family_listens(pool: Pool, monkeypatch: pytest.MonkeyPatch, listens: str) -> None:
    try:
        async with serving(answer, listens) as port:
            for order in (("127.0.0.1", "::1"), ("::1", "127.0.0.1")):
                pool._known.clear()
                addresses(pool, monkeypatch, *((address, port) for address in order))
                connection = await pool.connect(at(pool, port, "localhost"), 5.0)
                await exchange(connection)
    except OSError as error:
        if listens == "::1":
            pytest.skip(f"no IPv6: {error}")
        raise


async def test_an_ipv6_address(pool: Pool) -> None:
    """As `Origin` has it: an IPv6 address is looked up by nobody, and has no brackets."""
    try:
        async with serving(answer, "::1") as port:
            assert await exchange(await pool.connect(at(pool, port, "::1"), 5.0)) == 0
    except OSError as error:
        pytest.skip(f"no IPv6: {error}")


async def test_a_name_whose_first_address_refuses(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer) as port:
        addresses(pool, monkeypatch, ("127.0.0.2", port), ("127.0.0.1", port))
        assert await exchange(await pool.connect(at(pool, port, "several.test"), 5.0)) == 0


async def test_a_name_whose_first_address_is_dead(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_NEXT_ADDRESS_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as dead:
        full = [socket.socket() for _ in range(3)]
        for sock in full:
            sock.setblocking(False)
            sock.connect_ex(dead.getsockname())
        async with serving(answer) as port:
            addresses(pool, monkeypatch, dead.getsockname(), ("127.0.0.1", port))
            assert await exchange(await pool.connect(at(pool, port, "several.test"), 5.0)) == 0
        for sock in full:
            sock.close()


async def test_a_name_is_asked_for_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer) as port:
        asked = addresses(pool, monkeypatch, ("127.0.0.1", port))
        shelf = at(pool, port, "name.test")
        made = await asyncio.gather(*(pool.connect(shelf, 5.0) for _ in range(5)))
        made.append(await pool.connect(shelf, 5.0))
        assert asked == ["name.test"]
        monkeypatch.setattr(pools, "DNS_SECONDS", -1.0)
        pool._known.clear()
        made += [await pool.connect(shelf, 5.0) for _ in range(2)]
        assert len(asked) == 3
        for connection in made:
            connection.abort()


async def test_a_name_that_could_not_be_found_is_asked_for_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer) as port:
        asked = addresses(pool, monkeypatch, socket.gaierror("try again"), ("127.0.0.1", port))
        shelf = at(pool, port, "name.test")
        failed = await asyncio.gather(*(pool.connect(shelf, 5.0) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in failed] == [socket.gaierror] * 3
        assert await exchange(await pool.connect(shelf, 5.0)) == 0
        assert len(asked) == 2


async def test_a_failure_that_nobody_waited_for_is_forgotten(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All who asked have given up by the time the name service says no: the next one asks anew, and no log has it."""
    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    async with serving(answer) as port:
        asked = addresses(pool, monkeypatch, socket.gaierror("no such name"), ("127.0.0.1", port))
        shelf = at(pool, port, "name.test")
        task = asyncio.ensure_future(pool.connect(shelf, 5.0))
        await until(lambda: asked == ["name.test"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.02)
        assert await exchange(await pool.connect(shelf, 5.0)) == 0
        assert len(asked) == 2
    assert reports == []


async def test_one_who_gives_up_does_not_take_the_answer_from_the_rest(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(answer) as port:
        asked = addresses(pool, monkeypatch, ("127.0.0.1", port))
        shelf = at(pool, port, "name.test")
        first, second = (asyncio.ensure_future(pool.connect(shelf, 5.0)) for _ in range(2))
        await until(lambda: asked == ["name.test"])
        first.cancel()
        (await second).abort()
        assert len(asked) == 1 and first.cancelled()


async def test_a_name_that_has_moved(pool: Pool, monkeypatch: pytest.MonkeyPatch, nobody: int) -> None:
    async with serving(answer) as port:
        shelf = at(pool, port, "name.test")
        addresses(pool, monkeypatch, ("127.0.0.1", nobody))
        with pytest.raises(OSError):
            await pool.connect(shelf, 5.0)
        addresses(pool, monkeypatch, ("127.0.0.1", port))
        assert await exchange(await pool.connect(shelf, 5.0)) == 0


@pytest.mark.parametrize("host", ["a" * 70 + ".test", "a..test"])
async def test_names_that_can_be_none(pool: Pool, host: str) -> None:
    with pytest.raises(OSError):
        await pool.connect(at(pool, 80, host), 5.0)


async def test_a_name_without_addresses(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses(pool, monkeypatch)
    with pytest.raises(OSError):
        await pool.connect(at(pool, 80, "name.test"), 5.0)


async def test_cancelled_while_connecting(pool: Pool) -> None:
    """After any number of turns: no socket stays open. One that did would warn, and warnings are errors here."""
    here = 0

    async def script(peer: Peer) -> None:
        nonlocal here
        here += 1
        await peer.gone()
        here -= 1

    loop = asyncio.get_running_loop()
    async with serving(script) as port:
        done = False
        for turns in range(200):
            task = loop.create_task(pool.connect(at(pool, port), 5.0))
            for _ in range(turns):
                await asyncio.sleep(0)
            if done := task.done():
                (await task).abort()
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert done
        await until(lambda: here == 0)


# --- https -----------------------------------------------------------------------------------------------------------


def server_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own certificate is trusted, as one of the system's would be."""
    original: Callable[..., ssl.SSLContext] = ssl.create_default_context
    monkeypatch.setattr(pools.ssl, "create_default_context", lambda: original(cafile=str(CERTIFICATE)))


async def test_a_certificate_that_nobody_vouches_for(pool: Pool) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's side of the failure
    async with serving(answer, ssl=server_side()) as port:
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await pool.connect(at(pool, port, host, tls=True), 5.0)
            assert isinstance(caught.value, OSError)


@pytest.mark.usefixtures("trusted")
async def test_a_trusted_certificate(pool: Pool) -> None:
    async with serving(answer, ssl=server_side()) as port:
        shelf = at(pool, port, "localhost", tls=True)
        connection = await pool.connect(shelf, 5.0)
        for _ in range(2):
            assert await exchange(connection) == 0
            assert shelf.take() is connection
        await ask(connection, b"x" * 1_000_000)
        assert await exchange_rest(connection) == b"ab"
        assert shelf.take() is connection
        connection.abort()
        await asyncio.sleep(0.01)


async def exchange_rest(connection: Connection) -> bytes:
    found = await rest(connection)
    connection.close()
    return found


@pytest.mark.usefixtures("trusted")
async def test_a_trusted_certificate_of_another_name(pool: Pool) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with serving(answer, ssl=server_side()) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await pool.connect(at(pool, port, "127.0.0.1", tls=True), 5.0)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("how", ["speaks plain HTTP", "closes", "says nothing"])
async def test_a_server_without_tls(pool: Pool, how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        if how == "speaks plain HTTP":
            await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        if how != "closes":
            await peer.gone()

    async with serving(script) as port:
        with pytest.raises(TimeoutError if how == "says nothing" else OSError):
            await pool.connect(at(pool, port, "localhost", tls=True), 0.2 if how == "says nothing" else 5.0)
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("how", ["goodbye", "cut", "reset"])
async def test_the_end_of_an_answer_under_tls(pool: Pool, how: str) -> None:
    """Where the connection's end is the answer's, anyone on the way can cut the wire; goodbye only the server can say."""
    told = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\nab")
        await told.wait()
        if how == "reset":
            peer.reset()
        elif how == "cut":
            peer.writer.transport.abort()

    if how == "cut" and "uvloop" not in type(asyncio.get_running_loop()).__module__:
        pytest.skip("asyncio does not tell the one from the other")
    async with serving(script, ssl=server_side()) as port:
        connection = await pool.connect(at(pool, port, "localhost", tls=True), 5.0)
        await ask(connection)
        assert await connection.next() == b"ab"
        told.set()
        if how == "goodbye":
            assert await connection.next() == b""
        else:
            with pytest.raises(Broken):
                await connection.next()
        connection.close()
        await asyncio.sleep(0.01)
