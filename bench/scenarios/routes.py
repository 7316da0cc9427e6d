"""Whole requests through the router: `direct`, `smart`, and `open`, at fixed arrival rates."""

from __future__ import annotations

import time
from contextlib import ExitStack

import numpy as np

from bench import prompts
from bench.figures import quantile, quantiles
from bench.jobs import Endpoint, Job, Result
from bench.rounds import Leg, Play, Reading, Round
from bench.scenarios.encoder import encoder_in
from bench.stage import SMART_MODEL, Stage

DIRECT_CONCURRENCY = (1, 8, 32)
SMART_CONCURRENCY = (1, 16)
# Arrivals per second; the same on every machine, so that results of one machine can be compared over time.
DIRECT_RATES = (100, 500, 1000)
SMART_RATES = (25, 50, 100)
_OPEN_CONNECTIONS = 32


def direct(stage: Stage, stack: ExitStack) -> Play:
    """Closed loop on a directly selected tier, beside the upstream without any router."""
    legs = []
    for concurrency in DIRECT_CONCURRENCY:
        legs += [
            _closed(stage, f"{who} c={concurrency}", where, concurrency, "fixed", count_cpu=who == "router")
            for who, where in _sides(stage, stage.router, mock=True)
        ]

    def derive(seen: Round) -> Round:
        derived: dict[str, dict[str, float]] = {
            "added at c=1": {"p50": seen["router c=1"]["p50"] - seen["upstream c=1"]["p50"]}
        }
        return derived | _ratios(seen, DIRECT_CONCURRENCY)

    return Play(legs, derive, _peer_note(stage))


def smart(stage: Stage, stack: ExitStack) -> Play:
    """Closed loop with prompts that never repeat, beside the upstream and the bare model."""
    where = stage.router.asking_for(SMART_MODEL)
    legs = [_closed(stage, "upstream c=1", stage.mock, 1, "unique"), _bare_model(stage)]
    for concurrency in SMART_CONCURRENCY:
        legs += [
            _closed(stage, f"{who} c={concurrency}", side, concurrency, "unique", count_cpu=who == "router")
            for who, side in _sides(stage, where, mock=False)
        ]

    def derive(seen: Round) -> Round:
        added = seen["router c=1"]["p50"] - seen["upstream c=1"]["p50"]
        derived: dict[str, dict[str, float]] = {
            "added at c=1": {"p50": added, "overhead": added / seen["bare model"]["p50"]},
            "added - 1.25 x bare model": {"p50": added - 1.25 * seen["bare model"]["p50"]},
        }
        return derived | _ratios(seen, SMART_CONCURRENCY)

    return Play(legs, derive, ["bare model: session.run alone, on prompts of the same kind", *_peer_note(stage)])


def open_loop(stage: Stage, stack: ExitStack) -> Play:
    """Poisson arrivals at fixed rates; latency counts from when a request was due, so that queueing is not hidden."""
    legs: list[Leg] = []
    for rate in DIRECT_RATES:
        legs += [_arriving(stage, f"{who} direct {rate}/s", where, rate, "fixed")
                 for who, where in _sides(stage, stage.router, mock=False)]  # fmt: skip
    for rate in SMART_RATES:
        where = stage.router.asking_for(SMART_MODEL)
        legs += [_arriving(stage, f"{who} smart {rate}/s", side, rate, "unique")
                 for who, side in _sides(stage, where, mock=False)]  # fmt: skip
    note = "latency from the intended send time; unserved: due, but not answered 5 s after the end"
    return Play(legs, notes=[note, *_peer_note(stage)])


def _sides(stage: Stage, ours: Endpoint, *, mock: bool) -> list[tuple[str, Endpoint]]:
    sides = [("upstream", stage.mock)] if mock else []
    sides.append(("router", ours))
    if stage.against is not None:
        sides.append(("peer", stage.against))
    return sides


def _closed(
    stage: Stage, subject: str, where: Endpoint, concurrency: int, prompt: str, *, count_cpu: bool = False
) -> Leg:
    def run() -> Reading:
        before = stage.cpu_seconds() if count_cpu else 0.0
        result = stage.load(stage.job(where, concurrency=concurrency, prompt=prompt))
        figures = {"rate": result.rate, **latency(result), **_generator(result)}
        if count_cpu and result.used:
            figures["cpu_us"] = (stage.cpu_seconds() - before) / result.used * 1e6
        return Reading(figures, result.latencies)

    return Leg(subject, run)


def _arriving(stage: Stage, subject: str, where: Endpoint, rate: float, prompt: str) -> Leg:
    def run() -> Reading:
        job: Job = stage.job(where, kind="open", rate=rate, concurrency=_OPEN_CONNECTIONS, prompt=prompt)
        result = stage.load(job)
        due = len(result.latencies) + result.unserved
        figures = {
            "rate": result.rate,
            **latency(result),
            "late_p99": quantile(result.late, 0.99),
            "unserved": 100 * result.unserved / max(1, due),
            **_generator(result),
        }
        return Reading(figures, result.latencies)

    return Leg(subject, run)


def _bare_model(stage: Stage) -> Leg:
    encoder = encoder_in(stage.models_dir)
    number = iter(range(10_000_000, prompts.UNIQUE * 100))

    def run() -> Reading:
        took = []
        end = time.perf_counter() + stage.options.seconds / 2
        while time.perf_counter() < end:
            ids = encoder.token_ids(prompts.unique(next(number)))
            began = time.perf_counter()
            encoder.run(ids)
            took.append((time.perf_counter() - began) * 1e3)
        samples = np.array(took)
        return Reading(quantiles(samples), samples)

    return Leg("bare model", run)


def latency(result: Result) -> dict[str, float]:
    """The quantiles of whole answers, and how many answers were none."""
    return {**quantiles(result.latencies), "errors": float(sum(result.errors.values()))}


def _generator(result: Result) -> dict[str, float]:
    return {"generator_us": result.cpu / max(1, result.used) * 1e6}


def _ratios(seen: Round, levels: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Our throughput over the peer's, round by round."""
    return {
        f"router / peer {level}": {"times": seen[f"router {level}"]["rate"] / max(1e-9, seen[f"peer {level}"]["rate"])}
        for level in (f"c={level}" for level in levels)
        if f"peer {level}" in seen
    }


def _peer_note(stage: Stage) -> list[str]:
    return [f"peer: {stage.against.url}, model {stage.against.model}"] if stage.against else []
