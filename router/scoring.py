"""How good a set of predictions is: accuracy, macro-F1, confusion, calibration, under-routing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.head import Floats, Ints

ECE_BINS = 10
# Under-routing: a prompt of one of these tiers sent to the cheapest one, the error that users feel most.
HARD_TIERS = ("complex", "reasoning")


@dataclass(frozen=True, slots=True)
class Score:
    """`confusion[i][j]`: prompts of label i predicted as j. `ece`: expected calibration error."""

    labels: tuple[str, ...]
    samples: int
    accuracy: float
    macro_f1: float
    under_routing: float
    ece: float
    confusion: tuple[tuple[int, ...], ...]
    per_tier: Mapping[str, Mapping[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """JSON form; floats rounded to four places."""
        return {
            "samples": self.samples,
            "accuracy": round(self.accuracy, 4),
            "macro_f1": round(self.macro_f1, 4),
            "under_routing": round(self.under_routing, 4),
            "ece": round(self.ece, 4),
            "confusion": [list(row) for row in self.confusion],
            "per_tier": {tier: dict(figures) for tier, figures in self.per_tier.items()},
        }


def score(labels: Sequence[str], probabilities: Floats, targets: Ints, chosen: Ints | None = None) -> Score:
    """Judge (n, labels) probabilities against (n,) targets; `chosen` overrides their argmax as the prediction."""
    predicted = probabilities.argmax(axis=1) if chosen is None else chosen
    confidence = probabilities[np.arange(len(targets)), predicted]
    confusion = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(confusion, (targets, predicted), 1)
    per_tier: dict[str, dict[str, float]] = {}
    for index, label in enumerate(labels):
        hit = int(confusion[index, index])
        of_label, as_label = int(confusion[index].sum()), int(confusion[:, index].sum())
        per_tier[label] = {
            "samples": of_label,
            "recall": round(hit / max(1, of_label), 4),
            "precision": round(hit / max(1, as_label), 4),
            "f1": round(2 * hit / max(1, of_label + as_label), 4),
        }
    present = [label for label in labels if per_tier[label]["samples"]]
    hard = np.isin(targets, [index for index, label in enumerate(labels) if label in HARD_TIERS])
    return Score(
        labels=tuple(labels),
        samples=len(targets),
        accuracy=float((predicted == targets).mean()) if len(targets) else 0.0,
        macro_f1=float(np.mean([per_tier[label]["f1"] for label in present])) if present else 0.0,
        under_routing=float((predicted[hard] == 0).mean()) if hard.any() else 0.0,
        ece=calibration_error(confidence, predicted == targets),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        per_tier=per_tier,
    )


def calibration_error(confidence: Floats, correct: np.typing.NDArray[np.bool_]) -> float:
    """Expected calibration error over ten equal bins (Naeini et al. 2015): mean |accuracy − confidence|."""
    bins = np.clip((confidence * ECE_BINS).astype(int), 0, ECE_BINS - 1)
    total = 0.0
    for index in range(ECE_BINS):
        inside = bins == index
        if inside.any():
            total += abs(float(correct[inside].mean() - confidence[inside].mean())) * float(inside.mean())
    return total
