"""The retry table, whole, and the arithmetic of waiting."""

from __future__ import annotations

import pytest

from router.dispatch import BACKOFF_CAP, Move, decide, wait_before_retry
from router.errors import Failure

RETRIED = {Failure.CONNECT, Failure.RESET, Failure.RATE_LIMITED, Failure.SERVER}
MOVED = {Failure.SILENT, Failure.CONTEXT_LENGTH, Failure.PREFILL, Failure.BROKEN_STREAM}
STOPPED = {Failure.AUTH, Failure.CLIENT, Failure.CONTENT_FILTER}


def test_every_failure_has_its_row() -> None:
    assert set(Failure) == RETRIED | MOVED | STOPPED


@pytest.mark.parametrize("failure", sorted(Failure, key=lambda failure: failure.value))
def test_the_table(failure: Failure) -> None:
    first = decide(failure, attempt=1, retries=2)
    last = decide(failure, attempt=3, retries=2)
    if failure in RETRIED:
        assert (first, last) == (Move.RETRY, Move.FALLBACK)
    elif failure in MOVED:
        assert (first, last) == (Move.FALLBACK, Move.FALLBACK)
    else:
        assert (first, last) == (Move.STOP, Move.STOP)
    assert decide(failure, attempt=1, retries=0) is not Move.RETRY


def test_backoff_grows_and_is_capped_with_full_jitter() -> None:
    longest = [wait_before_retry(attempt, None, lambda low, high: high) for attempt in range(1, 12)]
    assert longest == sorted(longest) and longest[-1] == BACKOFF_CAP
    assert wait_before_retry(5, None, lambda low, high: low) == 0


def test_the_upstream_s_wish_is_a_lower_bound() -> None:
    assert wait_before_retry(1, 7.0, lambda low, high: high) == 7.0
    assert wait_before_retry(6, 0.1, lambda low, high: high) == 8.0
