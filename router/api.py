"""The routed endpoints: one straight line from the client's bytes to its answer, the same for every door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from time import perf_counter
from typing import Any

from aiohttp import web

from router import metrics
from router.access import request_id
from router.chat import Chat
from router.config import Settings
from router.doors.door import Door, StreamWriter
from router.downstream import Downstream
from router.errors import RouterError, UpstreamError
from router.http import Handler, WholeResponse, error_response, read_body
from router.metrics import Record
from router.opened import Opened
from router.policy import Plan
from router.prompt import text_to_classify
from router.providers.dialect import Piece, Reply, Usage
from router.routing import route
from router.service import Service

log = logging.getLogger("router.api")

# What may go out with a request in the client's own dialect: it switches features of the body on.
NATIVE_HEADERS = ("anthropic-beta",)
CLIENT_LEFT = 499  # nginx's word for it; only ever a metric


class Exchange:
    """One request through one door, from permit to record."""

    def __init__(self, request: web.Request, door: Door, service: Service) -> None:
        self.request = request
        self.door = door
        self.service = service
        self.settings: Settings = service.settings  # as they were when the request came
        self.record = Record(request_id=request_id(request.headers), endpoint=request.path)
        self.deadline = service.loop.time() + self.settings.timeout
        self.chat: Chat | None = None
        self.plan: Plan | None = None
        self.downstream: Downstream | None = None

    async def run(self) -> web.StreamResponse:
        """The response; whatever happens, one record is observed."""
        record = self.record
        permitted = False
        try:
            self.service.keys.check(self.request.headers)
            self.service.take_permit()
            permitted = True
            return await self._serve()
        except RouterError as error:
            return await self._refuse(error)
        except (asyncio.CancelledError, ConnectionError):
            record.status = CLIENT_LEFT
            raise
        except Exception:
            log.exception("request %s failed", record.request_id)
            return await self._refuse(RouterError("The router failed; its log says why.", code="internal_error"))
        finally:
            if self.downstream is not None:
                await self.downstream.silence()
            if permitted:
                self.service.release_permit()
            # In the loop's next round: the answer, which goes out at the end of this one, need not wait for it.
            self.service.loop.call_soon(self._observe)

    async def _serve(self) -> web.StreamResponse:
        raw = await read_body(self.request, self.settings.max_body_bytes)
        self.record.received = perf_counter()
        chat = self.chat = self.door.parse(raw)
        if chat.native is not None:
            chat.native_headers = {name: value for name in NATIVE_HEADERS if (value := self.request.headers.get(name))}
        if chat.stream:
            self.downstream = Downstream(self.request, self._headers, self.settings.keepalive)
        self.plan = await route(
            chat,
            self.request.headers,
            self.settings,
            self.service.classifier,
            self.record,
            alone=self.service.in_flight == 1,
        )
        answer = await self.service.dispatcher.run(chat, self.plan, self.settings, self.record, self.deadline)
        if isinstance(answer, Reply):
            self._count(answer.usage)
            self._answered(200)
            return WholeResponse(self.door.reply(answer, chat, self._meta()), self._headers())
        return await self._relay(answer, self.door.writer(chat))

    async def _relay(self, opened: Opened, writer: StreamWriter) -> web.StreamResponse:
        """Pieces to the client as they come. A broken stream ends in one error event and no end marker."""
        downstream = self.downstream
        assert downstream is not None  # noqa: S101 - made for every streamed chat
        self._answered(200)
        self.record.first_token = self.record.answered
        error: UpstreamError | None = None
        try:
            meta = self._meta()
            straight = _Straight(downstream, writer, meta)
            async with aclosing(opened.batches(opened.target.stream_idle_timeout, self.deadline, straight)) as batches:
                try:
                    async for pieces in batches:
                        await downstream.write(writer.write(pieces, meta))
                except UpstreamError as broken:
                    error = broken
            self._count(opened.usage)
            self.service.dispatcher.stream_ended(opened, error, self.record)
            if error is None:
                await downstream.write(writer.end(opened.usage))
                await downstream.end()
                opened.finish()
            else:
                self._note(error)
                await downstream.write(writer.error(error))
                await downstream.end()
        finally:
            opened.close()
        return downstream.response

    async def _refuse(self, error: RouterError) -> web.StreamResponse:
        """The error to the client: as a response, or as the stream's last event where it has begun."""
        self._note(error)
        downstream = self.downstream
        if downstream is not None:
            await downstream.silence()
        if downstream is None or not downstream.committed:
            self._answered(error.status)
            return error_response(error, self._headers(), self.door.error(error))
        writer = self.door.writer(self.chat) if self.chat is not None else None
        assert writer is not None  # noqa: S101 - a stream that began had a chat
        await downstream.write(writer.error(error))
        await downstream.end()
        return downstream.response

    def _note(self, error: RouterError) -> None:
        self.record.status = error.status
        self.record.error = error.failure.value if isinstance(error, UpstreamError) else error.code or error.type
        self.record.cause = type(error.__cause__).__name__ if error.__cause__ is not None else ""

    def _answered(self, status: int) -> None:
        self.record.status = status
        self.record.answered = perf_counter()

    def _headers(self) -> dict[str, str]:
        """Response headers, with what is known by now."""
        record = self.record
        headers = {"x-request-id": record.request_id}
        if self.plan is None:
            return headers
        headers["x-virtusoul-tier"] = record.tier
        if record.provider:
            headers["x-virtusoul-routed-to"] = _header_safe(f"{record.provider}/{record.model}")
        if record.confidence is not None:
            headers["x-virtusoul-confidence"] = str(record.confidence)
        headers["x-virtusoul-latency-ms"] = str(self._elapsed_ms())
        headers["x-virtusoul-attempts"] = str(record.attempts)
        if record.dropped:
            headers["x-virtusoul-dropped-params"] = _header_safe(",".join(record.dropped))
        return headers

    def _meta(self) -> dict[str, Any]:
        """The `_virtusoul` object."""
        record, plan = self.record, self.plan
        meta: dict[str, Any] = {
            "routed_to": f"{record.provider}/{record.model}",
            "tier": record.tier,
            "confidence": record.confidence,
            "latency_ms": self._elapsed_ms(),
            "attempts": record.attempts,
            "mechanism": record.mechanism,
        }
        if record.requested_tier:
            meta["requested_tier"] = record.requested_tier
        reasons = [plan.reason] if plan is not None and plan.reason else []
        reasons += [f"tier '{origin}': {why}" for origin, _, why in record.fallbacks]
        if reasons:
            meta["reason"] = "; ".join(reasons)
        return meta

    def _elapsed_ms(self) -> float:
        return round(((self.record.answered or perf_counter()) - self.record.started) * 1e3, 2)

    def _count(self, usage: Usage | None) -> None:
        if usage is None:
            return
        record = self.record
        record.prompt_tokens, record.completion_tokens, record.cached_tokens = usage
        if self.settings.has_prices:
            record.cost = cost(self.settings, record.tier, usage)

    def _observe(self) -> None:
        record = self.record
        if not record.status:
            record.status = CLIENT_LEFT
        metrics.observe(record)
        if self.service.tracer is not None:
            self.service.tracer.export(record, self.request.headers.get("traceparent"))
        shown = self.settings.log_prompts and self.chat is not None
        self.service.request_log.add(record, text_to_classify(self.chat.messages) if shown and self.chat else None)


