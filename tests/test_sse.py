"""The decoder against its grammar, whole and cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import sse
from router.sse import Decoder, Event, encode

STREAM = (
    b'\xef\xbb\xbf: a comment\r\n\r\ndata: {"a":1}\r\n\r\nevent: named\rdata:b\rdata: c\r\r\n'
    b"id: 7\nretry: 10\ndata:  two blanks\n\n\n\nevent: empty\n\ndata\n\n"
    b"data: f\xc3\xbc\xc3\x9fe\n\ndata: cut off"
)
EVENTS = [
    Event(b'{"a":1}'),
    Event(b"b\nc", "named"),
    Event(b" two blanks"),
    Event(b""),
    Event("füße".encode()),
]


def decode(pieces: list[bytes]) -> list[Event]:
    decoder = Decoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_whole() -> None:
    assert decode([STREAM]) == EVENTS


def test_byte_by_byte() -> None:
    assert decode([STREAM[i : i + 1] for i in range(len(STREAM))]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_cut_anywhere(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(STREAM)]
    assert decode([STREAM[a:b] for a, b in itertools.pairwise(ends)]) == EVENTS


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_decode_the_same_however_cut(data: bytes, size: int) -> None:
    assert decode([data]) == decode([data[i : i + size] for i in range(0, len(data), size)])


@given(st.binary(max_size=100).filter(lambda data: b"\n" not in data and b"\r" not in data))
def test_what_is_encoded_is_decoded(data: bytes) -> None:
    assert decode([encode(data), encode(data, "name")]) == [Event(data), Event(data, "name")]


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    decoder = Decoder()
    with pytest.raises(sse.SseError):
        for _ in range(200):
            decoder.feed(b"data: xxxxx")
