"""Every metric's name, labels and buckets; one `Record` per request, observed once, when the request is over.

Conventions: https://prometheus.io/docs/practices/naming/. With several workers,
`PROMETHEUS_MULTIPROC_DIR` is set before this module is imported and `/metrics` sums over all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Seconds. 0.5 ms is a direct route's whole overhead, 120 s the default deadline of a request.
_LONG = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2)

registry = CollectorRegistry()

_requests = Counter(
    "virtusoul_requests_total",
    "Requests that ended, by the tier and provider that served them, HTTP status, and how the tier was found.",
    ["tier", "provider", "status", "mechanism"],
    registry=registry,
)
_request_seconds = Histogram(
    "virtusoul_request_seconds", "Whole request, streams to their end.", ["tier"], buckets=_LONG, registry=registry
)
_overhead_seconds = Histogram(
    "virtusoul_overhead_seconds",
    "Our own share of a request until its response starts: all but waiting for upstreams and between retries.",
    buckets=_LONG,
    registry=registry,
)
_classify_seconds = Histogram(
    "virtusoul_classify_seconds", "Classification, queueing included.", buckets=_SHORT, registry=registry
)
_first_token_seconds = Histogram(
    "virtusoul_first_token_seconds",
    "From the request's arrival to the first content of a stream.",
    ["tier"],
    buckets=_LONG,
    registry=registry,
)
_tokens = Counter(
    "virtusoul_tokens_total",
    "Tokens as providers count them; `cached_prompt` is the part of `prompt` read from a provider's cache.",
    ["tier", "kind"],
    registry=registry,
)
_cost = Counter(
    "virtusoul_cost_usd_total",
    "Spent by the tier's prices; `strongest` is what the same tokens would have cost at the strongest priced tier.",
    ["tier", "at"],
    registry=registry,
)
_retries = Counter(
    "virtusoul_retries_total", "Further attempts on the same tier.", ["tier", "reason"], registry=registry
)
_fallbacks = Counter("virtusoul_fallbacks_total", "Moves to another tier.", ["from", "to", "reason"], registry=registry)
_circuit = Gauge(
    "virtusoul_circuit_open",
    "1 while a tier's circuit is open in any worker.",
    ["tier"],
    registry=registry,
    multiprocess_mode="livemax",
)
_in_flight = Gauge("virtusoul_in_flight", "Requests being served.", registry=registry, multiprocess_mode="livesum")
_disconnects = Counter(
    "virtusoul_client_disconnects_total", "Clients that left before their answer was whole.", registry=registry
)
_flagged = Counter(
    "virtusoul_flagged_total", "Classifications below CONFIDENCE_THRESHOLD.", ["tier"], registry=registry
)
_embedding_cache = Counter(
    "virtusoul_embedding_cache_total", "Look-ups of recent embeddings.", ["outcome"], registry=registry
)
_retrain = Counter("virtusoul_retrain_total", "Retrainings, by outcome.", ["outcome"], registry=registry)
_build_info = Gauge(
    "virtusoul_build_info",
    "1: the labels say what runs. 0: what ran before a retraining.",
    ["version", "encoder", "head"],
    registry=registry,
    multiprocess_mode="livemostrecent",
)
_shown_builds: set[tuple[str, str, str]] = set()

# A labels() call costs microseconds for its checks; the label sets in use are few.
_child = lru_cache(maxsize=4096)(lambda metric, *labels: metric.labels(*labels))


@lru_cache(maxsize=4096)
def _ended(tier: str, provider: str, status: int, mechanism: str) -> tuple[Callable[[], None], Callable[[float], None]]:
    """What counts one more ended request of this kind, and what takes its seconds."""
    return _requests.labels(tier, provider, str(status), mechanism).inc, _request_seconds.labels(tier).observe


@dataclass(slots=True)
class Record:
    """What happened to one request. Filled on the way, observed once. Times in seconds of `time.perf_counter`."""

    request_id: str = ""
    endpoint: str = ""
    started: float = field(default_factory=time.perf_counter)
    received: float | None = None  # the whole body was there
    answered: float | None = None  # the response started
    status: int = 0
    tier: str = ""  # that served, or was to serve
    requested_tier: str = ""
    provider: str = ""
    model: str = ""
    mechanism: str = ""
    confidence: float | None = None
    flagged: bool = False
    classify_seconds: float | None = None
    waited_seconds: float = 0.0  # for upstreams and between retries, until the response started
    first_token: float | None = None
    attempts: int = 0
    retries: tuple[tuple[str, str], ...] = ()  # (tier, reason)
    fallbacks: tuple[tuple[str, str, str], ...] = ()  # (from, to, reason)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: tuple[float, float] | None = None  # USD: actual, and at the strongest tier's prices
    dropped: tuple[str, ...] = ()
    error: str = ""
    cause: str = ""  # of an error on the wire: the name of the exception

    def overhead_seconds(self) -> float | None:
        """Our own share until the response started; None if no response did."""
        if self.answered is None:
            return None
        return max(0.0, self.answered - (self.received or self.started) - self.waited_seconds)


def show_in_flight(count: int) -> None:
    _in_flight.set(count)


def observe(record: Record) -> None:
    """Count one ended request."""
    tier = record.tier or "none"
    count, took = _ended(tier, record.provider or "none", record.status, record.mechanism or "none")
    count()
    took(time.perf_counter() - record.started)
    overhead = record.overhead_seconds()
    if overhead is not None:
        _overhead_seconds.observe(overhead)
    if record.classify_seconds is not None:
        _classify_seconds.observe(record.classify_seconds)
    if record.first_token is not None:
        _child(_first_token_seconds, tier).observe(record.first_token - record.started)
    if record.status == 499:
        _disconnects.inc()
    if record.flagged:
        _child(_flagged, tier).inc()
    if record.prompt_tokens:
        _child(_tokens, tier, "prompt").inc(record.prompt_tokens)
    if record.completion_tokens:
        _child(_tokens, tier, "completion").inc(record.completion_tokens)
    if record.cached_tokens:
        _child(_tokens, tier, "cached_prompt").inc(record.cached_tokens)
    if record.cost is not None:
        actual, strongest = record.cost
        _child(_cost, tier, "actual").inc(actual)
        _child(_cost, tier, "strongest").inc(strongest)
    for where, reason in record.retries:
        _child(_retries, where, reason).inc()
    for origin, to, reason in record.fallbacks:
        _child(_fallbacks, origin, to, reason).inc()


def observe_classification(seconds: float) -> None:
    """A classification outside a routed request (`/classify`)."""
    _classify_seconds.observe(seconds)


def observe_embedding_cache(hit: bool) -> None:
    _child(_embedding_cache, "hit" if hit else "miss").inc()


def observe_retrain(outcome: str) -> None:
    _child(_retrain, outcome).inc()


def show_circuit(tier: str, is_open: bool) -> None:
    _child(_circuit, tier).set(int(is_open))


def show_build(version: str, encoder: str, head: str) -> None:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        _build_info.clear()
        _shown_builds.clear()
    for shown in _shown_builds:  # in the workers' files a label set stays for good
        _build_info.labels(*shown).set(0)
    _shown_builds.add((version, encoder, head))
    _build_info.labels(version, encoder, head).set(1)


def exposition() -> bytes:
    """The Prometheus text format, summed over workers where there are several."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(registry)
    summed = CollectorRegistry()
    multiprocess.MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
    return generate_latest(summed)


def forget_worker(pid: int) -> None:
    """A worker died: its gauges no longer count (its counters do)."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
