"""Fits the head that ships, and says what it scores on what."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.steps import ExportError, step
from router import embeddings, features
from router.artifacts import NewFile
from router.classifier import head_input
from router.encoder import Encoder
from router.examples import BUILT_IN, Example, latest, read_examples
from router.fitting import cross_validate, fit_head, near_duplicate_groups
from router.head import Head, Ints
from router.scoring import score

LABELS = ("simple", "medium", "complex", "reasoning")
L2_CANDIDATES = (10.0, 30.0, 100.0)
Inputs = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A file of labelled prompts, embedded."""

    path: Path
    examples: list[Example]
    inputs: Inputs
    targets: Ints

    def record(self) -> dict[str, Any]:
        """What the manifest says about the set: enough to know it again, none of its text."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        counts = {label: int((self.targets == index).sum()) for index, label in enumerate(LABELS)}
        return {"name": self.path.name, "count": len(self.examples), "per_tier": counts, "sha256": digest}


@dataclass(frozen=True, slots=True)
class FittedHead:
    """The head, the manifest's section on it, and the file of cached embeddings."""

    head: Head
    section: dict[str, Any]
    embeddings: NewFile


def fit_shipped(encoder: Encoder, extra: Sequence[Path], measure: Sequence[Path]) -> FittedHead:
    """Built-in examples and `extra` are fitted on; `measure` is only measured on."""
    built_in = _embedded(encoder, BUILT_IN)
    extras = [_embedded(encoder, path) for path in extra]
    measured = [_embedded(encoder, path) for path in measure]
    with step("head: without extra sets") as alone_step:
        alone, alone_scores = _fit([built_in], measured)
        alone_step.outcome = _summary(alone_scores)
    head, scores = alone, alone_scores
    if extras:
        with step("head: with extra sets") as full_step:
            head, scores = _fit([built_in, *extras], measured)
            full_step.outcome = _summary(scores)
    section = {
        "labels": list(head.labels),
        "feature_version": head.feature_version,
        "l2": head.l2,
        "sets": [labelled.record() for labelled in (built_in, *extras)],
        "measured": [labelled.record() for labelled in measured],
        "scores": scores,
        "scores_without_extra": alone_scores,
    }
    vectors = built_in.inputs[:, : -features.COUNT]
    cached = embeddings.to_bytes([row.text for row in built_in.examples], vectors)
    return FittedHead(head, section, NewFile(cached, ".npz"))


def _embedded(encoder: Encoder, path: Path) -> LabelledSet:
    with step(f"embedding {path.name}") as current:
        try:
            examples, problems = read_examples(path)
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror}") from error
        problems += [
            f"{path.name}: unknown tier {tier!r}" for tier in sorted({row.tier for row in examples} - set(LABELS))
        ]
        if problems or not examples:
            raise ExportError("; ".join(problems[:5]) or f"{path}: holds no examples")
        examples = latest(examples)
        inputs = np.stack([head_input(encoder, row.text.strip()) for row in examples])
        targets = np.array([LABELS.index(row.tier) for row in examples], dtype=np.intp)
        current.outcome = f"{len(examples)} prompts"
        return LabelledSet(path, examples, inputs, targets)


def _fit(sets: Sequence[LabelledSet], measured: Sequence[LabelledSet]) -> tuple[Head, dict[str, Any]]:
    inputs = np.concatenate([labelled.inputs for labelled in sets])
    targets = np.concatenate([labelled.targets for labelled in sets])
    groups = near_duplicate_groups(inputs[:, : -features.COUNT])
    found = {l2: cross_validate(inputs, targets, len(LABELS), l2, groups) for l2 in L2_CANDIDATES}
    rows = np.arange(len(targets))
    losses = {l2: -np.log(fold.probabilities()[rows, targets]).mean() for l2, fold in found.items()}
    l2 = min(losses, key=lambda candidate: losses[candidate])
    out_of_fold = found[l2]
    head = fit_head(LABELS, inputs, targets, l2, out_of_fold.temperature)
    scores: dict[str, Any] = {
        "cross_validation": score(LABELS, out_of_fold.probabilities(), targets).as_dict(),
        "temperature": round(out_of_fold.temperature, 4),
        "l2": l2,
    }
    start = 0
    for labelled in sets:  # out of fold, set by set: written prompts are easier than people's
        part = slice(start, start + len(labelled.targets))
        start = part.stop
        figures = score(LABELS, out_of_fold.probabilities()[part], labelled.targets).as_dict()
        scores[f"cross_validation on {labelled.path.name}"] = figures
    for labelled in measured:
        scores[labelled.path.name] = score(LABELS, head.probabilities(labelled.inputs), labelled.targets).as_dict()
    return head, scores


def _summary(scores: dict[str, Any]) -> str:
    parts = [
        f"{name} {figures['accuracy']:.3f}/{figures['macro_f1']:.3f}"
        for name, figures in scores.items()
        if isinstance(figures, dict)
    ]
    return "accuracy/macro-F1: " + ", ".join(parts)
