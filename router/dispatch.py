"""The attempt loop: which target is asked next, until one answer is committed.

`decide` is the retry table, pure. `Dispatcher.run` is the thin loop around it: one deadline over all attempts, a
circuit per tier, and the commit point: the whole body, or the first content of a stream.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

import orjson

from router.chat import Chat
from router.config import Settings, Target
from router.errors import BadRequest, Failure, NotConfigured, UpstreamError
from router.health import Health
from router.metrics import Record
from router.opened import Opened
from router.policy import Plan, larger_window
from router.providers import Dialect, dialect_for
from router.providers.dialect import Outgoing, Reply, parse
from router.providers.failures import not_the_dialect
from router.sse import Decoder
from router.upstream import MAX_ERROR_BYTES, Response, Upstream, silent

log = logging.getLogger("router.dispatch")

# Exponential backoff with full jitter (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter).
BACKOFF_BASE = 0.25
BACKOFF_CAP = 8.0
# A `Retry-After` beyond this is not waited for while a fallback could serve at once.
PATIENCE_WITH_FALLBACK = 10.0
# The status of an error is known; its text is not waited for any longer.
_ERROR_BODY_SECONDS = 5.0
# A target that had less of its own timeout before the request's deadline came is not to blame for its silence.
_FAIR_SHARE = 0.9
_NEVER = float("inf")


class Move(enum.Enum):
    RETRY = "retry"
    FALLBACK = "fallback"
    STOP = "stop"


# Failure → what to do while retries are left, and what once they are not.
_TABLE: dict[Failure, tuple[Move, Move]] = {
    Failure.CONNECT: (Move.RETRY, Move.FALLBACK),
    Failure.RESET: (Move.RETRY, Move.FALLBACK),
    Failure.SILENT: (Move.FALLBACK, Move.FALLBACK),  # asking again costs the same silence again
    Failure.RATE_LIMITED: (Move.RETRY, Move.FALLBACK),
    Failure.SERVER: (Move.RETRY, Move.FALLBACK),
    Failure.AUTH: (Move.STOP, Move.STOP),
    Failure.CLIENT: (Move.STOP, Move.STOP),
    Failure.CONTEXT_LENGTH: (Move.FALLBACK, Move.FALLBACK),
    Failure.CONTENT_FILTER: (Move.STOP, Move.STOP),
    Failure.PREFILL: (Move.FALLBACK, Move.FALLBACK),
    Failure.BROKEN_STREAM: (Move.FALLBACK, Move.FALLBACK),
}
# Failures that say something about the target's health; the rest are about the request.
_COUNTS = frozenset(
    {Failure.CONNECT, Failure.RESET, Failure.SILENT, Failure.RATE_LIMITED, Failure.SERVER, Failure.BROKEN_STREAM}
)


def decide(failure: Failure, *, attempt: int, retries: int) -> Move:
    """The next move after attempt number `attempt` (from 1) of one target failed."""
    again, exhausted = _TABLE[failure]
    return again if attempt <= retries else exhausted


def wait_before_retry(attempt: int, retry_after: float | None, jitter: Callable[[float, float], float]) -> float:
    """Seconds to wait after attempt number `attempt` (from 1); the upstream's wish is a lower bound."""
    backoff = jitter(0.0, min(BACKOFF_CAP, BACKOFF_BASE * 2 ** (attempt - 1)))
    return max(backoff, retry_after or 0.0)


