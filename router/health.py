"""One circuit per tier: opens after consecutive failures, lets one probe through after the cooldown, closes on success.

Pattern: Nygard, "Release It!", circuit breaker. The clock is passed in, so tests own the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from router.errors import UpstreamError

Clock = Callable[[], float]


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    opened_at: float | None = None  # None: closed
    probe: object | None = None  # who may probe while half open
    last_error: UpstreamError | None = None


class Health:
    """Circuits by tier name. `permit` before an attempt, then exactly one of `succeeded`, `failed`, `abandoned`.

    While a circuit is open, only its probe's verdict moves it: attempts that began before it opened report on the past.
    """

    def __init__(
        self,
        failures: int,
        cooldown: float,
        *,
        clock: Clock = time.monotonic,
        on_change: Callable[[str, bool], None] = lambda tier, is_open: None,
    ) -> None:
        """`failures` in a row open a circuit for `cooldown` seconds; `on_change(tier, is_open)` is told."""
        self._failures = failures
        self._cooldown = cooldown
        self._clock = clock
        self._on_change = on_change
        self._circuits: dict[str, _Circuit] = {}

    def reconfigure(self, failures: int, cooldown: float) -> None:
        """Takes new limits; what was counted stays counted."""
        self._failures = failures
        self._cooldown = cooldown

    def permit(self, tier: str, who: object) -> bool:
        """Whether `who` may attempt `tier` now. In the half-open state only one may, until it reports back."""
        circuit = self._circuits.get(tier)
        if circuit is None or circuit.opened_at is None or circuit.probe is who:
            return True
        if circuit.probe is not None or self._clock() < circuit.opened_at + self._cooldown:
            return False
        circuit.probe = who
        return True

    def is_open(self, tier: str) -> bool:
        """Whether the circuit is open, probing included."""
        circuit = self._circuits.get(tier)
        return circuit is not None and circuit.opened_at is not None

    def retry_in(self, tier: str) -> float:
        """Seconds until the next probe may go out."""
        circuit = self._circuits.get(tier)
        if circuit is None or circuit.opened_at is None:
            return 0.0
        return max(0.0, circuit.opened_at + self._cooldown - self._clock())

    def last_error(self, tier: str) -> UpstreamError | None:
        circuit = self._circuits.get(tier)
        return circuit.last_error if circuit else None

    def succeeded(self, tier: str, who: object) -> None:
        circuit = self._circuits.get(tier)
        if circuit is None or (circuit.opened_at is not None and circuit.probe is not who):
            return
        self.forget(tier)

    def forget(self, tier: str) -> None:
        """What was counted says nothing any more: the target is well again, or is another one."""
        circuit = self._circuits.pop(tier, None)
        if circuit is not None and circuit.opened_at is not None:
            self._on_change(tier, False)

    def failed(self, tier: str, error: UpstreamError, who: object) -> None:
        circuit = self._circuits.setdefault(tier, _Circuit())
        if circuit.opened_at is not None:
            if circuit.probe is who:
                circuit.probe, circuit.last_error, circuit.opened_at = None, error, self._clock()
            return
        circuit.failures += 1
        circuit.last_error = error
        if circuit.failures >= self._failures:
            circuit.opened_at = self._clock()
            self._on_change(tier, True)

    def abandoned(self, tier: str, who: object) -> None:
        """The attempt ended without a verdict on the target (the client left): the probe is free for another."""
        circuit = self._circuits.get(tier)
        if circuit is not None and circuit.probe is who:
            circuit.probe = None
