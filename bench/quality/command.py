"""The `quality` command: read, assess, show, write."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench import machine
from bench.processes import ROOT, BenchError
from bench.progress import Progress
from bench.quality.assess import Group, Quality, assess
from bench.quality.data import Row, read
from bench.quality.judges import InProcess, Judge, OverHttp
from bench.quality.picture import draw
from bench.report import write
from bench.table import grid

# Groups of fewer prompts are left out of the tables (not of the JSON): their accuracy would be chance.
LEAST_SHOWN = 5


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Raises `BenchError`."""
    progress = Progress()
    models_dir: Path = args.models or ROOT / "models"
    judge: Judge = OverHttp(args.router, args.router_key, progress) if args.router else InProcess(models_dir, progress)
    rows, unknown = _known(read(args.data), judge.labels)
    quality = assess(rows, judge, knob=not args.no_knob)
    print(show(quality, f"{len(rows)} prompts of {args.data.name}, {judge.name}"))
    if unknown:
        print(f"\nleft out: {unknown} prompts of tiers that the classifier does not know")
    if args.out:
        content: dict[str, Any] = {
            "format": 1,
            "machine": machine.stamp(models_dir),
            "data": args.data.name,
            "judge": "router" if args.router else "in process",
            "quality": quality.as_dict(),
        }
        print(f"\nwritten: {write(args.out, 'quality', content)}")
        try:
            draw(quality, args.out / "quality.png")
            print(f"written: {args.out / 'quality.png'}")
        except ImportError as error:
            print(error, file=sys.stderr)
    return 0


def show(quality: Quality, title: str) -> str:
    """The report as text."""
    score = quality.score
    lines = [
        title,
        "",
        f"accuracy        {score.accuracy:.3f}",
        f"macro-F1        {score.macro_f1:.3f}",
        f"under-routing   {score.under_routing:.3f}   (complex or reasoning sent to {score.labels[0]})",
        f"calibration     {score.ece:.3f}   (expected error of the confidence, ten bins)",
        f"flips           {quality.flips:.3f}   (tiers that change under edits without meaning)",
        "",
        "confusion: rows are labels, columns are predictions",
        grid(
            ["", *score.labels, "recall", "precision", "F1"],
            [
                [label, *(str(cell) for cell in row), *(f"{score.per_tier[label][key]:.2f}" for key in _PER_TIER)]
                for label, row in zip(score.labels, score.confusion, strict=True)
            ],
        ),
        "",
        _groups("source", quality.sources),
        "",
        _groups("language (guessed where not given)", quality.languages),
        "",
        _groups("confidence", quality.flags),
        "",
        grid(["kept its tier under", "share"], [[name, f"{share:.3f}"] for name, share in quality.kept.items()]),
    ]
    if quality.knob:
        body = [
            [f"{each.bias:+.2f}", *(f"{share:.0%}" for share in each.shares), f"{each.accuracy:.3f}",
             f"{each.under_routing:.3f}"]
            for each in quality.knob
        ]  # fmt: skip
        lines += ["", grid(["ROUTING_BIAS", *score.labels, "accuracy", "under-routing"], body)]
    return "\n".join(lines)


_PER_TIER = ("recall", "precision", "f1")


def _groups(title: str, groups: list[Group]) -> str:
    shown = [each for each in groups if each.samples >= LEAST_SHOWN] or groups
    body = [[each.name, str(each.samples), f"{each.accuracy:.3f}"] for each in shown]
    return grid([title, "prompts", "accuracy"], body)


def _known(rows: list[Row], labels: tuple[str, ...]) -> tuple[list[Row], int]:
    known = [row for row in rows if row.tier in labels]
    if not known:
        raise BenchError(f"no prompt has a tier that the classifier knows ({', '.join(labels)})")
    return known, len(rows) - len(known)
