"""`router.classifier`: the fixed points, calibrated output, the bias, swapping."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from router.artifacts import MANIFEST, ArtifactError, NewFile, default_models_dir, publish
from router.classifier import Classifier, decide
from router.examples import Example, read_examples
from router.head import Head

# The prompts that every release has to get right; the export pins them.
POINTS = Path(__file__).resolve().parents[1] / "export" / "fixed_points.jsonl"
TIERS = ("simple", "medium", "complex", "reasoning")
FIXED_POINTS = [*read_examples(POINTS)[0], Example("", "simple"), Example(" \n\t", "simple")]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load(default_models_dir(), tiers=TIERS)


@pytest.fixture
def models_copy(tmp_path: Path) -> Path:
    """The shipped folder, the encoder linked rather than copied."""
    folder = tmp_path / "models"
    folder.mkdir()
    for path in default_models_dir().iterdir():
        (os.link if path.suffix == ".onnx" and path.stat().st_dev == folder.stat().st_dev else shutil.copy)(
            path, folder / path.name
        )
    return folder


@pytest.mark.parametrize("point", FIXED_POINTS, ids=lambda point: repr(point.text))
def test_fixed_points(classifier: Classifier, point: Example) -> None:
    assert classifier.classify(point.text).tier == point.tier


def test_a_classification_is_consistent_in_itself(classifier: Classifier) -> None:
    for found in classifier.classify_batch(["Hello", "", "Compare two sorting algorithms", "x" * 50_000]):
        assert sum(found.scores.values()) == pytest.approx(1.0, abs=1e-6)
        assert tuple(found.scores) == TIERS
        assert found.confidence == found.scores[found.tier] == max(found.scores.values())
        assert found.flagged == (found.confidence < 0.60)
        assert found.latency_ms >= 0
        assert found.reasoning.endswith(".")


def test_empty_is_simple_and_sure(classifier: Classifier) -> None:
    found = classifier.classify("  \n ", bias=1.0)
    assert (found.tier, found.flagged) == ("simple", False)
    assert found.confidence > 0.9


def test_a_batch_is_its_parts(classifier: Classifier) -> None:
    texts = ["Explain DNS", "Hello", "Prove that there are infinitely many primes", "Hello"]
    together = classifier.classify_batch(texts)
    for text, found in zip(texts, together, strict=True):
        assert classifier.classify(text).scores == found.scores


def test_without_bias_the_most_probable_tier_wins() -> None:
    for row in np.random.default_rng(0).dirichlet(np.ones(4), 200):
        assert decide(row, 0.0) == row.argmax()


def test_more_bias_never_moves_towards_cheaper_tiers() -> None:
    steps = np.linspace(-1, 1, 21)
    for row in np.random.default_rng(0).dirichlet(np.full(5, 0.5), 300):
        chosen = [decide(row, float(bias)) for bias in steps]
        assert chosen == sorted(chosen)


def test_the_bias_shifts_and_says_so(classifier: Classifier) -> None:
    moved = 0
    for text in (
        "Explain DNS",
        "write a plan",
        "is a tomato a fruit and why",
        "solve it",
        "a game in one file",
        "poem",
    ):
        plain, weak, strong = (classifier.classify(text, bias) for bias in (0.0, -1.0, 1.0))
        assert TIERS.index(weak.tier) <= TIERS.index(plain.tier) <= TIERS.index(strong.tier)
        assert plain.scores == weak.scores == strong.scores
        for found in (weak, strong):
            assert found.confidence == found.scores[found.tier]
            assert ("bias" in found.reasoning) == (found.tier != plain.tier)
            moved += found.tier != plain.tier
    assert moved >= 2


def test_the_configured_bias_and_threshold_can_change(classifier: Classifier) -> None:
    own = Classifier.load(default_models_dir(), tiers=TIERS, confidence_threshold=0.0, bias=-1.0)
    assert own.classify("Explain DNS").tier == classifier.classify("Explain DNS", -1.0).tier
    assert not own.classify("Explain DNS").flagged
    own.reconfigure(1.01, 0.0)
    assert own.classify("Explain DNS").tier == classifier.classify("Explain DNS").tier
    assert own.classify("Explain DNS").flagged


def test_only_configured_tiers_are_predicted() -> None:
    own = Classifier.load(default_models_dir(), tiers=["simple", "legal", "complex"])
    assert own.labels == ("simple", "complex")
    found = own.classify("Explain DNS")
    assert sum(found.scores.values()) == pytest.approx(1.0)
    with pytest.raises(ArtifactError, match="none of which TIERS lists"):
        Classifier.load(default_models_dir(), tiers=["legal"])


def test_threads_agree(classifier: Classifier) -> None:
    texts = [f"Explain point {number} of the plan in {number} words" for number in range(12)]
    alone = [found.scores for found in classifier.classify_batch(texts)]
    results: list[list[dict[str, float]]] = []

    def work() -> None:
        results.append([found.scores for found in classifier.classify_batch(texts)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * 4


def other_head(classifier: Classifier) -> bytes:
    """A head that calls everything `reasoning`."""
    head = classifier.loaded.head
    bias = np.array([0, 0, 0, 1000], dtype=np.float32)
    return Head(head.labels, head.weights, bias, head.scales, head.feature_version, head.l2).to_bytes()


def test_a_new_head_is_swapped_in_and_the_encoder_kept(models_copy: Path) -> None:
    own = Classifier.load(models_copy, tiers=TIERS)
    assert not own.reload_if_changed()
    encoder, before = own.loaded.encoder, own.versions
    publish(models_copy, {"head": NewFile(other_head(own), ".npz")}, {})
    assert own.reload_if_changed()
    assert not own.reload_if_changed()
    assert own.classify("Hello").tier == "reasoning"
    assert own.loaded.encoder is encoder
    assert own.versions[0] == before[0]
    assert own.versions[1] != before[1]


def test_a_bad_head_changes_nothing_and_is_logged_once(models_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = Classifier.load(models_copy, tiers=TIERS)
    manifest = publish(models_copy, {"head": NewFile(b"not a head", ".npz")}, {})
    with caplog.at_level(logging.ERROR):
        assert not own.reload_if_changed()
        assert not own.reload_if_changed()
    assert [manifest.path("head").name in record.getMessage() for record in caplog.records] == [True]
    assert own.classify("Hello").tier == "simple"
    publish(models_copy, {"head": NewFile(other_head(own), ".npz")}, {})
    assert own.reload_if_changed()


def test_a_manifest_that_vanishes_changes_nothing(models_copy: Path) -> None:
    own = Classifier.load(models_copy, tiers=TIERS)
    (models_copy / MANIFEST).unlink()
    assert not own.reload_if_changed()
    assert own.classify("Hello").tier == "simple"


def test_a_head_of_another_feature_version_is_refused(models_copy: Path) -> None:
    own = Classifier.load(models_copy, tiers=TIERS)
    head = own.loaded.head
    stale = Head(head.labels, head.weights, head.bias, head.scales, 99, head.l2)
    publish(models_copy, {"head": NewFile(stale.to_bytes(), ".npz")}, {})
    with pytest.raises(ArtifactError, match="feature version 99"):
        Classifier.load(models_copy, tiers=TIERS)
