"""Fits the head that ships, and says what it scores on what."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.edits import edited
from export.finetune import is_held_out
from export.steps import ExportError, step
from router import embeddings, features
from router.artifacts import NewFile
from router.classifier import head_input
from router.encoder import Encoder
from router.examples import BUILT_IN, Example, latest, read_examples
from router.fitting import cross_validate, fit_head, near_duplicate_groups
from router.head import Floats, Head, Ints, cautious_temperature, softmax
from router.scoring import score

LABELS = ("simple", "medium", "complex", "reasoning")
# Stronger ones change the loss by less than its error, and need the fixed points pinned with sixteen times the weight.
# A retrain is held back by the same penalty: at 1,000 two hundred wrong labels moved it too little to be refused.
L2_CANDIDATES = (10.0, 30.0, 100.0, 300.0)
# The mix of tiers that the fit weighs the examples to. They are richer in hard prompts than real traffic (0.30, 0.55,
# 0.085, 0.065), so that each kind is well covered; unweighted, too much would go to the expensive tiers. `complex`
# stays above its share of the traffic: called medium, as it is too often, it gets an answer that is too weak.
NATURAL_MIX = {"simple": 0.285, "medium": 0.51, "complex": 0.14, "reasoning": 0.065}
# What a prompt that somebody really sent counts beside one that we wrote: ours are many and tidy, theirs few and what
# matters. Above 3 the loss on prompts kept out still falls a little, above 10 it rises.
EXTRA_WEIGHT = 6.0
# An edit that alters no meaning moves a short prompt's embedding most. Those of up to so many characters are fitted on
# as they are and as edited (`export.edits`), each copy at half the weight.
EDITED_CHARS = 120
# Prompts that every release has to route right, whatever the data say.
FIXED_POINTS = Path(__file__).resolve().parent / "fixed_points.jsonl"
MAX_PIN_WEIGHT = 4096.0
# Fewer prompts than this say too little about calibration to be asked alone.
ENOUGH_TO_CALIBRATE = 150
Inputs = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A file of labelled prompts, embedded; of the rows `short`, `edited` holds the inputs of an edited copy each."""

    path: Path
    examples: list[Example]
    inputs: Inputs
    targets: Ints
    short: Ints
    edited: Inputs

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


