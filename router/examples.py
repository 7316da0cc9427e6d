"""Labelled prompts in JSON lines: the built-in ones and the user's own.

One object per line: {"text": …, "tier": …}, further keys are allowed. A line that cannot be used is named by its
number and skipped; it stays in the file, so nothing is ever lost to a typing error.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

BUILT_IN = Path(__file__).resolve().parent / "examples.jsonl"


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the tier it belongs to; `lang` is its ISO 639-1 code where known."""

    text: str
    tier: str
    lang: str = ""


def read_examples(path: Path, tiers: Container[str] | None = None) -> tuple[list[Example], list[str]]:
    """The usable lines of `path` in order, and one sentence per line that is not. OSError if it cannot be read.

    With `tiers`, a line that names another cannot be used.
    """
    examples: list[Example] = []
    problems: list[str] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                examples.append(_example(line, tiers))
            except ValueError as error:
                problems.append(f"{path.name}, line {number}: {error}")
    return examples, problems


def latest(examples: Iterable[Example]) -> list[Example]:
    """One example per text, the last word on it: a person who corrects a correction is believed."""
    by_text = {example.text.strip(): example for example in examples}
    return list(by_text.values())


def _example(line: bytes, tiers: Container[str] | None) -> Example:
    try:
        row = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("not valid JSON") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    text, tier, lang = row.get("text"), row.get("tier"), row.get("lang", "")
    if not isinstance(text, str) or not text.strip():
        raise ValueError('"text" is missing or empty')
    if not isinstance(tier, str) or not tier:
        raise ValueError('"tier" is missing')
    if tiers is not None and tier not in tiers:  # it may be a prompt, by a slip: no more of it than tells which line
        raise ValueError(f"unknown tier {tier[:40]!r}")
    return Example(text, tier, lang if isinstance(lang, str) else "")
