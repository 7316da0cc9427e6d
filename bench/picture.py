"""The picture of a run: latency histograms, and throughput by concurrency. matplotlib is imported only here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures import Figure, figures_of

# Readable for people who do not tell red from green (Okabe & Ito 2008).
_COLOURS = {"router": "#0072B2", "upstream": "#999999", "peer": "#D55E00", "bare": "#009E73"}
_MISSING = "no picture: matplotlib is not installed (pip install 'virtusoul-router[bench]')"


def pyplot() -> Any:
    """matplotlib's pyplot on a backend that needs no screen. Raises `ImportError` with what to install."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError(_MISSING) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def draw(content: Mapping[str, Any], path: Path) -> bool:
    """Draws a result document to a PNG; False where it holds nothing to draw. Raises `ImportError`."""
    figures = figures_of(content)
    latency = _latency_samples(content["samples"])
    rates = {name: each for name, each in figures.items() if each.metric == "rate" and " c=" in each.subject}
    panels = int(bool(latency)) + int(bool(rates))
    if not panels:
        return False
    plt = pyplot()
    figure, axes = plt.subplots(1, panels, figsize=(6.4 * panels, 4.6), squeeze=False, layout="constrained")
    remaining = list(axes[0])
    if latency:
        _histograms(remaining.pop(0), latency)
    if rates:
        _throughput(remaining.pop(0), rates)
    machine = content["machine"]
    figure.suptitle(f"{machine['cpu']}, {machine['cores_allowed']} cores, {machine['when'][:10]}", fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def _latency_samples(samples: Mapping[str, Any]) -> dict[str, Any]:
    """Closed-loop latencies at concurrency 1, and the bare model they are held against."""
    return {
        name: each
        for name, each in samples.items()
        if name.startswith(("direct/", "smart/")) and name.endswith((" c=1", "bare model")) and each["count"]
    }


def _histograms(axis: Any, samples: Mapping[str, Any]) -> None:
    for name, each in samples.items():
        scenario, _, subject = name.partition("/")
        if name == "smart/upstream c=1":  # the same as direct's
            continue
        histogram = each["histogram"]
        shares = [100 * count / each["count"] for count in histogram["counts"]]
        axis.stairs(
            shares, histogram["edges_ms"], label=f"{scenario}: {subject} (p50 {each['p50']:.2g} ms)",
            color=_colour(subject), linestyle="-" if scenario == "direct" else "--", linewidth=1.6,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set(xlabel="latency, ms", ylabel="% of requests", title="Latency, one request at a time")
    axis.legend(fontsize=7, frameon=False)
    _bare(axis)


def _throughput(axis: Any, rates: Mapping[str, Figure]) -> None:
    lines: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
    for figure in rates.values():
        who, _, concurrency = figure.subject.rpartition(" c=")
        spread = figure.deviation if len(figure.rounds) > 1 else 0.0
        lines.setdefault((figure.scenario, who), []).append((int(concurrency), figure.median, spread))
    for (scenario, who), points in lines.items():
        if len(points) < 2:
            continue
        x, y, deviations = zip(*sorted(points), strict=True)
        axis.errorbar(
            x, y, yerr=deviations, marker="o", capsize=3, color=_colour(who), label=f"{scenario}: {who}",
            linestyle="-" if scenario == "direct" else "--",
        )  # fmt: skip
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="requests at once", ylabel="requests per second", title="Throughput, one worker")
    axis.legend(fontsize=7, frameon=False)
    _bare(axis)


def _colour(subject: str) -> str:
    return _COLOURS.get(subject.partition(" ")[0], "#000000")


def _bare(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
