"""The `soak` command: start everything, load it, sample, judge."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

import uvloop

from bench import machine
from bench.jobs import Endpoint
from bench.processes import ROOT, BenchError, Process, Router
from bench.progress import Progress
from bench.report import write
from bench.soak.clients import Clients
from bench.soak.verdict import Check, Observed, counted, verdict
from bench.stage import DIRECT_MODEL, SMART_MODEL, Options, Stage
from bench.table import grid

# Limits of the router under test: short, so that an hour's worth of faults fits into minutes.
LIMITS = {
    "TIMEOUT": "12", "ATTEMPT_TIMEOUT": "1.5", "FIRST_TOKEN_TIMEOUT": "2", "STREAM_IDLE_TIMEOUT": "1.5",
    "COOLDOWN": "2", "RETRIES": "2", "LOG_LEVEL": "ERROR",
    "SIMPLE_FALLBACKS": "medium,complex", "MEDIUM_FALLBACKS": "complex,simple",
    "COMPLEX_FALLBACKS": "reasoning,medium", "REASONING_FALLBACKS": "complex",
}  # fmt: skip
_SLOW_SECONDS = 5.0  # a late first token: beyond FIRST_TOKEN_TIMEOUT
# TIMEOUT, and what a busy machine may add. Whatever takes longer is stuck.
_PATIENCE_SECONDS = 30.0
_LEAST_SECONDS = 6.0
_SAMPLES = 400
_SETTLE_SECONDS = 5.0


class FaultyUpstream(Process):
    """`bench.soak.upstream`."""

    def __init__(self) -> None:
        super().__init__([sys.executable, "-m", "bench.soak.upstream", "--slow-seconds", str(_SLOW_SECONDS)])
        assert self.popen.stdout is not None  # noqa: S101 - made as a pipe
        self.url = f"http://127.0.0.1:{int(self.popen.stdout.readline())}/v1"


def run(args: argparse.Namespace) -> int:
    """Exit status 0 for PASS, 1 for FAIL. Raises `BenchError`."""
    seconds = args.minutes * 60
    if seconds < _LEAST_SECONDS:
        raise BenchError(f"a soak of less than {_LEAST_SECONDS:g} s says nothing")
    rate = args.rate or capacity(args.workers) / 2
    print(f"{rate:.0f} requests/s for {args.minutes:g} minutes, a new fault every second", flush=True)
    with FaultyUpstream() as upstream, Router(upstream.url, workers=args.workers, settings=LIMITS) as router:
        seen = uvloop.run(_load(router, rate, seconds))
        checks = verdict(seen)
        said = "" if seen.alive else router.said()
    print(report(checks))
    if said:
        print(said)
    if args.out:
        content = {
            "format": 1,
            "machine": machine.stamp(ROOT / "models"),
            "minutes": args.minutes,
            "workers": args.workers,
            "rate": rate,
            "passed": all(check.passed for check in checks),
            "checks": [check.as_dict() for check in checks],
            "memory": {"seconds": [round(t, 1) for t in seen.times], "rss_mib": [round(m, 2) for m in seen.memory]},
        }
        print(f"\nwritten: {write(args.out, 'soak', content)}")
    return 0 if all(check.passed for check in checks) else 1


def capacity(workers: int) -> float:
    """Requests per second that a router serves of the soak's mixture (a third smart), without faults."""
    with Stage(Options(seconds=1.5)) as stage:
        router = Endpoint(stage.started(workers).url, DIRECT_MODEL)
        direct = stage.load(stage.job(router, concurrency=32)).rate
        smart = stage.load(stage.job(router.asking_for(SMART_MODEL), concurrency=16, prompt="unique")).rate
    if not direct or not smart:
        raise BenchError("the router served nothing, so its capacity is unknown")
    return 1 / (2 / 3 / direct + 1 / 3 / smart)


def report(checks: Sequence[Check]) -> str:
    """The verdict for a person."""
    body = [[check.name, "ok" if check.passed else "FAILED", check.detail] for check in checks]
    width = max(len(row[2]) for row in body)
    table = grid(["", "", ""], [[name, state, detail.ljust(width)] for name, state, detail in body])
    passed = all(check.passed for check in checks)
    return f"\n{table}\n\n{'PASS' if passed else 'FAIL'}"


async def _load(router: Router, rate: float, seconds: float) -> Observed:
    clients = Clients(router.url, rate, _PATIENCE_SECONDS)
    began = time.monotonic()
    load = asyncio.create_task(clients.run(began + seconds))
    times: list[float] = []
    memory: list[float] = []
    progress = Progress()
    steps = min(_SAMPLES, int(seconds))
    progress.begin("soak", steps)
    for step in range(steps):
        await asyncio.sleep(max(0.0, began + (step + 1) * seconds / steps - time.monotonic()))
        times.append(time.monotonic() - began)
        memory.append(router.memory_mib()[0])
        tally = clients.tally
        progress.step(f"{tally.sent} sent, {tally.whole} whole, {clients.running} running, {memory[-1]:.0f} MB")
    await load
    progress.end()
    alive = router.popen.poll() is None
    metrics, sockets = await _settled(router, clients.tally.sent) if alive else ("", 0)
    return Observed(clients.tally, times, memory, metrics, sockets, alive)


async def _settled(router: Router, sent: int) -> tuple[str, int]:
    """`/metrics` and the number of open sockets, once the last departures have been noticed and the connections of the
    last burst have had their time to be closed."""
    end = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < end:
        metrics = await asyncio.to_thread(router.metrics)
        if sum(counted(metrics).values()) >= sent:
            break
        await asyncio.sleep(0.2)
    await asyncio.sleep(_SETTLE_SECONDS)
    return await asyncio.to_thread(router.metrics), router.sockets()
