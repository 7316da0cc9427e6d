"""Streams: what the router adds to the first byte and to every chunk, alone and while prompts are being classified."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from bench.figures import quantile
from bench.jobs import Endpoint, Job, Result
from bench.rounds import Leg, Play, Reading, Readings, Round
from bench.stage import SMART_MODEL, Stage

# Streams at once → (ms between chunks, chunks): about what that many readers would draw, within what one worker,
# the upstream and the generator can do on two cores together.
CROWDS = {1: (10, 20), 50: (50, 20), 500: (250, 12)}
QUICK_CROWDS = {1: (10, 10), 50: (50, 10), 500: (500, 4)}
_MIXED_STREAMS = 20
_MIXED_DRIP = (25, 20)
_MIXED_PROMPT = "tokens:256"
_MIXED_CONCURRENCY = 8


def stream(stage: Stage, stack: ExitStack) -> Play:
    """A crowd of streams through the router, beside the same crowd at the upstream itself."""
    crowds = QUICK_CROWDS if stage.options.quick else CROWDS
    sides = [("upstream", stage.mock), ("router", stage.router)]
    if stage.against is not None:
        sides.append(("peer", stage.against))
    legs = [
        _crowd(stage, f"{who} n={size}", where, size, drip) for size, drip in crowds.items() for who, where in sides
    ]

    def derive(seen: Round) -> Round:
        derived: dict[str, dict[str, float]] = {}
        for who in [who for who, _ in sides[1:]]:
            for size in crowds:
                ours, floor = seen[f"{who} n={size}"], seen[f"upstream n={size}"]
                name = "added" if who == "router" else "added by peer"
                derived[f"{name} n={size}"] = {
                    metric: ours[metric] - floor[metric]
                    for metric in ("first_p50", "first_p99", "chunk_p50", "chunk_p99")
                }
        return derived

    rounds = 1 if stage.options.quick else None
    note = "chunk: from the upstream's write to the client's read, by a time stamp inside the chunk"
    return Play(legs, derive, [note], rounds)


def mixed(stage: Stage, stack: ExitStack) -> Play:
    """Streams while 256-token prompts are classified at full load. The same load beside streams that bypass the
    router is the machine's own share: with few cores, waiting for one is part of every delay."""
    smart = stage.router.asking_for(SMART_MODEL)
    legs = [
        _crowd(stage, "streams alone", stage.router, _MIXED_STREAMS, _MIXED_DRIP),
        _under_load(stage, "streams while classifying", stage.router, smart),
        _under_load(stage, "past the router while classifying", stage.mock, smart),
    ]

    def derive(seen: Round) -> Round:
        busy = seen["streams while classifying"]
        return {
            "added by classifying": _less(busy, seen["streams alone"]),
            "added, less the machine's own": _less(busy, seen["past the router while classifying"]),
        }

    drip = f"{_MIXED_STREAMS} streams, a chunk every {_MIXED_DRIP[0]} ms"
    note = f"{drip}; {_MIXED_CONCURRENCY} clients with 256-token prompts"
    return Play(legs, derive, [note], rounds=1 if stage.options.quick else None)


def _less(ours: Readings, floor: Readings) -> Readings:
    return {metric: ours[metric] - floor[metric] for metric in ("chunk_p50", "chunk_p99")}


def _crowd(stage: Stage, subject: str, where: Endpoint, size: int, drip: tuple[int, int]) -> Leg:
    def run() -> Reading:
        result = stage.load(_streams(stage, where, size, drip))
        return Reading(_figures(result), result.delays)

    return Leg(subject, run)


def _under_load(stage: Stage, subject: str, where: Endpoint, smart: Endpoint) -> Leg:
    def run() -> Reading:
        streams = _streams(stage, where, _MIXED_STREAMS, _MIXED_DRIP)
        # The load begins before the measured stretch and ends after it.
        whole = streams.seconds + 1.2 * streams.stream_seconds
        prompts = stage.numbered(
            stage.job(smart, concurrency=_MIXED_CONCURRENCY, prompt=_MIXED_PROMPT, seconds=whole, discard=0.0)
        )
        stage.second_generator.start(prompts)
        result = stage.generator.run(replace(streams, first=prompts.first))
        load = stage.second_generator.result()
        stage.used(load)
        return Reading({"rate": load.rate, **_figures(result)}, result.delays)

    return Leg(subject, run)


def _streams(stage: Stage, where: Endpoint, size: int, drip: tuple[int, int]) -> Job:
    return stage.job(where, concurrency=size, drip=drip)


def _figures(result: Result) -> dict[str, float]:
    return {
        "chunks": len(result.delays) / result.seconds,
        "first_p50": quantile(result.firsts, 0.5),
        "first_p99": quantile(result.firsts, 0.99),
        "chunk_p50": quantile(result.delays, 0.5),
        "chunk_p99": quantile(result.delays, 0.99),
        "errors": float(sum(result.errors.values())),
        "generator_us": result.cpu / max(1, result.used) * 1e6,
    }
