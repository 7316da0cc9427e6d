"""A committed stream of a target: read to its first content, then handed on piece by piece, truncated never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from router.config import Target
from router.errors import Failure, UpstreamError
from router.providers.dialect import Piece, StreamReader, Usage, parse
from router.providers.failures import not_the_dialect
from router.sse import Decoder, SseError
from router.upstream import MAX_RESPONSE_BYTES, Response

# Role chunks and pings before the first content are held; a provider that sends nothing else is at fault.
MAX_BEFORE_CONTENT_BYTES = 4 * 1024 * 1024
# After the finish reason, only usage and the end marker can still come; one that sends neither is not waited for, nor,
# for long, one that owes the usage which the client asked for.
_AFTER_FINISH_SECONDS = 1.0
_FOR_USAGE_SECONDS = 5.0
# Pieces of a held stream that are written at a time: others get their turn in between.
_REPLAYED = 64
# Stands for the blank line that some providers leave out behind their last event; half a document stays no JSON.
_END = b"\n\n"


class Taker(Protocol):
    """Where pieces may go at once."""

    @property
    def ready(self) -> bool:
        """Whether `take` can be called now."""
        ...

    def take(self, pieces: list[Piece]) -> None: ...


class Opened:
    """A committed stream. Iterate `batches` to its end, then look at `usage`; `close` in any case."""

    def __init__(
        self, response: Response, reader: StreamReader, decoder: Decoder, target: Target, held: list[Piece]
    ) -> None:
        self.target = target
        self._response = response
        self._reader = reader
        self._decoder = decoder
        self._held = held
        self._whole: list[tuple[bytes, bool, str]] | None = None
        self._taker: Taker | None = None
        self._deadline = 0.0
        self._error: Exception | None = None  # to be raised once what came before it is out

    @property
    def usage(self) -> Usage | None:
        return self._reader.usage

    @property
    def native(self) -> bool:
        return self._reader.native

    async def until_content(self) -> None:
        """Reads on to the first content (or the end) and holds what came.

        Raises `UpstreamError`, and `TimeoutError` where the response was told to `expect` it sooner.
        """
        size = 0
        while not (self._reader.ended or self._holds_content()):
            try:
                data = await self._response.next()
            except UpstreamError as error:
                if error.failure is Failure.SILENT:
                    raise TimeoutError from None
                raise
            try:
                self._feed(data or _END)
            except UpstreamError as error:
                if not self._holds_content():
                    raise
                self._error = error  # behind content in the same read: the stream is committed, and then breaks
                return
            if not data:
                if self._reader.ended or self._reader.finished or self._holds_content():
                    return
                raise _cut(self.target, Failure.RESET)
            size += len(data)
            if size > MAX_BEFORE_CONTENT_BYTES:
                raise not_the_dialect(self.target, f"{size} bytes without any content")
        if not (self._reader.finished or self._holds_content()):
            raise not_the_dialect(self.target, "an end marker and no answer before it")

    async def until_end(self, idle: float, deadline: float) -> None:
        """Holds the whole stream (STREAM_RECOVERY=buffer). Raises `UpstreamError` if it breaks."""
        whole: list[tuple[bytes, bool, str]] = []  # without the documents, which take 25 times as much
        size = 0
        async with aclosing(self.batches(idle, deadline)) as batches:
            async for batch in batches:
                size += sum(len(piece.data) for piece in batch)
                if size > MAX_RESPONSE_BYTES:
                    raise not_the_dialect(self.target, f"more than {MAX_RESPONSE_BYTES} bytes")
                whole += [(piece.data, piece.content, piece.event) for piece in batch]
        self._whole = whole

    async def batches(
        self, idle: float, deadline: float, taker: Taker | None = None
    ) -> AsyncGenerator[list[Piece], None]:
        """Pieces as they come, in the batches they come in; ends when the answer is whole.

        Where a `taker` is given and ready, it gets what comes between two batches at once, without a change of tasks.
        Raises `UpstreamError` (BROKEN_STREAM) when the stream is cut, stalls for `idle` seconds or passes `deadline`
        (loop time): nothing truncated is ever taken for complete.
        """
        if self._whole is not None:
            for start in range(0, len(self._whole), _REPLAYED):
                part = self._whole[start : start + _REPLAYED]
                yield [Piece(data, parse(data), content, event) for data, content, event in part]
            return
        reader = self._reader
        if self._held:
            held, self._held = self._held, []
            yield held
        if self._error is not None:
            raise self._error
        self._response.expect(self._after_finish() or idle, deadline)
        self._taker, self._deadline = taker, deadline
        while not reader.ended:
            if taker is not None:
                self._response.pour(self._pour)
            try:
                data = await self._response.next()
            except UpstreamError as error:
                if reader.finished:
                    break
                if error.failure is Failure.SILENT:
                    raise self._stalled(idle, deadline) from None
                raise _cut(self.target, Failure.BROKEN_STREAM) from error
            if self._error is not None:
                raise self._error
            if reader.ended:
                break
            try:
                self._read(data or _END)
            except UpstreamError as error:
                self._error = error
            if self._held:
                held, self._held = self._held, []
                yield held
            if self._error is not None:
                raise self._error
            if not data:
                if reader.ended or reader.finished:
                    break
                raise _cut(self.target, Failure.BROKEN_STREAM)
        if rest := reader.close():
            yield rest

    def finish(self) -> None:
        """The answer is whole: the connection goes back to the pool, and what may still come on it is nobody's."""
        self._taker = None
        self._response.finish()

    def close(self) -> None:
        self._response.close()

    def _pour(self, data: bytes) -> bool:
        """Takes bytes where they arrive, while the task that iterates `batches` sleeps on."""
        taker = self._taker
        if taker is None or self._error is not None or self._reader.ended or not taker.ready:
            return False
        try:
            try:
                self._read(data)
            finally:
                held, self._held = self._held, []
                if held:
                    taker.take(held)
        except Exception as error:  # whatever it is, it is to be raised in the task that reads
            self._error = error
        if self._error is not None or self._reader.ended:
            self._response.nudge()
        return True

    def _read(self, data: bytes) -> None:
        before = self._after_finish()
        self._feed(data)
        patience = self._after_finish()
        if patience != before:
            self._response.expect(patience, self._deadline)

    def _after_finish(self) -> float:
        """Seconds of silence that are borne from here on, once the finish reason came; 0 before it."""
        if not self._reader.finished:
            return 0.0
        return _FOR_USAGE_SECONDS if self._reader.owes_usage else _AFTER_FINISH_SECONDS

    def _holds_content(self) -> bool:
        return any(piece.content for piece in self._held)

    def _feed(self, data: bytes) -> None:
        try:
            for event in self._decoder.feed(data):
                self._held += self._reader.feed(event)
                if self._reader.ended:
                    return  # what stands behind the end marker is nobody's, in the same read as well
        except SseError as error:
            raise not_the_dialect(self.target, str(error)) from None

    def _stalled(self, idle: float, deadline: float) -> UpstreamError:
        at_deadline = asyncio.get_running_loop().time() >= deadline
        what = "was still streaming at the request's deadline" if at_deadline else f"sent nothing for {idle:g} s"
        error = UpstreamError(
            f"The stream of tier '{self.target.tier}' ({self.target.route}) {what}; the answer is not complete.",
            Failure.BROKEN_STREAM,
            status=504,
            type="timeout_error",
            code="stream_timeout",
        )
        error.ours = at_deadline  # a long answer, or a slow reader
        return error


def _cut(target: Target, failure: Failure) -> UpstreamError:
    return UpstreamError(
        f"The stream of tier '{target.tier}' ({target.route}) was cut; the answer is not complete.",
        failure,
        code="stream_cut",
    )
