"""Appends labelled prompts to TRAINING_DATA, safely beside other workers and replicas on the same file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import orjson

from router.examples import Example, read_examples
from router.prompt import bare_text_to_classify


def append(path: Path, examples: Sequence[Example]) -> int:
    """Adds the examples that are not already the last word on what is classified of them; returns how many were added.

    One locked, flushed and synced write: other writers wait, a crash leaves whole lines. A file whose last line lacks
    its end (an editor's, or a full disk's doing) gets it first, so that the new example does not join it. `OSError`
    where the file cannot be written. Blocking; not for the event loop.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)  # prompts are private
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        known = {bare_text_to_classify(example.text): example.tier for example in read_examples(path)[0]}
        lines = []
        for example in examples:
            text = bare_text_to_classify(example.text)
            if known.get(text) != example.tier:
                known[text] = example.tier
                lines.append(orjson.dumps({"text": example.text, "tier": example.tier}) + b"\n")
        if lines:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            _write_all(descriptor, (b"\n" if torn else b"") + b"".join(lines))
            os.fsync(descriptor)
        return len(lines)
    finally:
        os.close(descriptor)  # releases the lock


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
