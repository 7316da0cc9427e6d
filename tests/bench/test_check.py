"""What counts as worse than the noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench.check import compare, describe, judge
from bench.figures import Figure

P50 = "direct/router c=1/p50"
RATE = "direct/router c=1/rate"


def verdict(name: str, before: Sequence[float], after: Sequence[float]) -> str:
    return judge(Figure(name, tuple(before)), Figure(name, tuple(after))).verdict


@pytest.mark.parametrize(
    ("name", "before", "after", "expected"),
    [
        (P50, [1.0, 1.01, 0.99, 1.0, 1.0], [1.5, 1.51, 1.49, 1.5, 1.5], "worse"),
        (P50, [1.5, 1.51, 1.49, 1.5, 1.5], [1.0, 1.01, 0.99, 1.0, 1.0], "better"),
        (RATE, [1000, 1010, 990], [500, 505, 495], "worse"),
        (RATE, [500, 505, 495], [1000, 1010, 990], "better"),
        (P50, [1.0, 1.5, 0.6, 1.2, 0.9], [1.3, 0.9, 1.6, 1.1, 1.4], "same"),  # a change, but within the rounds' spread
        (P50, [1.0, 1.0, 1.0], [1.03, 1.03, 1.03], "same"),  # certain, but too small to matter
        (P50, [0.010, 0.010, 0.010], [0.025, 0.025, 0.025], "same"),  # a great ratio of almost nothing
        (P50, [1.0], [3.0], "unknown"),
        ("size/base install/disk", [250.0], [300.0], "worse"),  # a size needs no second round
        ("open/router direct 100/s/late_p99", [1.0, 1.0], [9.0, 9.0], "same"),  # says nothing about the router
    ],
)
def test_judgement(name: str, before: list[float], after: list[float], expected: str) -> None:
    assert verdict(name, before, after) == expected


def result(cpu: str, figures: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "machine": {"cpu": cpu, "cores_allowed": 2},
        "figures": {name: Figure(name, tuple(rounds)).as_dict() for name, rounds in figures.items()},
    }


def test_unlike_machines_are_compared_by_ratios_only() -> None:
    ratio = "smart/added at c=1/overhead"
    before = result("one", {P50: [1, 1, 1], ratio: [1.2, 1.2, 1.2]})
    after = result("other", {P50: [9, 9, 9], ratio: [2.0, 2.0, 2.0]})
    judgements, remarks = compare(before, after)
    assert [each.name for each in judgements] == [ratio]
    assert judgements[0].verdict == "worse"
    assert "unlike machines" in remarks[0]


def test_figures_that_are_gone_are_named() -> None:
    judgements, remarks = compare(result("one", {P50: [1, 1], RATE: [2, 2]}), result("one", {P50: [1, 1]}))
    assert [each.name for each in judgements] == [P50]
    assert RATE in remarks[0]


def test_the_report_shows_what_moved() -> None:
    judgements, remarks = compare(result("one", {P50: [1, 1, 1]}), result("one", {P50: [2, 2, 2]}))
    text = describe(judgements, remarks)
    assert P50 in text
    assert "+100%" in text
    assert "1 worse, 0 better, 0 within the noise" in text
