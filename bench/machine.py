"""The stamp of a result: on what machine, with which versions, from which commit it was measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from bench.processes import ROOT

_PACKAGES = (
    "aiohttp", "gunicorn", "multidict", "numpy", "onnxruntime", "orjson", "prometheus-client", "python-dotenv",
    "tokenizers", "uvloop", "yarl",
)  # fmt: skip


def stamp(models_dir: Path) -> dict[str, Any]:
    """JSON-ready. Where something cannot be read it is null, never guessed."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "memory_gib": _memory_gib(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len((_git("status", "--porcelain", "--", "router", "models") or "").splitlines()),
        "models": _models(models_dir),
    }


def same_kind(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether absolute figures of the two machines may be compared."""
    return all(one.get(key) == other.get(key) for key in ("cpu", "cores_allowed"))


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1)
    except (OSError, ValueError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None


def _models(models_dir: Path) -> dict[str, Any] | None:
    """Digests of the encoder and the head in use."""
    try:
        files = orjson.loads((models_dir / "manifest.json").read_bytes())["files"]
        return {role: files[role]["sha256"][:12] for role in ("encoder", "head")}
    except (OSError, ValueError, KeyError):
        return None