class _Straight:
    """Pieces on their way to the client without a stop."""

    __slots__ = ("_downstream", "_meta", "_writer")

    def __init__(self, downstream: Downstream, writer: StreamWriter, meta: Mapping[str, Any]) -> None:
        self._downstream, self._writer, self._meta = downstream, writer, meta

    @property
    def ready(self) -> bool:
        return self._downstream.ready

    def take(self, pieces: list[Piece]) -> None:
        if data := self._writer.write(pieces, self._meta):
            self._downstream.write_now(data)


def cost(settings: Settings, tier: str, usage: Usage) -> tuple[float, float] | None:
    """USD for `usage` at the tier's prices, and at those of the strongest tier that has prices; None without prices."""
    target = settings.targets.get(tier)
    priced = [t for t in settings.targets.values() if t.input_price is not None or t.output_price is not None]
    if target is None or target not in priced:
        return None
    actual, strongest = (
        (usage.prompt * (one.input_price or 0.0) + usage.completion * (one.output_price or 0.0)) / 1e6
        for one in (target, priced[-1])
    )
    return actual, strongest


def routed(door: Door, service: Service) -> Handler:
    """The handler of one door. It needs nothing of the request's application, so it can be called past it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await Exchange(request, door, service).run()

    return handle


def _header_safe(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if " " <= char <= "~" else "?" for char in text)