def fit_shipped(
    encoder: Encoder, extra: Sequence[Path], measure: Sequence[Path], held_out_modulus: int = 0
) -> FittedHead:
    """Built-in examples and `extra` are fitted on; `measure` is only measured on.

    `held_out_modulus`: which prompts the fine-tuning of the encoder did not see (`export.finetune.is_held_out`); 0: it
    saw none of them.
    """
    built_in = _embedded(encoder, BUILT_IN)
    pinned = _embedded(encoder, FIXED_POINTS)
    extras = [_embedded(encoder, path) for path in extra]
    measured = [_embedded(encoder, path) for path in measure]
    with step("head: without extra sets") as alone_step:
        alone, alone_scores = _fit([built_in], pinned, measured, held_out_modulus)
        alone_step.outcome = _summary(alone_scores)
    head, scores = alone, alone_scores
    if extras:
        with step("head: with extra sets") as full_step:
            head, scores = _fit([built_in, *extras], pinned, measured, held_out_modulus)
            full_step.outcome = _summary(scores)
    section = {
        "labels": list(head.labels),
        "feature_version": head.feature_version,
        "l2": head.l2,
        "natural_mix": NATURAL_MIX,
        "sets": [labelled.record() for labelled in (built_in, pinned, *extras)],
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
        short = np.flatnonzero([len(row.text.strip()) <= EDITED_CHARS for row in examples])
        rng = np.random.default_rng(0)
        copies = [head_input(encoder, edited(examples[row].text.strip(), rng)) for row in short]
        current.outcome = f"{len(examples)} prompts, {len(copies)} once more with an edit"
        return LabelledSet(path, examples, inputs, targets, short, np.array(copies).reshape(-1, inputs.shape[1]))


def _fit(
    sets: Sequence[LabelledSet], pinned: LabelledSet, measured: Sequence[LabelledSet], held_out_modulus: int
) -> tuple[Head, dict[str, Any]]:
    inputs = np.concatenate([labelled.inputs for labelled in sets])
    targets = np.concatenate([labelled.targets for labelled in sets])
    texts = [row.text for labelled in sets for row in labelled.examples]
    origin = np.repeat(np.arange(len(sets)), [len(labelled.targets) for labelled in sets])
    unseen = np.array([is_held_out(text, held_out_modulus) for text in texts])
    judged = _judged(unseen, origin)
    weights = _weights(targets, origin)
    groups = near_duplicate_groups(texts)
    # The edited copies: fitted on in their originals' folds, never judged.
    starts = np.cumsum([0, *(len(labelled.targets) for labelled in sets)])
    copied = np.concatenate([start + labelled.short for start, labelled in zip(starts, sets, strict=False)])
    weights[copied] /= 2
    rows = np.concatenate([np.arange(len(targets)), copied])
    fitted = np.concatenate([inputs, *(labelled.edited for labelled in sets)])
    asked = np.concatenate([judged, np.zeros(len(copied), dtype=bool)])
    found = {
        l2: cross_validate(fitted, targets[rows], len(LABELS), l2, groups[rows], weights[rows], asked)
        for l2 in L2_CANDIDATES
    }
    l2 = _strongest(
        {
            l2: -np.log(fold.probabilities()[asked][np.arange(judged.sum()), targets[judged]])
            for l2, fold in found.items()
        }
    )
    logits = found[l2].logits[: len(targets)]
    temperature = cautious_temperature(logits[judged], targets[judged])
    out_of_fold = softmax(logits / temperature)
    head = _pinned_fit(fitted, targets[rows], weights[rows], pinned, l2, temperature)
    scores: dict[str, Any] = {"l2": l2, "temperature": round(temperature, 4), "judged": int(judged.sum())}
    for index, labelled in enumerate(sets):  # set by set: written prompts are easier than people's
        new = unseen & (origin == index)
        scores[f"out of fold: {labelled.path.name}"] = score(LABELS, out_of_fold[new], targets[new]).as_dict()
    for labelled in measured:
        scores[labelled.path.name] = score(LABELS, head.probabilities(labelled.inputs), labelled.targets).as_dict()
    return head, scores


def _strongest(losses: dict[float, Floats]) -> float:
    """The strongest regularisation whose mean of `losses`, row by row, is within a standard error of the least.

    A few hundred rows hardly tell one from another ten times as strong; of two that are as good, the stronger leans
    less on any one input (the one-standard-error rule, as in `router.head.cautious_temperature`).
    """
    least = min(losses.values(), key=lambda rows: float(rows.mean()))

    def is_as_good(rows: Floats) -> bool:
        more = rows - least
        return bool(more.mean() <= more.std() / np.sqrt(len(more)))

    return max(l2 for l2, rows in losses.items() if is_as_good(rows))


def _weights(targets: Ints, origin: Ints) -> Floats:
    """A weight per row, the extra sets' higher, that together bring the tiers to their natural mix; mean 1."""
    weights = np.where(origin > 0, EXTRA_WEIGHT, 1.0)
    shares = np.bincount(targets, weights, minlength=len(LABELS)) / weights.sum()
    weights = weights * (np.array([NATURAL_MIX[label] for label in LABELS]) / np.maximum(shares, 1e-9))[targets]
    mean_one: Floats = weights / weights.mean()
    return mean_one


def _pinned_fit(
    inputs: Inputs, targets: Ints, weights: Floats, pinned: LabelledSet, l2: float, temperature: float
) -> Head:
    """The head on everything, the pinned prompts weighing as much as it takes to get each of them right."""
    all_inputs = np.concatenate([inputs, pinned.inputs])
    all_targets = np.concatenate([targets, pinned.targets])
    pins = np.ones(len(pinned.targets))
    while True:
        head = fit_head(LABELS, all_inputs, all_targets, l2, temperature, np.concatenate([weights, pins]))
        wrong = head.probabilities(pinned.inputs).argmax(axis=1) != pinned.targets
        if not wrong.any():
            return head
        if pins.max() >= MAX_PIN_WEIGHT:
            texts = ", ".join(repr(row.text) for row, is_wrong in zip(pinned.examples, wrong, strict=True) if is_wrong)
            raise ExportError(f"fixed points still misrouted: {texts}")
        pins[wrong] *= 2


def _judged(unseen: npt.NDArray[np.bool_], origin: Ints) -> npt.NDArray[np.bool_]:
    """The rows that temperature and strength of regularisation are chosen on.

    Only those that the encoder was not trained on; and of these the extra sets' (prompts that people sent) if they
    are enough, because on examples written for the purpose the head is surer than it has a right to be elsewhere.
    """
    of_people = unseen & (origin > 0)
    return of_people if of_people.sum() >= ENOUGH_TO_CALIBRATE else unseen


def _summary(scores: dict[str, Any]) -> str:
    parts = [
        f"{name} {figures['accuracy']:.3f}/{figures['macro_f1']:.3f}"
        for name, figures in scores.items()
        if isinstance(figures, dict)
    ]
    return "accuracy/macro-F1: " + ", ".join(parts)
