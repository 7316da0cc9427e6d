"""Embeddings of the built-in examples, shipped so that a retrain need not compute thousands of them.

One .npz: `keys` (n, 8) uint8, the beginning of each text's SHA-256; `codes` (n, d) int8 and `steps` (n,) float32, of
which a row is codes·step. Valid for the encoder that the manifest names beside it and for no other.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from router.artifacts import ArtifactError, Manifest

KEY_BYTES = 8
Vectors = npt.NDArray[np.float32]


class Embeddings:
    """A look-up by text."""

    def __init__(self, rows: Mapping[bytes, int], codes: npt.NDArray[np.int8], steps: Vectors) -> None:
        self._rows = rows
        self._codes = codes
        self._steps = steps

    def get(self, text: str) -> Vectors | None:
        """The embedding of `text`, float32 (d,), or None where it is not stored."""
        row = self._rows.get(_key(text))
        return None if row is None else self._codes[row].astype(np.float32) * self._steps[row]


NONE = Embeddings({}, np.zeros((0, 0), np.int8), np.zeros(0, np.float32))


def read(manifest: Manifest) -> Embeddings:
    """The stored embeddings, empty where the manifest has none for its encoder. ArtifactError where damaged."""
    encoder = manifest.section("encoder")
    if not manifest.has("embeddings") or encoder.get("embeddings_of") != manifest.digest("encoder"):
        return NONE
    path: Path = manifest.verified("embeddings")
    try:
        with np.load(path, allow_pickle=False) as file:
            keys, codes, steps = file["keys"], file["codes"], file["steps"]
    except Exception as error:  # zipfile, numpy and OS each raise their own
        raise ArtifactError(f"{path}: {error}") from error
    return Embeddings({key.tobytes(): row for row, key in enumerate(keys)}, codes, steps)


def to_bytes(texts: Sequence[str], vectors: Vectors) -> bytes:
    """The .npz for `texts` and their (n, d) embeddings."""
    steps = np.maximum(np.abs(vectors).max(axis=1), 1e-12) / 127
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        keys=np.array([list(_key(text)) for text in texts], dtype=np.uint8),
        codes=np.round(vectors / steps[:, None]).astype(np.int8),
        steps=steps.astype(np.float32),
    )
    return buffer.getvalue()


def _key(text: str) -> bytes:
    return hashlib.sha256(text.strip().encode("utf-8", "replace")).digest()[:KEY_BYTES]
