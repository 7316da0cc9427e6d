"""A classifier whose answers a test can foretell: the first tier's name that stands in the text, else `simple`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from router.classifier import Classification


class FakeClassifier:
    """The surface of `router.classifier.Classifier`. `fail`: raise this instead. `confidence`: of every answer."""

    def __init__(self, tiers: Sequence[str] = ("simple", "medium", "complex", "reasoning")) -> None:
        self.labels = tuple(tiers)
        self.versions = ("fake-encoder", "fake-head")
        self.models_dir = Path("nowhere")
        self.confidence = 0.9
        self.threshold = 0.6
        self.bias: float | None = None
        self.fail: Exception | None = None
        self.seen: list[str] = []

    def classify(self, text: str, bias: float | None = None) -> Classification:
        if self.fail is not None:
            raise self.fail
        self.seen.append(text)
        self.bias = bias
        tier = next((label for label in self.labels if label in text), self.labels[0])
        rest = (1 - self.confidence) / (len(self.labels) - 1)
        scores = {label: self.confidence if label == tier else rest for label in self.labels}
        return Classification(tier, self.confidence, scores, 0.01, self.confidence < self.threshold)

    def recall(self, text: str, bias: float | None = None) -> Classification | None:
        return None

    def classify_batch(self, texts: Sequence[str], bias: float | None = None) -> list[Classification]:
        return [self.classify(text, bias) for text in texts]

    def reconfigure(self, confidence_threshold: float, bias: float) -> None:
        self.threshold = confidence_threshold

    def reload_if_changed(self) -> bool:
        return False
