"""A run's outcome: the tables on stdout, the JSON file, and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from bench import machine
from bench.figures import summary
from bench.rounds import Measured
from bench.stage import Options
from bench.table import figures_table, number

FORMAT = 1
GENERATOR = "generator_us"


def show(measured: Measured) -> str:
    """One scenario as text."""
    figures = measured.figures.values()
    costs = [each.median for each in figures if each.metric == GENERATOR]
    lines = [
        f"\n{measured.scenario.name}: {measured.scenario.title}  ({measured.seconds:.0f} s)",
        figures_table(each for each in figures if each.metric != GENERATOR),
        *(f"  {note}" for note in measured.notes),
    ]
    if costs:
        span = f"{number(min(costs))} to {number(max(costs))} µs"
        lines.append(f"  the load generator itself took {span} of CPU per request")
    return "\n".join(lines)


def document(outcome: Sequence[Measured], options: Options, models_dir: Path, seconds: float) -> dict[str, Any]:
    """What the JSON file holds. Keys of settings that look secret are left out."""
    return {
        "format": FORMAT,
        "machine": machine.stamp(models_dir),
        "options": {
            "quick": options.quick,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "mock_latency_ms": options.mock_latency_ms,
            "against": options.against.url if options.against else None,
            "settings": {name: value for name, value in options.settings.items() if not name.endswith("KEY")},
            "scenarios": [each.scenario.name for each in outcome],
        },
        "took_seconds": round(seconds, 1),
        "figures": {name: figure.as_dict() for each in outcome for name, figure in each.figures.items()},
        "samples": {
            f"{each.scenario.name}/{subject}": summary(samples)
            for each in outcome
            for subject, samples in each.samples.items()
        },
        "notes": {each.scenario.name: each.notes for each in outcome if each.notes},
    }


def write(folder: Path, name: str, content: dict[str, Any]) -> Path:
    """The JSON file, indented, so that two of them can be compared by eye."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    return path
