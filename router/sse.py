"""Server-sent events, sans I/O: bytes in, events out, however the bytes were cut.

Grammar: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
(LF, CR or CRLF line ends; one optional space after the colon; several `data` lines joined by LF; a comment starts
with a colon; an event that the stream's end cuts off is dropped, so a half-sent chunk is never taken for a whole).
"""

from __future__ import annotations

from typing import NamedTuple

# One event larger than this is an attack or a fault: the largest real ones (base64 audio deltas) are below 1 MiB.
MAX_EVENT_BYTES = 16 * 1024 * 1024

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keep-alive\n\n"

_BOM = b"\xef\xbb\xbf"


class SseError(ValueError):
    """The stream holds an event that is too large to be one."""


class Event(NamedTuple):
    """One event: its `data` (lines joined by LF, undecoded) and its `event` name ("" if it has none)."""

    data: bytes
    event: str = ""


class Decoder:
    """Incremental decoder. Feed it pieces of any size; it returns the events that each piece completes."""

    __slots__ = ("_buffer", "_carriage", "_first")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._carriage = False  # the last piece ended in CR: an LF that follows belongs to it
        self._first = True

    def feed(self, piece: bytes) -> list[Event]:
        """Events completed by `piece`. Raises `SseError` when one event outgrows MAX_EVENT_BYTES."""
        if self._carriage or b"\r" in piece:
            piece = self._unify_line_ends(piece)
        if self._first:
            piece = self._skip_bom(piece)
        buffer = self._buffer
        if buffer:
            # The blank line that ends an event may be split over two pieces; older bytes were searched before.
            searched = len(buffer) - 1
            buffer += piece
            if buffer.find(b"\n\n", searched) < 0:
                return self._wait()
            piece = bytes(buffer)
            buffer.clear()
        *blocks, rest = piece.split(b"\n\n")
        if rest:
            buffer += rest
        if len(buffer) > MAX_EVENT_BYTES:
            self._wait()
        return [event for block in blocks if (event := _parse(block)) is not None]

    def _wait(self) -> list[Event]:
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise SseError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return []

    def _skip_bom(self, piece: bytes) -> bytes:
        start = bytes(self._buffer) + piece
        self._buffer.clear()
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._buffer += start
            return b""
        self._first = False
        return start.removeprefix(_BOM)

    def _unify_line_ends(self, piece: bytes) -> bytes:
        if self._carriage and piece.startswith(b"\n"):
            piece = piece[1:]
            if not piece:
                self._carriage = False
                return piece
        self._carriage = piece.endswith(b"\r") or (self._carriage and not piece)
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _parse(block: bytes) -> Event | None:
    """One block of lines → an event; None for comments and for blocks without data."""
    if block.startswith(b"data: ") and b"\n" not in block:  # what nearly every event of every provider looks like
        return Event(block[6:])
    name = ""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return Event(b"\n".join(data), name) if data else None


def encode(data: bytes, event: str = "") -> bytes:
    """One event on the wire. `data` must hold no line end (JSON without indentation never does)."""
    if event:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
    return b"data: %b\n\n" % data
