"""Recent embeddings: the same answer, without the work, until the encoder changes."""

from __future__ import annotations

import pytest

from router import classifier as module
from router.artifacts import default_models_dir
from router.classifier import Classifier

TIERS = ("simple", "medium", "complex", "reasoning")


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return Classifier.load(default_models_dir(), tiers=TIERS)


def test_what_is_recalled_is_what_was_said(shipped: Classifier) -> None:
    said = shipped.classify("How do plants make sugar?")
    again = shipped.recall(" How do plants make sugar? ")
    assert again is not None
    assert (again.tier, again.scores, again.flagged) == (said.tier, said.scores, said.flagged)
    assert shipped.recall("Something never asked") is None
    assert shipped.recall("") is None


def test_the_bias_counts_for_recalled_texts_too(shipped: Classifier) -> None:
    text = "Compare React vs Vue"
    shipped.classify(text)
    strong, cheap = shipped.recall(text, 1.0), shipped.recall(text, -1.0)
    assert strong is not None and cheap is not None
    assert TIERS.index(strong.tier) >= TIERS.index(cheap.tier)


def test_the_memory_is_bounded(shipped: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECENT", 3)
    for number in range(6):
        shipped.classify(f"question number {number}")
    assert shipped.recall("question number 5") is not None
    assert shipped.recall("question number 0") is None
    shipped.classify("x" * (module.RECENT_CHARS + 1))
    assert shipped.recall("x" * (module.RECENT_CHARS + 1)) is None


def test_another_encoder_means_other_vectors(shipped: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped.classify("a text")
    other = Classifier.load(default_models_dir(), tiers=TIERS).loaded
    monkeypatch.setattr(shipped, "_loaded", other)
    assert shipped.recall("a text") is None
