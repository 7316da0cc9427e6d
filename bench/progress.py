"""A progress bar on stderr; silent where stderr is no terminal."""

from __future__ import annotations

import sys
import time

_WIDTH = 28


class Progress:
    """One line that is rewritten: scenario, bar, what is measured now, seconds so far."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._name = ""
        self._total = self._done = 0
        self._began = time.monotonic()

    def begin(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, max(1, total), -1

    def step(self, what: str) -> None:
        """The next of the steps begins."""
        self._done = min(self._done + 1, self._total)
        if not self._shown:
            return
        full = _WIDTH * self._done // self._total
        bar = "█" * full + "░" * (_WIDTH - full)
        seconds = time.monotonic() - self._began
        line = f"{self._name:10} {bar} {self._done}/{self._total}  {what}  {seconds:.0f} s"
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
