"""Progress lines, and the one error that ends an export."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator


class ExportError(Exception):
    """The export cannot go on; `models/` is as it was."""


class Step:
    """What a step wants said about its outcome."""

    def __init__(self) -> None:
        self.outcome = ""


@contextlib.contextmanager
def step(title: str) -> Iterator[Step]:
    """Print `title` when it begins, its outcome and seconds when it ends."""
    print(f"{title} … ", end="", flush=True)
    started = time.perf_counter()
    current = Step()
    try:
        yield current
    except BaseException:
        print("failed", flush=True)
        raise
    seconds = time.perf_counter() - started
    print(f"{current.outcome + ', ' if current.outcome else ''}{seconds:.1f} s", flush=True)
    sys.stdout.flush()
