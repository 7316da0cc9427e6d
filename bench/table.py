"""Text tables for people: one row per subject, one column per metric, aligned, with the rounds' spread where known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.figures import METRICS, Figure


def figures_table(figures: Iterable[Figure]) -> str:
    """The figures of one scenario. A cell is the median over rounds, with ± their standard deviation."""
    rows: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        rows.setdefault(figure.subject, {})[figure.metric] = figure
    columns = [name for name in METRICS if any(name in row for row in rows.values())]
    # A column in which nothing ever went wrong says so by its absence.
    if "errors" in columns and all(row["errors"].median == 0 for row in rows.values() if "errors" in row):
        columns.remove("errors")
    head = ["", *(_title(name) for name in columns)]
    body = [[subject, *(_cell(row.get(name)) for name in columns)] for subject, row in rows.items()]
    return grid(head, body)


def grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; the first is left-aligned, the others right."""
    widths = [max(len(row[index]) for row in [head, *body]) for index in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()

    return "\n".join([line(head), "  ".join("─" * width for width in widths), *(line(row) for row in body)])


def number(value: float) -> str:
    """Three significant digits, thousands separated; "–" for what is not known."""
    if math.isnan(value):
        return "–"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


def _title(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.title} {metric.unit}" if metric.unit in ("ms", "MB", "µs/request", "%") else metric.title


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    shown = number(figure.median)
    deviation = figure.deviation
    if math.isnan(deviation) or deviation == 0:
        return shown
    return f"{shown} ±{number(deviation)}"
