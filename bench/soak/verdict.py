"""What is judged at the end of a soak; pure, so that it can be tested without one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.figures import slope
from bench.soak.clients import Tally

# Statuses that an upstream's faults may lead to. 500 would be of the router's own making, 4xx a misreading.
EXPECTED_STATUSES = frozenset({200, 429, 502, 503, 504})
# Memory counts as growing when it is sure to (slope beyond this many standard errors) and enough to matter.
_SURE = 3.0
_GROWTH_MIB, _GROWTH_SHARE = 6.0, 0.04
# Sockets that may stay open when all clients are gone: the pool's idle ones to the upstream.
_SPARE_SOCKETS = 64
_WARM_UP_SHARE = 0.25

_SAMPLE = re.compile(r"^virtusoul_requests_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_STATUS = re.compile(r'status="(\d+)"')
_IN_FLIGHT = re.compile(r"^virtusoul_in_flight (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Observed:
    """What was seen from outside. `times` in seconds, `memory` in MiB, both since the start; `metrics`: the last text
    of `/metrics`, when no client was left; `sockets`: open ones then; `alive`: the router still ran."""

    tally: Tally
    times: Sequence[float]
    memory: Sequence[float]
    metrics: str
    sockets: int
    alive: bool


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    detail: str

    def as_dict(self) -> dict[str, Any]:
        return vars(self)


def verdict(seen: Observed) -> list[Check]:
    """All checks; the soak passed if each of them did."""
    tally = seen.tally
    unexpected = {status: count for status, count in tally.statuses.items() if status not in EXPECTED_STATUSES}
    answered = tally.whole + tally.told
    return [
        Check("the router still runs", seen.alive, "" if seen.alive else "it ended"),
        Check("no stuck request", not tally.stuck, _first(tally.stuck)),
        Check("no truncated answer passed off as complete", not tally.truncated, _first(tally.truncated)),
        Check("no wrong answer", not tally.wrong, _first(tally.wrong)),
        Check("every response well formed", not tally.odd, _first(tally.odd)),
        Check("no status of the router's own making", not unexpected, _statuses(unexpected or tally.statuses)),
        Check("most requests served in spite of the faults", answered * 2 > tally.sent, f"{tally.whole} whole answers, "
              f"{tally.told} streams ended with an error, {tally.left} clients left, of {tally.sent}"),
        *_accounts(tally, seen.metrics),
        Check("connections closed", seen.sockets <= _SPARE_SOCKETS, f"{seen.sockets} open sockets"),
        _memory(seen.times, seen.memory),
    ]  # fmt: skip


def counted(metrics: str) -> Counter[int]:
    """Requests by status, from the text of `/metrics`."""
    found: Counter[int] = Counter()
    for labels, value in _SAMPLE.findall(metrics):
        status = _STATUS.search(labels)
        if status is not None:
            found[int(status[1])] += int(float(value))
    return found


def _accounts(tally: Tally, metrics: str) -> list[Check]:
    """Does the router's book agree with the clients'?

    A client that leaves is a 499, or, where its answer was ready just then, what it would have been. A stream that
    breaks is a 200 to the client and its error in the book. So sums are exact, single statuses bounded.
    """
    book = counted(metrics)
    total = sum(book.values())
    good = tally.whole
    in_flight = _IN_FLIGHT.search(metrics)
    running = float(in_flight[1]) if in_flight else float("nan")
    return [
        Check("every request in /metrics", total == tally.sent, f"sent {tally.sent}, counted {total}"),
        Check("every answer in /metrics", good <= book[200] <= good + tally.left,
              f"{good} whole answers, {book[200]} counted as 200"),
        Check("clients that left in /metrics", book[499] <= tally.left and (book[499] > 0 or tally.left < 20),
              f"{tally.left} left, {book[499]} counted as 499"),
        Check("nothing in flight", running == 0, f"virtusoul_in_flight {running:g}"),
    ]  # fmt: skip


def _memory(times: Sequence[float], memory: Sequence[float]) -> Check:
    start = int(len(times) * _WARM_UP_SHARE)
    warm_times, warm = times[start:], memory[start:]
    rise, error = slope(warm_times, warm)
    if len(warm) < 3 or np.isnan(rise):
        return Check("memory does not grow", False, "too few samples to judge")
    growth = rise * (warm_times[-1] - warm_times[0])
    limit = max(_GROWTH_MIB, _GROWTH_SHARE * float(np.median(warm)))
    grows = growth > limit and rise > _SURE * error
    span = warm_times[-1] - warm_times[0]
    detail = f"{growth:+.1f} MB in {span:.0f} s after warm-up, at {float(np.median(warm)):.0f} MB"
    return Check("memory does not grow", not grows, detail)


def _first(faults: Sequence[str]) -> str:
    return f"{len(faults)}, the first: {faults[0]}" if faults else ""


def _statuses(statuses: dict[int, int] | Counter[int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
