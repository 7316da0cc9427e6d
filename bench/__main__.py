"""`python -m bench [run|check|quality|soak]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import orjson

from bench import arguments
from bench.catalogue import SCENARIOS
from bench.check import compare, describe
from bench.picture import draw
from bench.processes import BenchError
from bench.progress import Progress
from bench.report import document, show, write
from bench.rounds import Measured, play
from bench.stage import Options, Stage


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0; 1 where a check or a soak failed; 2 where nothing could be measured."""
    args = arguments.parse(sys.argv[1:] if argv is None else argv, tuple(SCENARIOS))
    try:
        match args.command:
            case "check":
                return _check(args)
            case "quality":
                from bench.quality.command import run as quality

                return quality(args)
            case "soak":
                from bench.soak.command import run as soak

                return soak(args)
            case _:
                return _run(args)
    except BenchError as error:
        print(f"python -m bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace) -> int:
    content = measure(arguments.options(args), args.only or list(SCENARIOS), chosen=bool(args.only))
    if args.out:
        print(f"\nwritten: {write(args.out, 'bench', content)}")
        try:
            if draw(content, args.out / "bench.png"):
                print(f"written: {args.out / 'bench.png'}")
        except ImportError as error:
            print(error, file=sys.stderr)
    return 0


def measure(options: Options, names: Sequence[str], *, chosen: bool) -> dict[str, Any]:
    """Runs scenarios, prints each when it is done, and gives the document. One `chosen` that cannot run is a fault."""
    began = time.monotonic()
    outcome: list[Measured] = []
    progress = Progress()
    with Stage(options) as stage:
        for name in names:
            try:
                measured = play(SCENARIOS[name], stage, progress)
            except BenchError as error:
                progress.end()
                if chosen:
                    raise
                print(f"\n{name}: left out: {error}", flush=True)
                continue
            outcome.append(measured)
            print(show(measured), flush=True)
        if not outcome:
            raise BenchError("nothing could be measured")
        return document(outcome, options, stage.models_dir, time.monotonic() - began)


def _check(args: argparse.Namespace) -> int:
    try:
        baseline = orjson.loads(args.baseline.read_bytes())
        current = orjson.loads(args.current.read_bytes()) if args.current else None
    except (OSError, orjson.JSONDecodeError) as error:
        raise BenchError(f"no results to compare: {error}") from error
    if current is None:
        asked = baseline["options"]
        alike = Options(
            quick=asked["quick"], rounds=max(3, asked["rounds"]), seconds=asked["seconds"],
            mock_latency_ms=asked["mock_latency_ms"], settings=asked["settings"],
        )  # fmt: skip
        current = measure(alike, asked["scenarios"], chosen=False)
        print()
    judgements, remarks = compare(baseline, current)
    print(describe(judgements, remarks))
    return int(any(each.verdict == "worse" for each in judgements))


if __name__ == "__main__":
    sys.exit(main())
