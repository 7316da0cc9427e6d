"""What the router takes of a host: seconds to be ready, memory after load, and room on the disk."""

from __future__ import annotations

import re
import sys
import time
import tomllib
from collections.abc import Iterable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

from bench.jobs import Endpoint
from bench.processes import ROOT, BenchError
from bench.rounds import Leg, Play, Reading
from bench.stage import SMART_MODEL, Stage

PACKAGE = "virtusoul-router"
WORKERS = (1, 2, 4)
_START_ROUNDS = 5
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
_MIB = 1024 * 1024


def startup(stage: Stage, stack: ExitStack) -> Play:
    """From starting the process to the first 200 on `/ready`."""
    stage.need_own_router("startup")
    _ = stage.upstream

    def run() -> Reading:
        with stage.new_router() as router:
            return Reading({"seconds": router.started})

    return Play([Leg("start to ready", run)], rounds=_START_ROUNDS)


def memory(stage: Stage, stack: ExitStack) -> Play:
    """RSS and PSS of all processes together, after direct, smart and streamed load on every worker."""
    stage.need_own_router("memory")

    def leg(workers: int) -> Leg:
        def run() -> Reading:
            with stage.new_router(workers=workers) as router:
                seconds = min(1.0, stage.options.seconds / 2)
                where = Endpoint(router.url, "medium")
                stage.load(stage.job(where, concurrency=32, seconds=seconds))
                smart = where.asking_for(SMART_MODEL)
                stage.load(stage.job(smart, concurrency=8 * workers, seconds=seconds, prompt="unique"))
                stage.load(stage.job(smart, concurrency=2 * workers, seconds=seconds / 2, prompt="tokens:256"))
                stage.load(stage.job(where, concurrency=50, seconds=seconds, drip=(20, 10)))
                time.sleep(0.2)
                rss, pss = router.memory_mib()
                return Reading({"rss": rss, "pss": pss})

        return Leg(f"WORKERS={workers}", run)

    note = "all processes of the router together; PSS counts pages that workers share once"
    counts = WORKERS[:2] if stage.options.quick else WORKERS
    return Play([leg(workers) for workers in counts], notes=[note], rounds=1 if stage.options.quick else 3)


def size(stage: Stage, stack: ExitStack) -> Play:
    """The base install: the package, its models and the closure of its dependencies, extras left out."""
    files = {path for name in _closure(_dependencies()) for path in _files(name)}
    models = [path for path in stage.models_dir.rglob("*") if path.is_file()]
    package = [path for path in (ROOT / "router").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    parts = {"dependencies": _mib(files), "models": _mib(models), "code and examples": _mib(package)}
    parts["base install"] = sum(parts.values())
    if sys.prefix != sys.base_prefix:
        parts["this whole venv"] = _mib(path for path in Path(sys.prefix).rglob("*") if path.is_file())

    def leg(part: str, mib: float) -> Leg:
        return Leg(part, lambda: Reading({"disk": mib}))

    note = "byte code that pip compiled is counted; a whole venv holds pip and what else was installed, too"
    return Play([leg(part, mib) for part, mib in parts.items()], notes=[note], rounds=1)


def _dependencies() -> list[str]:
    try:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    except OSError as error:
        raise BenchError(f"the size is found from the repository's pyproject.toml: {error}") from error
    return [str(requirement) for requirement in project["dependencies"]]


def _closure(requirements: Iterable[str]) -> set[str]:
    """Names of the installed distributions that these requirements draw in, without any extra's."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        matched = _NAME.match(requirement)
        if matched is None or "extra ==" in requirement:
            continue
        name = matched[0].lower().replace("_", "-")
        if name in found:
            continue
        try:
            waiting += metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another platform or Python
            continue
        found.add(name)
    return found


def _files(name: str) -> Iterable[Path]:
    for file in metadata.files(name) or []:
        path = Path(str(file.locate()))
        if path.is_file():
            yield path.resolve()


def _mib(paths: Iterable[Path]) -> float:
    return sum(path.stat().st_blocks * 512 for path in paths if not path.is_symlink()) / _MIB
