"""Figures and their noise: quantiles of samples, medians over rounds, and how far rounds lie apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Metric:
    """What a number means. `better`: the direction of an improvement; `neither` is never judged."""

    title: str
    unit: str
    better: Better


# Every metric that a scenario may report, in the order of the table's columns.
METRICS: Mapping[str, Metric] = {
    "rate": Metric("requests/s", "1/s", "higher"),
    "p50": Metric("p50", "ms", "lower"),
    "p95": Metric("p95", "ms", "lower"),
    "p99": Metric("p99", "ms", "lower"),
    "first_p50": Metric("first byte p50", "ms", "lower"),
    "first_p99": Metric("first byte p99", "ms", "lower"),
    "chunk_p50": Metric("chunk p50", "ms", "lower"),
    "chunk_p99": Metric("chunk p99", "ms", "lower"),
    "chunks": Metric("chunks/s", "1/s", "neither"),
    "late_p99": Metric("sent late p99", "ms", "neither"),
    "unserved": Metric("unserved", "%", "neither"),
    "seconds": Metric("seconds", "s", "lower"),
    "rss": Metric("RSS", "MB", "lower"),
    "pss": Metric("PSS", "MB", "lower"),
    "disk": Metric("on disk", "MB", "lower"),
    "times": Metric("×", "×", "neither"),
    "overhead": Metric("× the floor", "×", "lower"),
    "scaling": Metric("× one worker", "×", "higher"),
    "cpu_us": Metric("router CPU", "µs/request", "lower"),
    "generator_us": Metric("generator CPU", "µs/request", "neither"),
    "errors": Metric("errors", "", "lower"),
}


@dataclass(frozen=True)
class Figure:
    """One number of the report: a value per round. `name` is `scenario/subject/metric`."""

    name: str
    rounds: tuple[float, ...]

    @property
    def scenario(self) -> str:
        return self.name.partition("/")[0]

    @property
    def subject(self) -> str:
        return self.name.partition("/")[2].rpartition("/")[0]

    @property
    def metric(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def median(self) -> float:
        return float(np.median(self.rounds))

    @property
    def deviation(self) -> float:
        """Standard deviation of the rounds; NaN where there is only one."""
        return float(np.std(self.rounds, ddof=1)) if len(self.rounds) > 1 else math.nan

    @property
    def error(self) -> float:
        """Standard error of the median: 1.2533 σ/√n for a normal spread (Kenney & Keeping 1962)."""
        return 1.2533 * self.deviation / math.sqrt(len(self.rounds))

    def as_dict(self) -> dict[str, Any]:
        metric = METRICS[self.metric]
        return {
            "unit": metric.unit,
            "better": metric.better,
            "median": _rounded(self.median),
            "deviation": None if math.isnan(self.deviation) else _rounded(self.deviation),
            "rounds": [_rounded(value) for value in self.rounds],
        }


def figures_of(document: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures of a result file, by name."""
    return {name: Figure(name, tuple(row["rounds"])) for name, row in document["figures"].items()}


def quantile(samples: Floats, q: float) -> float:
    """The `q`-quantile (0 … 1), linear between samples; NaN of nothing."""
    return float(np.quantile(samples, q)) if len(samples) else math.nan


def quantiles(samples: Floats) -> dict[str, float]:
    """The three that every latency is shown by."""
    return {"p50": quantile(samples, 0.5), "p95": quantile(samples, 0.95), "p99": quantile(samples, 0.99)}


def summary(samples: Floats) -> dict[str, Any]:
    """What a result file keeps of a million samples (ms): quantiles and a histogram with log-spaced edges."""
    if not len(samples):
        return {"count": 0}
    edges, counts = histogram(samples)
    return {
        "count": len(samples),
        "mean": _rounded(float(samples.mean())),
        **{f"p{q:g}": _rounded(quantile(samples, q / 100)) for q in (5, 25, 50, 75, 90, 95, 99, 99.9)},
        "min": _rounded(float(samples.min())),
        "max": _rounded(float(samples.max())),
        "histogram": {"edges_ms": [_rounded(edge) for edge in edges], "counts": counts},
    }


# Ten bins per decade, 1 µs to 100 s: fixed, so that histograms of different runs can be laid over each other.
_EDGES = 10.0 ** (np.arange(-30, 51) / 10)


def histogram(samples: Floats) -> tuple[list[float], list[int]]:
    """Edges (ms) and counts; empty bins at both ends are left out. `len(edges) == len(counts) + 1`."""
    counts, _ = np.histogram(np.clip(samples, _EDGES[0], _EDGES[-1]), bins=_EDGES)
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1])
    return _EDGES[first : last + 2].tolist(), counts[first : last + 1].tolist()


def slope(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope of `values` per unit of `times`, and its standard error. NaN for fewer than three points."""
    x, y = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(x) < 3 or float(np.ptp(x)) == 0.0:
        return math.nan, math.nan
    dx = x - x.mean()
    sum_squares = float((dx**2).sum())
    rise = float((dx * (y - y.mean())).sum()) / sum_squares
    residual = y - y.mean() - rise * dx
    variance = float((residual**2).sum()) / (len(x) - 2)
    return rise, math.sqrt(variance / sum_squares)


def _rounded(value: float) -> float:
    """Five significant digits: more would be noise in the file."""
    return float(f"{value:.5g}")
