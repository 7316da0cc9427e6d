"""Interleaving: every leg once per round, ratios within a round."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import orjson

from bench import report
from bench.picture import _latency_samples
from bench.progress import Progress
from bench.rounds import Leg, Play, Reading, Scenario, play
from bench.stage import Options, Stage


def scenario(order: list[str]) -> Scenario:
    values = {"router c=1": iter((2.0, 4.0, 6.0)), "peer c=1": iter((1.0, 2.0, 2.0))}

    def leg(subject: str) -> Callable[[], Reading]:
        def run() -> Reading:
            order.append(subject)
            return Reading({"rate": next(values[subject])}, np.array([1.0, 2.0]))

        return run

    def prepare(stage: Stage, stack: ExitStack) -> Play:
        stack.callback(order.append, "closed")
        return Play(
            [Leg(subject, leg(subject)) for subject in values],
            lambda seen: {"router / peer": {"times": seen["router c=1"]["rate"] / seen["peer c=1"]["rate"]}},
            ["a note"],
        )

    return Scenario("direct", "A title", prepare)


def test_legs_take_turns_and_ratios_are_within_rounds() -> None:
    order: list[str] = []
    stage = cast(Stage, SimpleNamespace(options=Options(rounds=3)))
    measured = play(scenario(order), stage, Progress())
    assert order == ["router c=1", "peer c=1"] * 3 + ["closed"]
    assert measured.figures["direct/router / peer/times"].rounds == (2.0, 2.0, 3.0)
    assert len(measured.samples["peer c=1"]) == 6
    text = report.show(measured)
    assert "a note" in text
    assert "router / peer" in text


def test_the_file_holds_figures_samples_and_the_machine(tmp_path: Path) -> None:
    stage = cast(Stage, SimpleNamespace(options=Options(rounds=2)))
    measured = play(scenario([]), stage, Progress())
    options = Options(rounds=2, settings={"CASCADE": "0", "API_KEY": "secret"})
    content = report.document([measured], options, tmp_path, 1.0)
    saved: dict[str, Any] = orjson.loads(report.write(tmp_path / "new", "bench", content).read_bytes())
    assert saved["figures"]["direct/router c=1/rate"]["rounds"] == [2.0, 4.0]
    assert saved["samples"]["direct/peer c=1"]["count"] == 4
    assert saved["machine"]["cores"]
    assert saved["options"]["settings"] == {"CASCADE": "0"}
    assert set(_latency_samples(saved["samples"])) == {"direct/router c=1", "direct/peer c=1"}
