"""`python -m bench check`: did anything get worse than the noise?

The noise is what the rounds of both runs say it is: the standard errors of their medians, added in squares, times the
quantile of Student's t that leaves one chance in a hundred (Welch's test, on medians). What is significant must also
be large enough to matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.figures import METRICS, Figure, figures_of
from bench.machine import same_kind
from bench.table import grid, number

Verdict = Literal["worse", "better", "same", "unknown"]

# One-sided 99 % quantiles of Student's t by degrees of freedom; beyond the table the normal one.
_T99 = {1: 31.8, 2: 6.96, 3: 4.54, 4: 3.75, 5: 3.36, 6: 3.14, 7: 3.00, 8: 2.90, 9: 2.82, 10: 2.76, 12: 2.68, 15: 2.60}
_T99_NORMAL = 2.33
# A change smaller than this is not worth a warning, however certain: the machine itself drifts as much.
LEAST_CHANGE = 0.05
# A latency change below this (ms) is one that no user can tell, whatever the ratio.
LEAST_MS = 0.02


@dataclass(frozen=True)
class Judgement:
    """One figure before and after. `noise`: the change (in the figure's unit) that chance alone may make."""

    name: str
    before: float
    after: float
    noise: float
    verdict: Verdict

    @property
    def change(self) -> float:
        """Relative; NaN from nothing."""
        return (self.after - self.before) / abs(self.before) if self.before else math.nan


def judge(before: Figure, after: Figure) -> Judgement:
    """`unknown` where a single round leaves the noise unknown."""
    better = METRICS[before.metric].better
    delta = after.median - before.median
    noise = _noise(before, after)
    verdict: Verdict = "same"
    if math.isnan(noise):
        verdict = "unknown"
    elif better != "neither" and abs(delta) > max(noise, _least(before)):
        worsened = delta > 0 if better == "lower" else delta < 0
        verdict = "worse" if worsened else "better"
    return Judgement(before.name, before.median, after.median, noise, verdict)


def compare(baseline: Mapping[str, Any], current: Mapping[str, Any]) -> tuple[list[Judgement], list[str]]:
    """Judgements of every figure that both runs have, and remarks. Of unlike machines, only ratios are judged."""
    old, new = figures_of(baseline), figures_of(current)
    remarks: list[str] = []
    comparable = same_kind(baseline["machine"], current["machine"])
    if not comparable:
        remarks.append(
            f"measured on unlike machines ({baseline['machine']['cpu']}; {current['machine']['cpu']}): "
            "only ratios are judged"
        )
    if missing := [name for name in old if name not in new]:
        remarks.append(f"{len(missing)} figures of the baseline were not measured now, {missing[0]} first")
    names = [name for name in old if name in new and METRICS[old[name].metric].better != "neither"]
    if not comparable:
        names = [name for name in names if METRICS[old[name].metric].unit == "×"]
    return [judge(old[name], new[name]) for name in names], remarks


def describe(judgements: list[Judgement], remarks: list[str]) -> str:
    """A table of what moved, and the count of what did not."""
    moved = [each for each in judgements if each.verdict in ("worse", "better")]
    lines = [f"note: {remark}" for remark in remarks]
    if moved:
        body = [
            [each.name, number(each.before), number(each.after), _percent(each.change), f"±{number(each.noise)}",
             each.verdict]
            for each in sorted(moved, key=lambda each: each.verdict, reverse=True)
        ]  # fmt: skip
        lines.append(grid(["figure", "before", "after", "change", "noise", ""], body))
    counts = {verdict: sum(each.verdict == verdict for each in judgements) for verdict in ("worse", "better", "same")}
    unknown = len(judgements) - sum(counts.values())
    lines.append(f"{counts['worse']} worse, {counts['better']} better, {counts['same']} within the noise")
    if unknown:
        lines.append(f"{unknown} figures have a single round, so their noise is unknown: measure more rounds")
    return "\n".join(lines)


def _noise(before: Figure, after: Figure) -> float:
    """By chance alone, one change in a hundred is larger; NaN if a figure has one round."""
    if len(before.rounds) < 2 or len(after.rounds) < 2:
        # A figure that cannot vary, such as a size on the disk, needs no second round.
        return 0.0 if METRICS[before.metric].unit == "MB" and before.metric == "disk" else math.nan
    one, other = before.error**2, after.error**2
    if one + other == 0:
        return 0.0
    # Welch and Satterthwaite's degrees of freedom.
    freedom = (one + other) ** 2 / (one**2 / (len(before.rounds) - 1) + other**2 / (len(after.rounds) - 1))
    return _t99(freedom) * math.sqrt(one + other)


def _t99(freedom: float) -> float:
    below = [known for known in _T99 if known <= max(1.0, freedom)]
    return _T99_NORMAL if freedom > max(_T99) * 2 else _T99[max(below)]


def _least(figure: Figure) -> float:
    """The smallest change worth a warning, in the figure's unit."""
    least = LEAST_CHANGE * abs(figure.median)
    return max(least, LEAST_MS) if METRICS[figure.metric].unit == "ms" else least


def _percent(change: float) -> str:
    return "" if math.isnan(change) else f"{change:+.0%}"
