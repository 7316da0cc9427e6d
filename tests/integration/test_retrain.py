"""`POST /retrain` beside another worker, and what is kept of a refused one. The fit itself: tests/test_training.py."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from router import server
from router.artifacts import NewFile, publish
from router.scoring import Score
from router.training import RetrainRefused, RetrainReport
from tests.conftest import Running, Start, tier_env
from tests.fakes.classifier import FakeClassifier
from tests.fakes.openai import FakeOpenAI

EXAMPLES = {"examples": [{"text": "Explain DNS", "tier": "complex"}]}


@pytest.fixture
async def worker(start_router: Start, fake: FakeOpenAI, tmp_path: Path) -> Any:
    """Starts one worker more on the same folder."""
    publish(tmp_path, {"head": NewFile(b"weights", ".npz")}, {})

    async def start() -> Running:
        classifier = FakeClassifier()
        classifier.models_dir = tmp_path
        return await start_router(
            {**tier_env("simple", fake), "TRAINING_DATA": str(tmp_path / "data.jsonl")}, classifier
        )

    return start


def report(success: bool) -> RetrainReport:
    score = Score.__new__(Score)
    fields = {"total_samples": 1, "new_samples": 1, "kept": 0.5, "new_right": 0, "problems": (), "duration_s": 0.1}
    return RetrainReport(success=success, score=score, head="h", **fields)  # type: ignore[arg-type]


async def test_two_workers_never_train_at_once(worker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def fit(*_: Any, **__: Any) -> RetrainReport:
        started.set()
        assert go_on.wait(10)
        return report(True)

    monkeypatch.setattr("router.training.retrain", fit)
    monkeypatch.setattr(RetrainReport, "as_dict", lambda self: {"success": self.success})
    one, two = await worker(), await worker()

    async def ask(router: Running) -> tuple[int, Any]:
        async with router.post(EXAMPLES, "/retrain") as response:
            return response.status, await response.json()

    first = asyncio.create_task(ask(one))
    await asyncio.to_thread(started.wait, 10)
    for router in (one, two):
        status, body = await ask(router)
        assert (status, body["error"]["code"]) == (409, "retrain_in_progress")
    go_on.set()
    assert await first == (200, {"success": True})
    assert (await ask(two))[0] == 200
    assert "Explain DNS" in (tmp_path / "data.jsonl").read_text()


async def test_nothing_is_kept_of_a_refused_training(
    worker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else every later training would be refused for the same examples."""

    def fit(*_: Any, **__: Any) -> RetrainReport:
        raise RetrainRefused(report(False))

    monkeypatch.setattr("router.training.retrain", fit)
    monkeypatch.setattr(RetrainReport, "as_dict", lambda self: {"success": self.success})
    router = await worker()
    async with router.post(EXAMPLES, "/retrain") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (409, "retrain_refused")
    assert not (tmp_path / "data.jsonl").exists()


@pytest.fixture
def slow_fit(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """A fit that says when it began, and goes on when it is told to; it publishes the head `new-head`."""
    started, go_on = threading.Event(), threading.Event()

    def fit(classifier: FakeClassifier, **_: Any) -> RetrainReport:
        started.set()
        assert go_on.wait(10)
        classifier.versions = ("fake-encoder", "new-head")
        return report(True)

    monkeypatch.setattr("router.training.retrain", fit)
    monkeypatch.setattr(RetrainReport, "as_dict", lambda self: {"success": self.success})
    return started, go_on


async def leave(router: Running, started: threading.Event) -> None:
    """Asks for a training, and gives up once it runs."""
    leaving = asyncio.create_task(router.post(EXAMPLES, "/retrain").__aenter__())
    await asyncio.to_thread(started.wait, 10)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.1)  # the router notices