class Dispatcher:
    """Runs plans against the pool. One per process, made inside its loop.

    `settings` is passed in, for it can be swapped.
    """

    def __init__(
        self,
        upstream: Upstream,
        health: Health,
        *,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._upstream = upstream
        self._health = health
        # What is forwarded has no circuit: a tier that makes no embeddings may chat all the same.
        self._forwarded = Health(sys.maxsize, 0.0)
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()  # asked for once: a look-up is a system call in Python 3.11

    async def run(self, chat: Chat, plan: Plan, settings: Settings, record: Record, deadline: float) -> Reply | Opened:
        """One committed answer. Raises `UpstreamError` when no target gave one, `NotConfigured` when there is none.

        `deadline`: loop time. `record` is filled on the way: tier, provider, attempts, retries, fallbacks.
        """
        if not plan.targets:
            raise NotConfigured("No tier is configured; set MEDIUM_PROVIDER and its model and key, or use --demo.")
        remaining = list(plan.targets)
        first_error: UpstreamError | None = None
        while remaining:
            target = remaining.pop(0)
            _name(record, target, plan)
            if not self._health.permit(target.tier, record):
                error, reason = self._circuit_error(target), "circuit_open"
            else:
                try:
                    outgoing = _outgoing(target, chat, record)
                    return await self._serve(target, outgoing, chat, settings, record, deadline, bool(remaining))
                except UpstreamError as failed:
                    error, reason = failed, failed.failure.value
                except BadRequest:  # the request cannot be put in this target's words
                    self._health.abandoned(target.tier, record)
                    if first_error is None:
                        raise
                    # The client sent what the tier it asked for understands, and can wait for that one.
                    if remaining:
                        record.fallbacks += ((target.tier, remaining[0].tier, "untranslatable"),)
                    continue
                except BaseException:  # the client left: no verdict on the target
                    self._health.abandoned(target.tier, record)
                    raise
            if error.failure is Failure.CONTEXT_LENGTH:
                remaining = larger_window(remaining, target)
            first_error = first_error or error
            if _TABLE[error.failure][1] is Move.STOP and reason != "circuit_open":
                if first_error.failure is Failure.RATE_LIMITED and _says_nothing_of_the_request(error):
                    log.warning(
                        "tier '%s' (%s), a fallback after a 429: %s", target.tier, target.route, _refusal(error)
                    )
                    raise first_error  # the client can wait for that one
                raise error
            if remaining and self._loop.time() < deadline:
                record.fallbacks += ((target.tier, remaining[0].tier, reason),)
            else:
                break
        assert first_error is not None  # noqa: S101 - the loop ran at least once
        raise first_error

    async def forward(
        self, outgoing: Outgoing, plan: Plan, settings: Settings, record: Record, deadline: float
    ) -> Reply:
        """`outgoing`, which has no hub form, to the first target of `plan` and to no other. Raises `UpstreamError`.

        What the target answers is passed on as it came.
        """
        target = plan.targets[0]
        _name(record, target, plan)
        answer = await self._serve(target, outgoing, None, settings, record, deadline, False)
        assert isinstance(answer, Reply)  # noqa: S101 - only chats are streamed
        return answer

    async def _serve(
        self,
        target: Target,
        outgoing: Outgoing,
        chat: Chat | None,
        settings: Settings,
        record: Record,
        deadline: float,
        has_fallback: bool,
    ) -> Reply | Opened:
        """All attempts of one target. Raises the last `UpstreamError`. `chat` None: the answer is not translated."""
        dialect = dialect_for(target.vendor.dialect)
        health = self._health if chat is not None else self._forwarded
        attempt = 0
        while True:
            attempt += 1
            record.attempts += 1
            probing = health.is_open(target.tier)
            try:
                answer = await self._attempt(target, dialect, outgoing, chat, settings, record, deadline)
            except UpstreamError as error:
                _judge(health, target, error, record)
                retries = 0 if probing else settings.retries
                if decide(error.failure, attempt=attempt, retries=retries) is not Move.RETRY:
                    raise
                wait = wait_before_retry(attempt, error.retry_after, self._jitter)
                if self._loop.time() + wait >= deadline or (has_fallback and wait > PATIENCE_WITH_FALLBACK):
                    raise
                if not health.permit(target.tier, record):  # this failure opened the circuit
                    raise
                record.retries += ((target.tier, error.failure.value),)
                await asyncio.sleep(wait)
                record.waited_seconds += wait
            else:
                if probing or isinstance(answer, Reply):
                    health.succeeded(target.tier, record)
                return answer

    async def _attempt(
        self,
        target: Target,
        dialect: Dialect,
        outgoing: Outgoing,
        chat: Chat | None,
        settings: Settings,
        record: Record,
        deadline: float,
    ) -> Reply | Opened:
        """One call of one target, up to the commit point."""
        stream = chat is not None and chat.stream
        began = perf_counter()
        sent = self._loop.time()
        first = target.first_token_timeout
        silence = min(first, target.attempt_timeout) if stream else target.attempt_timeout
        until = min(deadline, sent + silence)
        response: Response | None = None
        try:
            response = await self._upstream.send(
                target, dialect, outgoing, chat, request_id=record.request_id, stream=stream, until=until
            )
            if chat is None or not stream or response.status != 200:
                return await self._whole(response, dialect, chat, target, deadline)
            await _expect_stream(response, dialect, chat, target, until)
            response.expect(_NEVER, min(deadline, sent + first))
            opened = Opened(response, dialect.stream(chat, target), Decoder(), target, [])
            await opened.until_content()
            if settings.stream_recovery == "buffer":
                await opened.until_end(target.stream_idle_timeout, deadline)
            response = None  # the stream is the caller's now
            return opened
        except TimeoutError:
            where = "did not answer" if response is None else "sent no content" if stream else "was not done"
            waited = self._loop.time() - sent
            error = silent(target, f"{where} within {waited:.1f} s")
            error.ours = deadline - sent < silence * _FAIR_SHARE
            raise error from None
        finally:
            record.waited_seconds += perf_counter() - began
            if response is not None:
                response.close()

    async def _whole(
        self, response: Response, dialect: Dialect, chat: Chat | None, target: Target, deadline: float
    ) -> Reply:
        """The body of an answer that is not streamed, or of an error, which is raised."""
        if response.status != 200:
            raise dialect.error(response.status, response.headers, await _error_body(response), target)
        body = response.received()
        if body is None:
            async with asyncio.timeout_at(deadline):  # one that trickles is never silent for long
                body = await response.read(target.attempt_timeout)
        return _as_sent(body, response, dialect, target) if chat is None else dialect.response(body, chat, target)

    def stream_ended(self, opened: Opened, error: UpstreamError | None, record: Record) -> None:
        """The relay's verdict on a committed stream."""
        if error is None:
            self._health.succeeded(opened.target.tier, record)
        else:
            _judge(self._health, opened.target, error, record)

    def _circuit_error(self, target: Target) -> UpstreamError:
        """What a client is told while the circuit is open: the failure that opened it, and when to come back."""
        seconds = max(1.0, self._health.retry_in(target.tier))
        last = self._health.last_error(target.tier)
        status, failure = (last.status, last.failure) if last else (503, Failure.SERVER)
        return UpstreamError(
            f"Tier '{target.tier}' ({target.route}) is resting after repeated failures"
            f"{f'; the last: {last.message}' if last else ''}",
            failure,
            status=status,
            type=last.type if last else "overloaded_error",
            code="circuit_open",
            retry_after=max(seconds, (last.retry_after or 0.0) if last else 0.0),
        )


def _judge(health: Health, target: Target, error: UpstreamError, record: Record) -> None:
    if error.failure is Failure.AUTH or error.ours:
        health.abandoned(target.tier, record)
    elif error.failure in _COUNTS:
        health.failed(target.tier, error, record)
    else:  # the provider is alive: it understood the request well enough to refuse it
        health.succeeded(target.tier, record)


def _name(record: Record, target: Target, plan: Plan) -> None:
    record.tier, record.provider, record.model = target.tier, target.vendor.name, target.model
    record.requested_tier = plan.wanted if plan.wanted != target.tier else ""


def _says_nothing_of_the_request(error: UpstreamError) -> bool:
    """Whether a refusal that stops is about the target itself: its key, its model's name, its account."""
    if error.failure is Failure.CLIENT:
        return error.upstream_status not in (400, 413, 422)
    return error.failure is Failure.AUTH


def _refusal(error: UpstreamError) -> str:
    """For the log; not the provider's own words, for those may quote the prompt."""
    what = "its key was refused" if error.failure is Failure.AUTH else "it refused the request"
    return f"{what} with status {error.upstream_status}"


async def _error_body(response: Response) -> bytes:
    """What an error says, as far as it comes: the status counts even where the body is cut, or repeats the prompt."""
    body = b""
    with suppress(UpstreamError, TimeoutError):
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            while len(body) < MAX_ERROR_BYTES and (part := await response.next()):
                body += part
    return body[:MAX_ERROR_BYTES]


async def _expect_stream(response: Response, dialect: Dialect, chat: Chat, target: Target, until: float) -> None:
    """Raises `UpstreamError` for a 200 that is a document, not a stream: most often an error in disguise."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    if "json" in kind:
        async with asyncio.timeout_at(until):
            body = await response.read(target.attempt_timeout)
        dialect.response(body, chat, target)  # raises the error that it holds
    if "json" in kind or "html" in kind:
        raise not_the_dialect(target, f"{kind} where a stream was asked for")


def _outgoing(target: Target, chat: Chat, record: Record) -> Outgoing:
    """The chat in the target's words; notes what they cannot say. Raises `BadRequest`."""
    dialect = dialect_for(target.vendor.dialect)
    outgoing = dialect.request(chat, target)
    is_native = chat.native is not None and chat.native[0] == dialect.name
    record.dropped = outgoing.dropped if is_native else (*chat.lost, *outgoing.dropped)
    return outgoing


def _as_sent(body: bytes, response: Response, dialect: Dialect, target: Target) -> Reply:
    """An answer without hub form: any JSON object, unless it is an error in disguise."""
    try:
        document = parse(body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise not_the_dialect(target, "an answer that is not a JSON object")
    if document.get("error"):
        raise dialect.error(response.status, response.headers, body[:MAX_ERROR_BYTES], target)
    return Reply(body, document)
