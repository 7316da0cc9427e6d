"""OpenTelemetry spans, one per routed request, for those who installed the `otel` extra and named a collector.

Spans are made when a request is over, from its record, so that the hot path carries nothing. Configured by the standard
variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, …); without an endpoint nothing is imported.
Attributes: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/. No prompt text, no key.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from router.metrics import Record

log = logging.getLogger("router.tracing")

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracer:
    """Exports spans in the background. `export` costs microseconds; the sending has a thread of its own."""

    def __init__(self, provider: Any) -> None:
        """`provider`: an `opentelemetry.sdk.trace.TracerProvider`."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("virtusoul-router")
        self._propagator = TraceContextTextMapPropagator()

    def export(self, record: Record, traceparent: str | None) -> None:
        """One ended request, as a child of the client's span where it sent a `traceparent` header."""
        ended = time.time_ns()
        started = ended - int((time.perf_counter() - record.started) * 1e9)
        parent = self._propagator.extract({"traceparent": traceparent}) if traceparent else None
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": record.provider,
            "gen_ai.request.model": record.model,
            "gen_ai.usage.input_tokens": record.prompt_tokens,
            "gen_ai.usage.output_tokens": record.completion_tokens,
            "http.response.status_code": record.status,
            "virtusoul.request_id": record.request_id,
            "virtusoul.tier": record.tier,
            "virtusoul.mechanism": record.mechanism,
            "virtusoul.attempts": record.attempts,
        }
        if record.confidence is not None:
            attributes["virtusoul.confidence"] = record.confidence
        if record.error:
            attributes["error.type"] = record.error
        span = self._tracer.start_span(
            f"chat {record.tier or 'unrouted'}", context=parent, start_time=started, attributes=attributes
        )
        span.end(end_time=ended)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def from_environment() -> Tracer | None:
    """The tracer that the environment asks for; None where it asks for none, or the extra is missing (logged)."""
    if not any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("an OTLP endpoint is set, but OpenTelemetry is not installed: pip install 'virtusoul-router[otel]'")
        return None
    name = os.environ.get("OTEL_SERVICE_NAME", "virtusoul-router")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracer(provider)
