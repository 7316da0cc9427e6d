"""End-to-end fine-tuning of the encoder (`python -m export --finetune`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.steps import ExportError


def finetune(source: Path, out: Path, *, extra: Sequence[Path], token_limit: int) -> Path:
    """Train the weights in `source` on the built-in examples and `extra`; returns the folder of the result."""
    raise ExportError("--finetune is not available yet")
