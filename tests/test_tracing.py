"""One span a request, from its record."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from router import tracing
from router.metrics import Record


def test_a_span_tells_what_the_record_knows() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = tracing.Tracer(provider)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tracer.export(Record(request_id="r", status=200, tier="simple", provider="openai", model="m", attempts=2), parent)
    tracer.export(Record(status=502, error="timeout"), None)
    first, second = exporter.get_finished_spans()
    assert first.name == "chat simple" and first.attributes is not None
    assert first.attributes["virtusoul.attempts"] == 2 and first.attributes["gen_ai.provider.name"] == "openai"
    assert f"{first.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert second.attributes is not None and second.attributes["error.type"] == "timeout"
    assert first.end_time is not None and first.start_time is not None and first.end_time >= first.start_time


def test_nothing_is_traced_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracing.ENDPOINT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert tracing.from_environment() is None
