"""End-to-end fine-tuning of the encoder (`python -m export --finetune`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from export.steps import ExportError

# The file, beside the weights, in which a fine-tuned folder says what it was trained on:
# {"held_out_modulus": 10, …further facts that the manifest repeats}.
RECORD = "finetuned.json"
# One prompt in so many is kept from the encoder: the head's temperature has to come from prompts that neither has
# seen, or `confidence` would promise too much.
HELD_OUT_MODULUS = 10


def is_held_out(text: str, modulus: int) -> bool:
    """Whether fine-tuning leaves `text` out; always True for modulus 0: an encoder that was not fine-tuned saw none."""
    if modulus == 0:
        return True
    digest = hashlib.sha256(text.strip().encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") % modulus == 0


def finetune(source: Path, out: Path, *, extra: Sequence[Path], token_limit: int) -> Path:
    """Train the weights in `source` on the built-in examples and `extra`; returns the folder of the result."""
    raise ExportError("--finetune is not available yet")
