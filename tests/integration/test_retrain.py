"""`POST /retrain` beside another worker, and what is kept of a refused one. The fit itself: tests/test_training.py."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

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
