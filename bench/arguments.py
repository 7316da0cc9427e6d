"""The command line of `python -m bench`, all four commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench.jobs import Endpoint
from bench.stage import Options

COMMANDS = ("run", "check", "quality", "soak")
_QUICK_ROUNDS = 2
_QUICK_SECONDS = 0.25


def parse(argv: Sequence[str], scenarios: Sequence[str]) -> argparse.Namespace:
    """`command` is always set; without one it is `run`."""
    words = list(argv)
    if not words or (words[0] not in COMMANDS and words[0] not in ("-h", "--help")):
        words.insert(0, "run")
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="What the router costs, measured. Without a command: run the benchmark (`run --help`).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands.add_parser("run", help="latency, throughput, streams, memory, start-up"), scenarios)
    _add_check(commands.add_parser("check", help="did something get worse than the noise? exit 1 if so"))
    _add_quality(commands.add_parser("quality", help="how well labelled prompts are routed"))
    _add_soak(commands.add_parser("soak", help="minutes of load with faults every second; prints a verdict"))
    args = parser.parse_args(words)
    if args.command == "run" and (unknown := set(args.only or ()) - set(scenarios)):
        parser.error(f"--only: no scenario {', '.join(sorted(unknown))}; there are {', '.join(scenarios)}")
    return args


def options(args: argparse.Namespace) -> Options:
    """What a run's arguments ask for."""
    against = None
    if args.against:
        headers = dict(_pair(text, ":") for text in args.against_header)
        if args.against_key:
            headers["authorization"] = f"Bearer {args.against_key}"
        against = Endpoint(args.against.rstrip("/"), args.against_model, headers)
    return Options(
        quick=args.quick,
        rounds=args.rounds or (_QUICK_ROUNDS if args.quick else Options.rounds),
        seconds=args.seconds or (_QUICK_SECONDS if args.quick else Options.seconds),
        against=against,
        router_url=args.router.rstrip("/") if args.router else None,
        router_key=args.router_key,
        mock_port=args.mock_port,
        mock_latency_ms=args.mock_latency_ms,
        settings=dict(_pair(text, "=") for text in args.set),
    )


def _pair(text: str, mark: str) -> tuple[str, str]:
    name, found, value = text.partition(mark)
    if not found:
        raise SystemExit(f"python -m bench: expected NAME{mark}VALUE, not {text!r}")
    return name.strip(), value.strip()


def _add_run(parser: argparse.ArgumentParser, scenarios: Sequence[str]) -> None:
    parser.add_argument("--quick", action="store_true", help="under a minute in all; rough")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of: {', '.join(scenarios)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="interleaved rounds (5; quick: 2)")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each stretch of load (2; quick: 0.25)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write DIR/bench.json and DIR/bench.png")
    parser.add_argument("--against", metavar="URL", help="another endpoint, up to and with /v1, for the same load")
    parser.add_argument("--against-model", metavar="M", default="bench-medium", help="the model to ask it for")
    parser.add_argument("--against-key", metavar="K", help="its bearer token")
    parser.add_argument("--against-header", metavar="NAME:VALUE", action="append", default=[], help="repeatable")
    parser.add_argument("--router", metavar="URL", help="a router that runs already (up to and with /v1), not our own")
    parser.add_argument("--router-key", metavar="K", help="its bearer token")
    parser.add_argument("--mock-port", type=int, default=0, metavar="P", help="port of the mock upstream, for peers")
    parser.add_argument("--mock-latency-ms", type=float, default=0.0, metavar="MS", help="latency of the mock upstream")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="a setting of the router")


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("baseline", type=Path, metavar="BASELINE.json")
    parser.add_argument("current", type=Path, nargs="?", metavar="CURRENT.json", help="without it: measure now, alike")


def _add_quality(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.jsonl", help='lines with "text" and "tier"')
    parser.add_argument("--router", metavar="URL", help="a running router; without it, the classifier in this process")
    parser.add_argument("--router-key", metavar="K", help="its bearer token")
    parser.add_argument("--models", type=Path, metavar="DIR", help="artefacts for the classifier in this process")
    parser.add_argument("--no-knob", action="store_true", help="leave out the seven ROUTING_BIAS settings")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write DIR/quality.json and DIR/quality.png")


def _add_soak(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=20.0, metavar="N")
    parser.add_argument("--rate", type=float, metavar="R", help="requests/s; without it, half of measured capacity")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="WORKERS of the router")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write DIR/soak.json")
