"""HTTP/1.1 as a load generator needs it: request bytes out, responses in, sans I/O and cheap.

Framing after RFC 9112 §6 (content length, chunked, or until the connection closes). Pipelining is never used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[^\r]*close", re.IGNORECASE)
_UNTIL_CLOSE = -1


class WireError(Exception):
    """The peer does not speak HTTP/1.1."""


class ResponseReader:
    """Feed it what arrives; it returns body bytes. `done`: the response is whole. `reset` before the next one."""

    __slots__ = ("_body", "_buffer", "_chunked", "_left", "closing", "done", "head", "status")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.done = False
        self.status = 0
        self.head = b""
        self.closing = False
        self._buffer = b""
        self._body = False
        self._chunked = False
        self._left = 0  # bytes of the body, or of the present chunk, that are still to come

    def feed(self, data: bytes) -> bytes:
        """The body bytes in `data`. Raises `WireError`."""
        if not self._body:
            data = self._buffer + data if self._buffer else data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return b""
            self._read_head(data[: end + 2])
            self._buffer = b""
            data = data[end + 4 :]
            if self.status < 200:  # 100 Continue and its like: the real response follows
                self.reset()
                return self.feed(data) if data else b""
        if self._chunked:
            return self._feed_chunked(data)
        if self._left != _UNTIL_CLOSE:
            self._left -= len(data)
            self.done = self._left <= 0
        return data

    def eof(self) -> bool:
        """The connection ended. True if that completes the response."""
        if self._body and not self._chunked and self._left == _UNTIL_CLOSE:
            self.done = True
        return self.done

    def _read_head(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            raise WireError(f"not an HTTP/1.1 response: {head[:60]!r}")
        self.head = head
        self.status = int(head[9:12])
        self.closing = _CLOSE.search(head) is not None
        self._body = True
        if _CHUNKED.search(head):
            self._chunked = True
        elif found := _LENGTH.search(head):
            self._left = int(found[1])
            self.done = self._left == 0
        else:
            self._left = _UNTIL_CLOSE
            self.done = self.status in (204, 304)

    def _feed_chunked(self, data: bytes) -> bytes:
        # A chunk with its CRLF is counted down together, so that the CRLF needs no state of its own.
        data = self._buffer + data if self._buffer else data
        self._buffer = b""
        out: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._left:
                take = min(self._left, end - at)
                content = min(take, self._left - 2)
                if content > 0:
                    out.append(data[at : at + content])
                self._left -= take
                at += take
                continue
            line = data.find(b"\r\n", at)
            if line < 0:
                self._buffer = data[at:]
                break
            size = _chunk_size(data[at:line])
            if size:
                self._left = size + 2
                at = line + 2
            elif data.find(b"\r\n\r\n", line) >= 0:  # trailers, if any, end here, too
                self.done = True
                break
            else:
                self._buffer = data[at:]
                break
        return out[0] if len(out) == 1 else b"".join(out)


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise WireError(f"not a chunk size: {line[:40]!r}") from None


def request_head(method: str, path: str, host: str, headers: Mapping[str, str]) -> bytes:
    """Everything before `content-length`, made once per job."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n"


def request_bytes(head: bytes, body: bytes) -> bytes:
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
