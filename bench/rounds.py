"""Interleaved rounds: every leg of a scenario once per round, so that a busy minute hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from bench.figures import METRICS, Figure, Floats
from bench.progress import Progress
from bench.stage import Stage

Readings = Mapping[str, float]  # metric → value
Round = Mapping[str, Readings]  # subject → readings


@dataclass(frozen=True)
class Reading:
    """What one leg saw in one round: figures by metric, and the samples behind them (ms)."""

    figures: Readings
    samples: Floats | None = None


@dataclass(frozen=True)
class Leg:
    """One thing measured; `subject` is its row in the table."""

    subject: str
    run: Callable[[], Reading]


@dataclass(frozen=True)
class Play:
    """A scenario made ready: its legs, what follows from them within one round, and remarks for the reader.

    `rounds` caps the rounds where one takes long.
    """

    legs: list[Leg]
    derive: Callable[[Round], Round] = field(default=lambda _: {})
    notes: list[str] = field(default_factory=list)
    rounds: int | None = None


@dataclass(frozen=True)
class Scenario:
    """`prepare(stage, stack)` makes it ready; what it starts on `stack` is ended when the scenario is over."""

    name: str
    title: str
    prepare: Callable[[Stage, ExitStack], Play]


@dataclass
class Measured:
    """A scenario's outcome."""

    scenario: Scenario
    figures: dict[str, Figure]
    samples: dict[str, Floats]
    notes: list[str]
    seconds: float


def play(scenario: Scenario, stage: Stage, progress: Progress) -> Measured:
    """Runs one scenario. Raises `BenchError`."""
    began = time.monotonic()
    with ExitStack() as stack:
        progress.begin(scenario.name, 1)
        plan = scenario.prepare(stage, stack)
        rounds = min(stage.options.rounds, plan.rounds or stage.options.rounds)
        progress.begin(scenario.name, rounds * len(plan.legs))
        collected: dict[str, list[float]] = {}
        samples: dict[str, list[Floats]] = {}
        for _ in range(rounds):
            seen: dict[str, Readings] = {}
            for leg in plan.legs:
                progress.step(leg.subject)
                reading = leg.run()
                seen[leg.subject] = reading.figures
                if reading.samples is not None:
                    samples.setdefault(leg.subject, []).append(reading.samples)
            for subject, readings in _both(seen, plan.derive(seen)):
                for metric, value in readings.items():
                    collected.setdefault(f"{scenario.name}/{subject}/{metric}", []).append(value)
        progress.end()
        figures = {name: Figure(name, tuple(values)) for name, values in collected.items()}
        assert all(figure.metric in METRICS for figure in figures.values())  # noqa: S101 - a scenario's own mistake
        joined = {subject: np.concatenate(parts) for subject, parts in samples.items()}
    return Measured(scenario, figures, joined, plan.notes, time.monotonic() - began)


def _both(seen: Round, derived: Round) -> Iterable[tuple[str, Readings]]:
    yield from seen.items()
    yield from derived.items()
