"""The load generator's HTTP: framing, whole and byte by byte."""

from __future__ import annotations

import pytest

from bench.wire import ResponseReader, WireError, request_bytes, request_head

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello \r\n5;ext=1\r\nworld\r\n0\r\ntrailer: x\r\n\r\n"
)


def read(data: bytes, size: int) -> tuple[ResponseReader, bytes]:
    reader = ResponseReader()
    body = b"".join(reader.feed(data[start : start + size]) for start in range(0, len(data), size))
    return reader, body


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(("data", "expected"), [(LENGTH, b"hello"), (CHUNKED, b"hello world")])
def test_framing(data: bytes, expected: bytes, size: int) -> None:
    reader, body = read(data, size)
    assert body == expected
    assert reader.done
    assert reader.status == 200


def test_a_cut_response_is_not_done() -> None:
    for data in (LENGTH[:-1], CHUNKED[:-1], CHUNKED[:60]):
        reader, _ = read(data, 10_000)
        assert not reader.done
        assert not reader.eof()


def test_without_a_length_the_end_of_the_connection_ends_it() -> None:
    reader, body = read(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\nno", 10_000)
    assert not reader.done
    assert reader.closing
    assert reader.eof()
    assert (reader.status, body) == (502, b"no")


def test_continue_comes_first() -> None:
    reader, body = read(b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH, 10_000)
    assert (reader.status, body, reader.done) == (200, b"hello", True)


def test_used_again() -> None:
    reader, _ = read(CHUNKED, 10_000)
    reader.reset()
    assert reader.feed(LENGTH) == b"hello"
    assert reader.done


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH\r\n\r\n", CHUNKED.replace(b"6\r\n", b"zz\r\n")])
def test_what_is_not_http(data: bytes) -> None:
    with pytest.raises(WireError):
        ResponseReader().feed(data)


def test_request() -> None:
    head = request_head("POST", "/v1/x", "h:1", {"a": "b"})
    assert request_bytes(head, b"{}") == b"POST /v1/x HTTP/1.1\r\nhost: h:1\r\na: b\r\ncontent-length: 2\r\n\r\n{}"
