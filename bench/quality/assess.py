"""The quality figures, from rows and verdicts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.quality import edits
from bench.quality.data import Row
from bench.quality.judges import Judge, Verdict
from router.scoring import ECE_BINS, HARD_TIERS, Score, score

BIASES = (-1.0, -2 / 3, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0)


@dataclass(frozen=True)
class Group:
    """Accuracy of a part of the prompts."""

    name: str
    samples: int
    accuracy: float


@dataclass(frozen=True)
class Setting:
    """What one ROUTING_BIAS does: the share of prompts per tier, accuracy, and under-routing."""

    bias: float
    shares: tuple[float, ...]
    accuracy: float
    under_routing: float


@dataclass(frozen=True)
class Bin:
    """One bin of the reliability curve: where `samples` verdicts claimed `confidence` on average, `accuracy` held."""

    samples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Quality:
    """Everything that the report shows. `kept`: edit → share of prompts whose tier it leaves."""

    score: Score
    sources: list[Group]
    languages: list[Group]
    flags: list[Group]
    reliability: list[Bin]
    kept: dict[str, float]
    knob: list[Setting]

    @property
    def flips(self) -> float:
        """Share of all edits that change the tier."""
        return 1.0 - float(np.mean(list(self.kept.values()))) if self.kept else 0.0

    def as_dict(self) -> dict[str, Any]:
        groups = {"by_source": self.sources, "by_language": self.languages, "by_flag": self.flags}
        return {
            **self.score.as_dict(),
            "labels": list(self.score.labels),
            "flips": round(self.flips, 4),
            "kept": {name: round(share, 4) for name, share in self.kept.items()},
            **{
                name: {each.name: {"samples": each.samples, "accuracy": round(each.accuracy, 4)} for each in members}
                for name, members in groups.items()
            },
            "reliability": [vars(each) for each in self.reliability],
            "knob": [
                {"bias": round(each.bias, 3), "shares": [round(share, 4) for share in each.shares],
                 "accuracy": round(each.accuracy, 4), "under_routing": round(each.under_routing, 4)}
                for each in self.knob
            ],
        }  # fmt: skip


def assess(rows: Sequence[Row], judge: Judge, *, knob: bool = True) -> Quality:
    """Asks `judge` about every row and its variants. Every row's tier must be one that it knows."""
    texts = [row.text for row in rows]
    verdicts = judge.classify(texts, "prompts")
    correct = [verdict.tier == row.tier for row, verdict in zip(rows, verdicts, strict=True)]
    return Quality(
        score=_score(rows, verdicts, judge.labels),
        sources=_groups(rows, correct, lambda index: rows[index].source),
        languages=_groups(rows, correct, lambda index: rows[index].language),
        flags=_groups(rows, correct, lambda index: "flagged" if verdicts[index].flagged else "not flagged"),
        reliability=reliability(verdicts, correct),
        kept=_kept(texts, verdicts, judge),
        knob=[
            _setting(rows, judge.leaning(texts, verdicts, bias), bias, judge.labels)
            for bias in (BIASES if knob else ())
        ],
    )


def reliability(verdicts: Sequence[Verdict], correct: Sequence[bool]) -> list[Bin]:
    """The non-empty ones of ten equal bins of confidence."""
    confidence = np.array([verdict.confidence for verdict in verdicts])
    right = np.array(correct, dtype=np.float64)
    place = np.clip((confidence * ECE_BINS).astype(int), 0, ECE_BINS - 1)
    return [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (place == index for index in range(ECE_BINS))
        if inside.any()
    ]


def _score(rows: Sequence[Row], verdicts: Sequence[Verdict], labels: tuple[str, ...]) -> Score:
    probabilities = np.array([[verdict.scores[label] for label in labels] for verdict in verdicts])
    targets = np.array([labels.index(row.tier) for row in rows])
    chosen = np.array([labels.index(verdict.tier) for verdict in verdicts])
    return score(labels, probabilities, targets, chosen)


def _groups(rows: Sequence[Row], correct: Sequence[bool], key: Callable[[int], str]) -> list[Group]:
    """Largest first."""
    members: dict[str, list[bool]] = {}
    for index in range(len(rows)):
        members.setdefault(key(index), []).append(correct[index])
    found = [Group(name, len(each), sum(each) / len(each)) for name, each in members.items()]
    return sorted(found, key=lambda group: (-group.samples, group.name))


def _kept(texts: Sequence[str], verdicts: Sequence[Verdict], judge: Judge) -> dict[str, float]:
    rng = random.Random(edits.SEED)
    variants = [edits.edited(text, rng) for text in texts]
    after = judge.classify([variant for each in variants for variant in each], "edited prompts")
    width = len(edits.NAMES)
    return {
        name: float(np.mean([after[row * width + column].tier == verdicts[row].tier for row in range(len(texts))]))
        for column, name in enumerate(edits.NAMES)
    }


def _setting(rows: Sequence[Row], chosen: Sequence[str], bias: float, labels: tuple[str, ...]) -> Setting:
    hard = [tier for row, tier in zip(rows, chosen, strict=True) if row.tier in HARD_TIERS]
    return Setting(
        bias,
        tuple(chosen.count(label) / len(rows) for label in labels),
        sum(row.tier == tier for row, tier in zip(rows, chosen, strict=True)) / len(rows),
        hard.count(labels[0]) / len(hard) if hard else 0.0,
    )
