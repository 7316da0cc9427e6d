"""Nets trained side by side, each in a process and on one thread; a finished one is a file, and is not trained again.

On one thread a net's weights do not depend on how many others are trained beside it, and two nets at once on two
cores are done sooner than one after the other on both. The recipe takes hours: what a run that was cut off had
finished, the next one takes from the same folder.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from export import edits, training
from export.steps import ExportError
from export.tokenising import tokeniser
from export.training import Labelled, Recipe, TierNet


class Task(NamedTuple):
    """One net: what it is trained on, how, and from where."""

    rows: Labelled
    recipe: Recipe
    seed: int
    base: Path  # folder of the weights that it begins with, in the transformers layout
    spelling: Path  # folder whose tokenizer cuts its texts
    token_limit: int
    start: Path | None = None  # a finished net to go on from, in place of `base`'s weights and a fresh head

    def name(self) -> str:
        """The same for the same task, and another if anything differs that shapes the weights, the code included."""
        digest = hashlib.sha256()
        files = [Path(training.__file__), Path(edits.__file__)]
        files += [self.base / "model.safetensors", self.spelling / "tokenizer.json"]
        for file in [*files, *([self.start] if self.start else [])]:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        for text in self.rows.texts:
            digest.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
        digest.update(self.rows.targets.tobytes() + self.rows.weights.tobytes())
        digest.update(repr((self.recipe, self.seed, self.token_limit, torch.__version__)).encode())
        return digest.hexdigest()[:12]


class Nets:
    """The folder of finished nets, and the processes that add to it."""

    def __init__(self, folder: Path, pool: ProcessPoolExecutor) -> None:
        self.folder = folder
        self._pool = pool

    def begin(self, task: Task) -> Future[Path]:
        """The file of the task's net, once it is there: at once if an earlier run has finished it."""
        file = self.folder / f"net-{task.name()}.pt"
        if not file.is_file():
            return self._pool.submit(_train, task, file)
        done: Future[Path] = Future()
        done.set_result(file)
        print(f"{file.name}: taken as found", flush=True)
        return done


@contextmanager
def open_nets(folder: Path, processes: int) -> Iterator[Nets]:
    """Nets in `folder`, at most `processes` in training at once. ExportError if one of these is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    try:
        yield Nets(folder, pool)
    except BrokenProcessPool as error:
        raise ExportError(
            f"a training process was killed (each takes 3 GB); what is finished is in {folder}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def average(files: Sequence[Path], like: Task) -> TierNet:
    """The average of the finished nets in `files`."""
    return training.averaged([_loaded(file, like) for file in files])


def keep(net: TierNet, folder: Path) -> Path:
    """`net` as a file that a task can start from, named by its weights."""
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in net.state_dict().values()))
    file = folder / f"start-{digest.hexdigest()[:12]}.pt"
    _write(net, file)
    return file


def _train(task: Task, file: Path) -> Path:
    started = time.perf_counter()
    lines: list[str] = []
    torch.manual_seed(training.FIRST_HEAD)
    net = TierNet(task.base, task.rows.targets.shape[1], task.recipe)
    if task.start is not None:
        net.load_state_dict(torch.load(task.start, weights_only=True))
    spell = tokeniser(task.spelling, task.token_limit)
    kept = training.train(net, task.rows, spell, task.recipe, task.seed, lines.append)
    _write(kept, file)
    seconds = time.perf_counter() - started
    print(f"{file.name}: {len(task.rows.texts)} prompts, {'; '.join(lines)}, {seconds:.0f} s", flush=True)
    return file


def _loaded(file: Path, task: Task) -> TierNet:
    net = TierNet(task.base, task.rows.targets.shape[1], task.recipe)
    net.load_state_dict(torch.load(file, weights_only=True))
    net.eval()
    return net


def _write(net: TierNet, file: Path) -> None:
    """A run cut off here leaves no half a net under a name that the next one trusts."""
    half = file.with_suffix(f".{os.getpid()}")
    torch.save(net.state_dict(), half)
    half.replace(file)
