"""The mock upstream: an OpenAI-compatible server so light that it is not what is measured. A process of its own.

Raw protocol on uvloop, prebuilt bytes. A whole answer comes after the fixed latency. A stream drips: the prompt says
how (`drip=20x50`: a chunk every 20 ms, 50 of them; the hint passes any router, for it is part of the text), and every
chunk carries the nanosecond at which it was written (`@…@`), so that its delay is known to the microsecond wherever
on this machine it arrives. `python -m bench.mock --port 0 --latency-ms 0` prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import time
from typing import cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_DRIP = re.compile(rb"drip=(\d+)x(\d+)")
_DEFAULT_DRIP = (20, 10)

_ANSWER = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench-model","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"The capital of France is Paris. It lies on the Seine, in the north of '
    b'the country, and has been its political and cultural centre for many centuries.","refusal":null},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":14,"completion_tokens":32,"total_tokens":46,'
    b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}},"system_fingerprint":"fp_bench"}'
)
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_CHUNK = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench-model",'
    b'"choices":[{"index":0,"delta":{%b},"logprobs":null,"finish_reason":%b}]}\n\n'
)


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


_ROLE = _framed(_CHUNK % (b'"role":"assistant","content":""', b"null"))
# The stamp has a fixed width, so that the chunk's HTTP frame can be prebuilt, too.
_STAMPED_BEFORE, _STAMPED_AFTER = _framed(_CHUNK % (b'"content":" @%b@"' % (b"0" * 19), b"null")).split(b"0" * 19)
_END = _framed(_CHUNK % (b"", b'"stop"')) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Mock(asyncio.Protocol):
    """One connection."""

    latency = 0.0  # seconds before a whole answer, and before a stream's first byte

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._interval = 0.0
        self._left = 0
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        found = _LENGTH.search(data, 0, end + 2) if end > 0 else None
        if end < 0 or (found is not None and len(data) < end + 4 + int(found[1])):
            self._buffer = data
            return
        self._buffer = b""
        streamed = _STREAM.search(data, end) is not None
        if streamed:
            drip = _DRIP.search(data, end)
            interval, self._left = (int(drip[1]), int(drip[2])) if drip else _DEFAULT_DRIP
            self._interval = interval / 1e3
        if self.latency:
            self._timer = self._loop.call_later(self.latency, self._begin if streamed else self._answer)
        elif streamed:
            self._begin()
        else:
            self._answer()

    def _answer(self) -> None:
        if self._transport is not None:
            self._transport.write(_WHOLE)

    def _begin(self) -> None:
        if self._transport is None:
            return
        self._transport.write(_STREAM_HEAD + _ROLE + self._stamped())
        self._next = self._loop.time() + self._interval
        self._timer = self._loop.call_at(self._next, self._drip)

    def _drip(self) -> None:
        if self._transport is None:
            return
        if self._left:
            self._transport.write(self._stamped())
            self._next += self._interval
            self._timer = self._loop.call_at(self._next, self._drip)
        else:
            self._transport.write(_END)

    def _stamped(self) -> bytes:
        self._left -= 1
        return b"%b%019d%b" % (_STAMPED_BEFORE, time.perf_counter_ns(), _STAMPED_AFTER)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.collect()
    gc.freeze()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="The benchmark's mock upstream.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before a whole answer or a stream's first byte")
    args = parser.parse_args()
    Mock.latency = args.latency_ms / 1e3
    uvloop.run(_serve(args.port))


if __name__ == "__main__":
    main()
