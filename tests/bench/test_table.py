"""Tables for people."""

from __future__ import annotations

import math

import pytest

from bench.figures import Figure
from bench.table import figures_table, grid, number


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.01234, "0.0123"), (1.2345, "1.23"), (12.345, "12.3"), (123.45, "123"), (12345.6, "12,346"),
     (-1.5, "-1.50"), (math.nan, "–")],
)  # fmt: skip
def test_three_digits_are_enough(value: float, shown: str) -> None:
    assert number(value) == shown


def test_columns_line_up() -> None:
    lines = grid(["name", "x"], [["a", "1"], ["longer", "1,000"]]).splitlines()
    assert lines[0] == "name        x"
    assert lines[2] == "a           1"
    assert lines[3] == "longer  1,000"


def test_a_row_per_subject_and_a_column_per_metric() -> None:
    text = figures_table(
        [
            Figure("direct/router c=1/p50", (1.0, 1.0)),
            Figure("direct/router c=1/rate", (100.0, 200.0)),
            Figure("direct/router c=1/errors", (0.0, 0.0)),
            Figure("direct/upstream c=1/p50", (0.5,)),
        ]
    )
    head, _, router, upstream = text.splitlines()
    assert head.split() == ["requests/s", "p50", "ms"]
    assert router.split()[2:] == ["150", "±70.7", "1.00"]
    assert upstream.split()[2:] == ["0.500"]


def test_errors_are_shown_once_there_are_any() -> None:
    assert "errors" in figures_table([Figure("direct/router c=1/errors", (2.0, 0.0))])
