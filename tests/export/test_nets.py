"""The recipe from start to end, on a handful of prompts: `pytest -m export`, where `[export]` is installed."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from export.nets import Task

pytestmark = [pytest.mark.export, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def weights() -> Path:
    """The original weights' folder; no model hub is asked."""
    pytest.importorskip("torch")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        from export import source

        return source.resolve(None).folder


@pytest.fixture
def task(weights: Path) -> Task:
    from export.finetune import _labelled
    from export.nets import Task
    from export.training import Settings
    from router.examples import Example

    rows = [Example("hello", "simple"), Example("explain magnets", "medium"), Example("prove it", "reasoning")]
    return Task(_labelled(rows), Settings(epochs=1), 1, weights, weights, 32)


def test_a_net_is_known_by_all_that_shapes_it(task: Task, tmp_path: Path) -> None:
    from export.training import Labelled

    rows = task.rows
    other = tmp_path / "other"
    other.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (other / name).write_bytes((task.base / name).read_bytes())
    same = task._replace(base=other, spelling=other).name()
    changed = json.loads((other / "tokenizer.json").read_text())
    changed["model"]["vocab"]["[unused7]"], changed["model"]["vocab"]["prove"] = 12_951, 8
    (other / "tokenizer.json").write_text(json.dumps(changed))
    with (other / "model.safetensors").open("ab") as file:
        file.write(b"!")
    others = [
        task._replace(seed=2),
        task._replace(token_limit=16),
        task._replace(settings=replace(task.settings, batch=8)),
        task._replace(start=tmp_path / "start-0123.pt"),
        task._replace(base=other),
        task._replace(spelling=other),
        task._replace(rows=Labelled([*rows.texts[:2], "prove this"], rows.targets, rows.weights)),
        task._replace(rows=Labelled(rows.texts, rows.targets[::-1].copy(), rows.weights)),
        task._replace(rows=Labelled(rows.texts, rows.targets, rows.weights * 2)),
    ]
    assert (
        task.name() == task._replace(rows=Labelled(list(rows.texts), rows.targets.copy(), rows.weights)).name() == same
    )
    assert len({task.name(), *(other.name() for other in others)}) == 1 + len(others)


def test_the_recipe_runs_to_its_end_and_a_second_run_takes_what_the_first_has_finished(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from export.finetune import RECORD, finetune
    from export.recipe import Course, Recipe
    from export.training import Settings

    small = Recipe(
        courses=(Course(((0, 40),), (1, 2)), Course(((20, 60),), (1,))),
        closing=Course(((30, 60),), (1, 2)),
        plain=Course(((0, 30),), (1,)),
        settings=Settings(epochs=1),
    )
    extra = tmp_path / "extra.jsonl"
    extra.write_text("".join(json.dumps({"text": f"hi number {at}", "tier": "simple"}) + "\n" for at in range(20)))

    def run(name: str, nets: Path, processes: int) -> dict[str, np.ndarray]:
        folder = tmp_path / name
        folder.mkdir()
        out = finetune(
            weights,
            folder / "finetuned",
            extra=[extra],
            token_limit=32,
            nets=nets,
            processes=processes,
            recipe=small,
        )
        assert json.loads((out / RECORD).read_text())["closing"]["seeds"] == [1, 2]
        with np.load(out / "head.npz") as head:
            return dict(head)

    first = run("first", tmp_path / "nets", 2)
    assert "taken as found" not in capfd.readouterr().out
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "nets").glob("net-*.pt")}
    again = run("again", tmp_path / "nets", 1)
    assert capfd.readouterr().out.count("taken as found") == 6
    assert kept == {file: file.stat().st_mtime_ns for file in (tmp_path / "nets").glob("net-*.pt")}
    alone = run("alone", tmp_path / "other", 1)
    for other in (again, alone):  # one thread a net: how many are trained at once changes nothing
        np.testing.assert_array_equal(first["weight"], other["weight"])
        np.testing.assert_array_equal(first["bias"], other["bias"])


def test_a_training_process_that_is_killed_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import os

    from export.nets import open_nets
    from export.steps import ExportError

    with pytest.raises(ExportError, match="was killed"), open_nets(tmp_path, 1) as nets:
        nets._pool.submit(os._exit, 9).result()
