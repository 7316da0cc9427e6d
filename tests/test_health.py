"""The circuit, with a clock of the test's own."""

from __future__ import annotations

from router.errors import Failure, UpstreamError
from router.health import Health

ERROR = UpstreamError("down", Failure.SERVER)


def make(failures: int = 2, cooldown: float = 10.0) -> tuple[Health, list[float], list[tuple[str, bool]]]:
    now, changes = [0.0], list[tuple[str, bool]]()
    health = Health(
        failures, cooldown, clock=lambda: now[0], on_change=lambda tier, is_open: changes.append((tier, is_open))
    )
    return health, now, changes


def test_it_opens_after_failures_in_a_row_only() -> None:
    health, _, changes = make()
    health.failed("a", ERROR, "any")
    health.succeeded("a", "any")
    health.failed("a", ERROR, "any")
    assert health.permit("a", 1) and not health.is_open("a")
    health.failed("a", ERROR, "any")
    assert not health.permit("a", 1) and health.is_open("a")
    assert changes == [("a", True)]
    assert health.permit("b", 1)


def test_one_probe_after_the_cooldown() -> None:
    health, now, changes = make()
    for _ in range(2):
        health.failed("a", ERROR, "any")
    assert health.retry_in("a") == 10
    now[0] = 10
    assert health.permit("a", "first")
    assert not health.permit("a", "second")
    assert health.permit("a", "first"), "the probe itself may go on"
    health.failed("a", ERROR, "first")
    assert not health.permit("a", "second") and health.retry_in("a") == 10
    now[0] = 20
    assert health.permit("a", "second")
    health.succeeded("a", "second")
    assert health.permit("a", "third") and health.permit("a", "fourth")
    assert changes == [("a", True), ("a", False)]


def test_an_abandoned_probe_is_free_again() -> None:
    health, now, _ = make()
    for _ in range(2):
        health.failed("a", ERROR, "any")
    now[0] = 10
    assert health.permit("a", "first")
    health.abandoned("a", "second")
    assert not health.permit("a", "second")
    health.abandoned("a", "first")
    assert health.permit("a", "second")


def test_the_last_error_is_kept() -> None:
    health, _, _ = make()
    health.failed("a", ERROR, "any")
    assert health.last_error("a") is ERROR
    health.succeeded("a", "any")
    assert health.last_error("a") is None


def test_what_began_before_it_opened_moves_it_no_more() -> None:
    """Else each late failure puts the recovery off, and each old stream that ends well lets a crowd in."""
    health, now, changes = make()
    for _ in range(2):
        health.failed("a", ERROR, "any")
    now[0] = 9
    health.failed("a", ERROR, "straggler")
    assert health.retry_in("a") == 1
    health.succeeded("a", "old stream")
    assert health.is_open("a")
    now[0] = 10
    assert health.permit("a", "probe")
    health.failed("a", ERROR, "straggler")
    assert not health.permit("a", "second"), "the probe is still out"
    health.succeeded("a", "probe")
    assert changes == [("a", True), ("a", False)]


def test_another_target_starts_anew() -> None:
    health, _, changes = make()
    for _ in range(2):
        health.failed("a", ERROR, "any")
    health.forget("a")
    health.forget("a")
    assert health.permit("a", 1) and changes == [("a", True), ("a", False)]