async def test_a_training_outlives_its_client(
    worker: Any, slow_fit: tuple[threading.Event, threading.Event], tmp_path: Path
) -> None:
    """The thread that fits cannot be stopped: so it keeps its lock, its examples, its metric and its label."""
    started, go_on = slow_fit
    router = await worker()
    outcomes = [f'virtusoul_retrain_total{{outcome="{outcome}"}}' for outcome in ("succeeded", "failed")]
    before = [await router.metric(outcome) for outcome in outcomes]
    await leave(router, started)
    async with router.post(EXAMPLES, "/retrain") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (409, "retrain_in_progress")
    go_on.set()
    await asyncio.wait_for(asyncio.wait([router.service.retraining]), 10)
    assert "Explain DNS" in (tmp_path / "data.jsonl").read_text()
    after = [await router.metric(outcome) for outcome in outcomes]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 0]
    async with router.client.get(router.url + "/metrics") as response:
        assert 'head="new-head"' in await response.text()
    async with router.post(EXAMPLES, "/retrain") as response:
        assert response.status == 200


async def test_stopping_waits_for_a_training(
    worker: Any, slow_fit: tuple[threading.Event, threading.Event], tmp_path: Path
) -> None:
    started, go_on = slow_fit
    router = await worker()
    await leave(router, started)
    stopping = asyncio.create_task(router.service.close())
    await asyncio.sleep(0.05)
    assert not stopping.done()
    go_on.set()
    await asyncio.wait_for(stopping, 10)
    assert "Explain DNS" in (tmp_path / "data.jsonl").read_text()


async def test_a_drain_waits_for_a_training_and_no_longer_than_it_may(
    worker: Any, slow_fit: tuple[threading.Event, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for it wants its figures, and `/ready` has sent everyone else away by then."""
    started, go_on = slow_fit
    router = await worker()
    monkeypatch.setattr(router.service, "draining", True)
    await leave(router, started)

    async def drain(timeout: float) -> None:
        monkeypatch.setattr(router.service, "settings", replace(router.service.settings, drain_timeout=timeout))
        await server._drain(SimpleNamespace(server=None), router.service, asyncio.Event(), lambda: True)  # type: ignore[arg-type]

    await asyncio.wait_for(drain(0.2), 5)
    assert router.service.is_retraining
    draining = asyncio.create_task(drain(30))
    await asyncio.sleep(0.3)
    assert not draining.done()
    go_on.set()
    await asyncio.wait_for(draining, 10)
    assert not router.service.is_retraining


async def test_a_training_is_not_over_before_its_examples_are_kept(
    worker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Publishing replaces the manifest. Another worker that trained from then on would undo what was just learnt."""
    published, go_on = threading.Event(), threading.Event()

    def fit(*_: Any, **__: Any) -> RetrainReport:
        publish(tmp_path, {"head": NewFile(b"others", ".npz")}, {})
        published.set()
        assert go_on.wait(10)
        return report(True)

    monkeypatch.setattr("router.training.retrain", fit)
    monkeypatch.setattr(RetrainReport, "as_dict", lambda self: {"success": self.success})
    one, two = await worker(), await worker()

    async def ask(router: Running) -> int:
        async with router.post(EXAMPLES, "/retrain") as response:
            return response.status

    first = asyncio.create_task(ask(one))
    await asyncio.to_thread(published.wait, 10)
    assert await ask(two) == 409
    go_on.set()
    assert await first == 200
    assert await ask(two) == 200


async def test_a_training_whose_examples_cannot_be_kept_says_so(
    worker: Any, slow_fit: tuple[threading.Event, threading.Event], tmp_path: Path
) -> None:
    """Not that the old weights stay: the new ones serve."""
    slow_fit[1].set()
    router = await worker()
    (tmp_path / "data.jsonl").mkdir()
    async with router.post(EXAMPLES, "/retrain") as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (500, "training_data_unwritable")
    assert "old weights" not in error["message"]
    async with router.client.get(router.url + "/metrics") as response:
        assert 'head="new-head"' in await response.text()


async def test_a_failure_that_nobody_waits_for_is_logged_once(
    worker: Any,
    slow_fit: tuple[threading.Event, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    started, go_on = slow_fit

    def fail(*args: Any, **kw: Any) -> Any:
        started.set()
        go_on.wait(10)
        raise OSError("the disk is full")

    monkeypatch.setattr("router.training.retrain", fail)
    router = await worker()
    await leave(router, started)
    go_on.set()
    await asyncio.wait_for(asyncio.wait([router.service.retraining]), 10)
    router.service.retraining = None
    gc.collect()
    assert [line.name for line in caplog.records if "disk is full" in line.getMessage() or line.exc_info] == [
        "router.admin"
    ]
