"""Nets trained side by side, each in a process and on one thread; a finished one is a file, and is not trained again.

On one thread a net's weights do not depend on how many others are trained beside it, and two nets at once on two
cores are done sooner than one after the other on both. The recipe takes hours: what a run that was cut off had
finished, the next one takes from the same folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

from export import edits, training
from export.steps import ExportError
from export.tokenising import tokeniser
from export.training import Labelled, Settings, TierNet

_CODE = (Path(training.__file__), Path(edits.__file__), Path(__file__))
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


class Task(NamedTuple):
    """One net: what it is trained on, how, and from where."""

    rows: Labelled
    settings: Settings
    seed: int
    base: Path  # folder of the weights that it begins with, in the transformers layout
    spelling: Path  # folder whose tokenizer cuts its texts
    token_limit: int
    start: Path | None = None  # a net of `keep` to go on from, in place of `base`'s weights and a fresh head

    def name(self) -> str:
        """The same for the same task, and another if anything differs that shapes the weights, the code included."""
        digest = hashlib.sha256()
        for file in (*_CODE, self.base / "model.safetensors", self.base / "config.json"):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        ids = tokeniser(self.spelling, self.token_limit)(self.rows.texts)
        digest.update(repr((self.rows.texts, ids)).encode("utf-8", "replace"))
        digest.update((self.spelling / "tokenizer.json").read_bytes())  # edits are cut while it is trained
        digest.update(self.rows.targets.tobytes() + self.rows.weights.tobytes())
        versions = [importlib.metadata.version(package) for package in _PACKAGES]
        start = self.start and self.start.name  # says its weights
        digest.update(repr((self.settings, self.seed, self.token_limit, start, versions)).encode())
        return digest.hexdigest()[:12]


class Nets:
    """The folder of finished nets, and the processes that add to it."""

    def __init__(self, folder: Path, pool: ProcessPoolExecutor) -> None:
        self._folder = folder
        self._pool = pool

    def begin(self, task: Task) -> Future[Path]:
        """The file of the task's net, once it is there: at once if an earlier run has finished it."""
        file = self._folder / f"net-{task.name()}.pt"
        if not file.is_file():
            return self._pool.submit(_train, task, file)
        done: Future[Path] = Future()
        done.set_result(file)
        print(f"{file.name}: taken as found", flush=True)
        return done


@contextmanager
def open_nets(folder: Path, processes: int) -> Iterator[Nets]:
    """Nets in `folder`, at most `processes` in training at once; none goes on once this is left, however it is.

    Raises ExportError if a training process is killed or the folder cannot be written.
    """
    context = multiprocessing.get_context("spawn")
    alive, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, _begin_process, (alive,))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield Nets(folder, pool)
    except BrokenProcessPool as error:
        raise ExportError(
            f"a training process was killed (each takes 6 GB); what is finished is in {folder}"
        ) from error
    except OSError as error:
        raise ExportError(f"{error.filename or folder}: {error.strerror or error}") from error
    finally:
        held.close()
        pool.shutdown(cancel_futures=True)


def _begin_process(alive: Connection) -> None:
    """One thread for training; another waits for the end of the pipe, which the parent's end is, too."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def wait() -> None:
        with contextlib.suppress(EOFError, OSError):
            alive.recv_bytes()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


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
    net = TierNet(task.base, task.rows.targets.shape[1], task.settings)
    if task.start is not None:
        net.load_state_dict(torch.load(task.start, weights_only=True))
    tokenise = tokeniser(task.spelling, task.token_limit)
    kept = training.train(net, task.rows, tokenise, task.settings, task.seed, lines.append)
    _write(kept, file)
    seconds = time.perf_counter() - started
    print(f"{file.name}: {len(task.rows.texts)} prompts, {'; '.join(lines)}, {seconds:.0f} s", flush=True)
    return file


def _loaded(file: Path, task: Task) -> TierNet:
    net = TierNet(task.base, task.rows.targets.shape[1], task.settings)
    net.load_state_dict(torch.load(file, weights_only=True))
    net.eval()
    return net


def _write(net: TierNet, file: Path) -> None:
    """A run cut off here leaves no half a net under a name that the next one trusts."""
    half = file.with_suffix(f".{os.getpid()}")
    try:
        with half.open("wb") as opened:
            torch.save(net.state_dict(), opened)
            opened.flush()
            os.fsync(opened.fileno())
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)
