"""Retraining: the shipped head, moved as little as the user's own examples demand.

With W0 the shipped weights, over the built-in examples and the new ones,

    minimise  Σ_builtin [ℓ(W) − ∇ℓ(W0)·W]  +  Σ_new s·ℓ(W)  +  ½·l2·‖W − W0‖²

The linear correction makes W0 exactly stationary while there is nothing new, although the built-in examples are only a
part of what W0 was fitted on; what they lend is curvature: how stiff the shipped decision is in each direction. The
new head is always a function of the shipped one and the examples, never of an earlier retrain, so repeating a retrain
changes nothing and nothing is counted twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from router import embeddings
from router.artifacts import ArtifactError, Manifest, NewFile, fingerprint, publish, require_writable
from router.classifier import Classifier, Loaded, head_input
from router.examples import BUILT_IN, Example, latest, read_examples
from router.fitting import cross_validate, near_duplicate_groups
from router.head import Head, Ints, Prior, fit, loss_gradient
from router.prompt import bare_text_to_classify
from router.scoring import Score, score

logger = logging.getLogger(__name__)

# What one new example counts beside one built-in; doubled for those still misrouted, until all are right or this cap.
NEW_WEIGHT = 4.0
MAX_NEW_WEIGHT = 512.0
# The new head may lose this share of the built-in examples that the shipped one gets right for the sake of examples
# that resist (mislabelled ones, most often), and is refused beyond the second.
TOLERATED_LOSS = 0.01
CLEARLY_WORSE = 0.03
# Of the fit, in float32: probabilities are then good to three digits as a rule, to two beside rows of great weight.
TOLERANCE = 1e-5
# A label that the shipped head has never seen starts this far (in log odds) below its lowest bias.
NEW_LABEL_BIAS = -6.0

# A report names so many lines that it could not use.
MAX_PROBLEMS = 100

Inputs = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RetrainReport:
    """What a retrain found. The score is out of fold, over built-in and new examples together."""

    success: bool
    total_samples: int
    new_samples: int
    score: Score
    kept: float  # of the built-in examples that the shipped head gets right, the share that the new one does too
    new_right: int  # new examples that the new head routes as labelled
    problems: tuple[str, ...]
    duration_s: float
    head: str  # id of the head now in use

    @property
    def cv_accuracy(self) -> float:
        return self.score.accuracy

    def as_dict(self) -> dict[str, Any]:
        """The body of a `/retrain` answer."""
        figures = self.score.as_dict()
        return {
            "success": self.success,
            "total_samples": self.total_samples,
            "new_samples": self.new_samples,
            "cv_accuracy": figures["accuracy"],
            "macro_f1": figures["macro_f1"],
            "ece": figures["ece"],
            "under_routing": figures["under_routing"],
            "labels": list(self.score.labels),
            "confusion": figures["confusion"],
            "per_tier": figures["per_tier"],
            "kept": round(self.kept, 4),
            "new_right": self.new_right,
            "problems": list(self.problems),
            "duration_s": round(self.duration_s, 3),
            "head": self.head,
        }


class RetrainRefused(Exception):
    """The new head is clearly worse than the shipped one; nothing has changed. `report` holds the figures."""

    def __init__(self, report: RetrainReport) -> None:
        super().__init__(
            f"the retrained head keeps only {report.kept:.1%} of what the shipped one gets right "
            f"(at least {1 - CLEARLY_WORSE:.0%} is asked); the old weights stay"
        )
        self.report = report


@dataclass(frozen=True, slots=True)
class _Data:
    """Rows as the fit wants them; built-in ones first."""

    texts: list[str]
    inputs: Inputs
    targets: Ints
    built_in: int


def retrain(
    classifier: Classifier,
    *,
    extra: Sequence[Example] = (),
    training_data: Path | None = None,
    models_dir: Path | None = None,
    built_in: Path = BUILT_IN,
) -> RetrainReport:
    """Refit the head, publish it and swap it in. Synchronous, seconds long; run it off the event loop.

    Raises RetrainRefused (clearly worse) or ArtifactError (the folder cannot be read or written); both change nothing.
    """
    started = time.perf_counter()
    folder = models_dir or classifier.models_dir
    require_writable(folder)
    seen = fingerprint(folder)
    loaded = classifier.loaded
    shipped = _shipped_head(loaded.manifest)
    known, new, problems = _gather(classifier, shipped, extra, training_data, built_in)
    labels = shipped.labels + tuple(sorted({row.tier for row in new} - set(shipped.labels)))
    data = _inputs(loaded, known, new, labels)
    head = _refit(_widened(shipped, labels), data)
    kept, right = _kept(shipped, head, data)
    report = RetrainReport(
        success=kept >= 1 - CLEARLY_WORSE,
        total_samples=len(data.targets),
        new_samples=len(new),
        score=_out_of_fold(head, data),
        kept=kept,
        new_right=right,
        problems=_first(problems),
        duration_s=time.perf_counter() - started,
        head=classifier.versions[1],
    )
    if not report.success:
        raise RetrainRefused(report)
    content = head.to_bytes()
    section = {**loaded.manifest.section("head"), "labels": list(labels)}
    if new:  # without the problems, which quote a private file
        section["retrained"] = {name: value for name, value in report.as_dict().items() if name != "problems"}
    else:
        section.pop("retrained", None)
    publish(folder, {"head": NewFile(content, ".npz")}, {"head": section}, expect=seen)
    classifier.reload_if_changed()
    identity = hashlib.sha256(content).hexdigest()[:12]
    return dataclasses.replace(report, head=identity, duration_s=time.perf_counter() - started)


def _first(problems: Sequence[str]) -> tuple[str, ...]:
    left = len(problems) - MAX_PROBLEMS
    return (*problems[:MAX_PROBLEMS], f"and {left} more") if left > 0 else tuple(problems)


def _shipped_head(manifest: Manifest) -> Head:
    return Head.from_file(manifest.verified("shipped_head" if manifest.has("shipped_head") else "head"))


def _gather(
    classifier: Classifier, shipped: Head, extra: Sequence[Example], training_data: Path | None, built_in: Path
) -> tuple[list[Example], list[Example], list[str]]:
    """Built-in examples, new ones (the last word per text; `extra` comes last), and what could not be used."""
    allowed = set(shipped.labels) | set(classifier.tiers)
    try:
        known, problems = read_examples(built_in)
        stored: list[Example] = []
        if training_data is not None and training_data.exists():
            stored, more = read_examples(training_data, allowed)
            problems += more
    except OSError as error:
        raise ArtifactError(f"{error.filename}: {error.strerror}") from error
    problems += [f"unknown tier {row.tier[:40]!r}" for row in extra if row.tier not in allowed]
    # Learnt as it is served: a prompt out of a log comes with what an agent's harness wrote around it.
    asked = [
        dataclasses.replace(row, text=bare_text_to_classify(row.text))
        for row in (*stored, *extra)
        if row.tier in allowed
    ]
    new = [row for row in latest(asked) if row.text]
    if empty := sum(not row.text for row in asked):
        problems.append(f"examples in which nothing is a person's own: {empty}")
    overruled = {example.text.strip() for example in new}
    known = [row for row in latest(known) if row.tier in shipped.labels and row.text.strip() not in overruled]
    return known, new, problems


def _inputs(loaded: Loaded, known: Sequence[Example], new: Sequence[Example], labels: Sequence[str]) -> _Data:
    rows = [*known, *new]
    inputs = np.empty((len(rows), loaded.head.weights.shape[0]), dtype=np.float32)
    cache = embeddings.read(loaded.manifest)
    for index, row in enumerate(rows):
        inputs[index] = head_input(loaded.encoder, row.text.strip(), cache.get(row.text))
    targets = np.array([labels.index(row.tier) for row in rows], dtype=np.intp)
    return _Data([row.text for row in rows], inputs, targets, len(known))


def _widened(head: Head, labels: tuple[str, ...]) -> Head:
    """`head` with a column for each label that it does not know, so low that alone it changes no decision."""
    added = len(labels) - len(head.labels)
    if not added:
        return head
    weights = np.hstack([head.weights, np.repeat(head.weights.mean(axis=1, keepdims=True), added, axis=1)])
    bias = np.concatenate([head.bias, np.full(added, head.bias.min() + NEW_LABEL_BIAS, dtype=np.float32)])
    return dataclasses.replace(head, labels=labels, weights=weights, bias=bias)


def _refit(shipped: Head, data: _Data) -> Head:
    """The minimiser of the objective at the head of this file; exactly `shipped` where nothing is new."""
    if data.built_in == len(data.targets):
        return shipped
    scales = shipped.scales.astype(np.float64)
    scaled = data.inputs / shipped.scales
    known = slice(0, data.built_in)
    start, bias = shipped.weights * scales[:, None], shipped.bias.astype(np.float64)
    linear = loss_gradient(scaled[known], data.targets[known], start, bias, np.ones(data.built_in))
    prior = Prior(start, bias, linear)
    sample_weights = np.ones(len(data.targets))
    sample_weights[data.built_in :] = NEW_WEIGHT
    best: Head | None = None
    found, found_bias = start, bias
    while True:
        found, found_bias = fit(
            scaled,
            data.targets,
            len(shipped.labels),
            shipped.l2,
            sample_weights,
            prior,
            TOLERANCE,
            begin=(found, found_bias),
        )
        head = dataclasses.replace(
            shipped, weights=(found / scales[:, None]).astype(np.float32), bias=found_bias.astype(np.float32)
        )
        kept, _ = _kept(shipped, head, data)
        if kept < 1 - TOLERATED_LOSS:
            return best or head  # the examples still misrouted would cost more elsewhere than they are worth
        best = head
        misrouted = _predicted(head, data.inputs) != data.targets
        misrouted[known] = False
        misrouted &= sample_weights < MAX_NEW_WEIGHT
        if not misrouted.any():
            return best
        sample_weights[misrouted] *= 2


def _predicted(head: Head, inputs: Inputs) -> Ints:
    predicted: Ints = (inputs @ head.weights + head.bias).argmax(axis=1)
    return predicted


def _kept(shipped: Head, head: Head, data: _Data) -> tuple[float, int]:
    """Share kept of the built-in examples that `shipped` gets right, and how many new ones `head` gets right."""
    known, new = slice(0, data.built_in), slice(data.built_in, None)
    was_right = _predicted(shipped, data.inputs[known]) == data.targets[known]
    is_right = _predicted(head, data.inputs) == data.targets
    kept = float(is_right[known][was_right].mean()) if was_right.any() else 1.0
    return kept, int(is_right[new].sum())


def _out_of_fold(head: Head, data: _Data) -> Score:
    """Scores of fits from nothing that have not seen what they are judged on."""
    groups = near_duplicate_groups(data.texts)
    found = cross_validate(data.inputs, data.targets, len(head.labels), head.l2, groups)
    return score(head.labels, found.probabilities(), data.targets)
