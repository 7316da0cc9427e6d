"""Quantiles, medians and their error, histograms, slopes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.figures import Figure, figures_of, histogram, quantile, slope, summary


def test_a_name_is_taken_apart_at_its_ends() -> None:
    figure = Figure("classifier/8 tokens / floor/overhead", (1.0,))
    assert (figure.scenario, figure.subject, figure.metric) == ("classifier", "8 tokens / floor", "overhead")


def test_median_and_error_over_rounds() -> None:
    figure = Figure("direct/router c=1/p50", (1.0, 2.0, 9.0))
    assert figure.median == 2.0
    assert figure.deviation == pytest.approx(np.std([1, 2, 9], ddof=1))
    assert figure.error == pytest.approx(1.2533 * figure.deviation / math.sqrt(3))


def test_one_round_has_no_noise_to_show() -> None:
    figure = Figure("direct/router c=1/p50", (1.0,))
    assert math.isnan(figure.deviation)
    assert figure.as_dict()["deviation"] is None


def test_figures_survive_the_file() -> None:
    figure = Figure("direct/router c=1/p50", (1.0, 1.5))
    assert figures_of({"figures": {figure.name: figure.as_dict()}}) == {figure.name: figure}


def test_quantile_of_nothing_is_unknown() -> None:
    assert math.isnan(quantile(np.array([]), 0.5))
    assert summary(np.array([])) == {"count": 0}


def test_histogram_counts_everything_once() -> None:
    samples = np.array([0.02, 0.5, 0.5, 3.0, 1e9])  # the last is beyond the last edge
    edges, counts = histogram(samples)
    assert sum(counts) == 5
    assert len(edges) == len(counts) + 1
    assert counts[0] and counts[-1]


def test_summary_of_samples() -> None:
    found = summary(np.arange(1, 1001, dtype=float))
    assert found["count"] == 1000
    assert found["p50"] == pytest.approx(500.5)
    assert found["max"] == 1000


def test_slope_and_its_error() -> None:
    times = list(range(10))
    rise, error = slope(times, [3 + 2 * t for t in times])
    assert rise == pytest.approx(2)
    assert error == pytest.approx(0, abs=1e-9)
    rise, error = slope(times, [0, 1] * 5)
    assert abs(rise) < 2 * error
    assert math.isnan(slope([1, 2], [1, 2])[0])
