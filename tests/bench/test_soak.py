"""The soak's judgement: what a client counts, and what makes a verdict."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from bench.soak import answers
from bench.soak.clients import Tally, judge
from bench.soak.upstream import FAULTS, Faulty
from bench.soak.verdict import Observed, counted, verdict

METRICS = """# TYPE virtusoul_requests_total counter
virtusoul_requests_total{mechanism="direct",provider="custom",status="200",tier="simple"} 90.0
virtusoul_requests_total{mechanism="classified",provider="custom",status="499",tier="medium"} 4.0
virtusoul_requests_total{mechanism="classified",provider="custom",status="502",tier="medium"} 6.0
virtusoul_in_flight 0.0
"""


def stream(words: Sequence[str], *, done: bool = True, error: bool = False) -> bytes:
    events = [orjson.dumps({"choices": [{"delta": {"content": word}}]}) for word in words]
    events += [b'{"error": {"message": "cut"}}'] * error + [b"[DONE]"] * done
    return b": comment\n\n" + b"".join(b"data: %b\n\n" % event for event in events)


def judged(number: int, body: bytes, streamed: bool = True) -> Tally:
    tally = Tally()
    judge(tally, "request", number, body, streamed)
    return tally


def test_text_and_number_travel_through_a_prompt() -> None:
    assert answers.number_in(orjson.dumps({"content": answers.prompt(17, "Hello")})) == 17
    assert answers.number_in(b"{}") is None
    assert answers.text(17) == "".join(answers.words(17)) != answers.text(18)


def test_whole_answers_count() -> None:
    assert judged(5, stream(answers.words(5))).whole == 1
    body = orjson.dumps({"choices": [{"message": {"content": answers.text(5)}}]})
    assert judged(5, body, streamed=False).whole == 1


def test_a_truncated_answer_is_found_whatever_its_end_marker_says() -> None:
    assert judged(5, stream(answers.words(5)[:-1])).truncated
    assert judged(5, stream(answers.words(5)[:-1], done=False)).truncated
    assert judged(5, stream(answers.words(5), done=False)).truncated


def test_a_stream_that_says_it_broke_is_honest() -> None:
    tally = judged(5, stream(answers.words(5)[:3], done=False, error=True))
    assert (tally.told, tally.truncated, tally.wrong) == (1, [], [])
    assert judged(5, stream(answers.words(5)[:3], error=True)).wrong


def test_somebody_elses_answer_is_wrong() -> None:
    assert judged(5, stream(answers.words(6))).wrong
    assert judged(5, b"data: nonsense\n\n").wrong


def good(**changes: object) -> Observed:
    tally = Tally(sent=100, left=6, whole=88, told=2)
    tally.statuses.update({200: 90, 502: 4})
    seen = {
        "tally": tally, "times": list(range(100)), "memory": [100 + (t % 3) for t in range(100)],
        "metrics": METRICS, "sockets": 10, "alive": True, **changes,
    }  # fmt: skip
    return Observed(**seen)  # type: ignore[arg-type]


def failed(seen: Observed) -> list[str]:
    return [check.name for check in verdict(seen) if not check.passed]


def test_a_good_soak_passes() -> None:
    assert failed(good()) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"metrics": METRICS.replace(" 90.0", " 89.0")}, "every request in /metrics"),
        ({"metrics": METRICS.replace("in_flight 0.0", "in_flight 1.0")}, "nothing in flight"),
        ({"memory": [100 + t for t in range(100)]}, "memory does not grow"),
        ({"memory": [100.0], "times": [1.0]}, "memory does not grow"),
        ({"sockets": 500}, "connections closed"),
        ({"alive": False}, "the router still runs"),
    ],
)
def test_what_fails_it(changes: dict[str, object], name: str) -> None:
    assert name in failed(good(**changes))


def test_a_500_is_of_our_own_making() -> None:
    seen = good()
    seen.tally.statuses[500] += 1
    assert failed(seen) == ["no status of the router's own making"]


def test_memory_that_rises_only_at_first_is_warm_up() -> None:
    assert failed(good(memory=[100 + min(t, 20) for t in range(100)])) == []


def test_requests_by_status() -> None:
    assert counted(METRICS) == {200: 90, 499: 4, 502: 6}


def test_every_fault_gets_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = Faulty(5.0, seed=1)
    for second in range(3 * len(FAULTS)):
        monkeypatch.setattr("bench.soak.upstream.time.monotonic", lambda second=second: float(second))
        for tier in ("simple", "medium", "complex", "reasoning") * 10:
            faulty.fault_for(tier)
    assert set(faulty.injected) == set(FAULTS)
    assert faulty.injected["none"] > sum(faulty.injected.values()) / 3
