"""Local embeddings are the original model's, or nobody's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.artifacts import Manifest
from router.errors import NotFound
from router.vectors import _role


def manifest(encoder: dict[str, Any], *roles: str) -> Manifest:
    return Manifest(Path("models"), {"encoder": encoder, "files": {role: {} for role in ("encoder", *roles)}})


def test_a_fine_tuned_encoder_is_never_passed_off_as_minilm() -> None:
    with pytest.raises(NotFound, match="python -m export --embedder"):
        _role(manifest({"finetuned": {}}))


def test_the_original_serves_where_it_is() -> None:
    assert _role(manifest({})) == "encoder"
    assert _role(manifest({"finetuned": {}}, "embedder")) == "embedder"
