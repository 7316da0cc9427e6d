"""`router.head` and `router.fitting`: the numpy fit against scikit-learn's, folds, calibration."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from router import features, fitting
from router import head as head_module
from router.artifacts import ArtifactError
from router.examples import BUILT_IN, read_examples
from router.fitting import cross_validate, fit_head, near_duplicate_groups, stratified_folds
from router.head import (
    Floats,
    Head,
    Ints,
    Prior,
    balanced_weights,
    cautious_temperature,
    fit,
    fit_temperature,
    loss_gradient,
    minimise,
    softmax,
)

CLASSES = 4
Objective = Callable[[Floats], tuple[float, Floats]]
LABELS = ("simple", "medium", "complex", "reasoning")


def blobs(samples: int = 600, width: int = 24, seed: int = 1, spread: float = 1.6) -> tuple[Floats, Ints]:
    """Overlapping classes of unequal size, off centre and of unequal scale, as real inputs are."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(CLASSES, samples, p=[0.3, 0.5, 0.12, 0.08])
    centres = rng.normal(size=(CLASSES, width))
    inputs = centres[targets] + spread * rng.normal(size=(samples, width)) + 3.0
    return inputs * rng.uniform(0.2, 2.0, width), targets.astype(np.intp)


@pytest.mark.parametrize("l2", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_fit_is_scikit_learns(l2: float, balanced: bool) -> None:
    inputs, targets = blobs()
    reference = LogisticRegression(
        C=1 / l2, class_weight="balanced" if balanced else None, tol=1e-8, solver="newton-cg", max_iter=1000
    ).fit(inputs, targets)
    weights, bias = fit(inputs, targets, CLASSES, l2, balanced_weights(targets, CLASSES) if balanced else None)
    ours = softmax(inputs @ weights + bias)
    assert np.abs(ours - reference.predict_proba(inputs)).max() < 1e-3


def test_the_fit_is_deterministic() -> None:
    inputs, targets = blobs()
    first, second = (fit(inputs, targets, CLASSES, 1.0) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_single_precision_is_good_enough_for_folds() -> None:
    inputs, targets = blobs()
    exact = fit(inputs, targets, CLASSES, 1.0)
    rough = fit(inputs.astype(np.float32), targets, CLASSES, 1.0, tolerance=2e-5)
    assert np.abs(softmax(inputs @ exact[0] + exact[1]) - softmax(inputs @ rough[0] + rough[1])).max() < 5e-3


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often each fit has computed its objective."""
    counts: list[int] = []

    def counting(objective: Objective, start: Floats, tolerance: float, **options: Any) -> Floats:
        counts.append(0)

        def counted(flat: Floats) -> tuple[float, Floats]:
            counts[-1] += 1
            return objective(flat)

        return minimise(counted, start, tolerance, **options)

    monkeypatch.setattr(head_module, "minimise", counting)
    return counts


def test_inputs_that_lie_along_few_directions_do_not_slow_the_search(
    evaluations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those behind a fine-tuned encoder do: without a guess at the curvature it takes many times the steps."""
    rng = np.random.default_rng(6)
    inputs, targets = blobs(samples=2000, width=60)
    inputs = inputs @ (np.linalg.qr(rng.normal(size=(60, 60)))[0] * np.geomspace(10.0, 0.01, 60))
    fits = [fit(inputs, targets, CLASSES, 1.0)]
    monkeypatch.setattr(head_module, "_CURVATURE_ROWS", 300)  # as a sample of a long list of rows tells it
    fits.append(fit(inputs, targets, CLASSES, 1.0))
    monkeypatch.setattr(head_module, "_inverse_curvature", lambda extended, *_: np.eye(extended.shape[1]) / 1e5)
    fits.append(fit(inputs, targets, CLASSES, 1.0))
    told, sampled, untold = evaluations
    assert told * 3 < untold
    assert sampled * 3 < untold
    first, *others = (softmax(inputs @ weights + bias) for weights, bias in fits)
    assert all(np.abs(first - other).max() < 1e-3 for other in others)


def test_single_precision_does_not_stall_where_rounding_is_all_that_is_left(evaluations: list[int]) -> None:
    for seed in range(4):
        inputs, targets = blobs(samples=3000, width=60, seed=seed)
        sample_weights = np.ones(3000)
        targets[-8:], sample_weights[-8:] = (targets[-8:] + 1) % CLASSES, 512.0
        exact = fit(inputs, targets, CLASSES, 30.0, sample_weights)
        rough = fit(inputs.astype(np.float32), targets, CLASSES, 30.0, sample_weights, tolerance=1e-6)
        assert np.abs(softmax(inputs @ exact[0] + exact[1]) - softmax(inputs @ rough[0] + rough[1])).max() < 5e-3
    assert sum(evaluations[1::2]) < 2000  # taken for exact, single precision would have 3,600


def test_a_prior_with_its_linear_term_does_not_move_without_news() -> None:
    inputs, targets = blobs()
    rng = np.random.default_rng(5)
    weights, bias = rng.normal(size=(inputs.shape[1], CLASSES)), rng.normal(size=CLASSES)
    ones = np.ones(len(targets))
    prior = Prior(weights, bias, loss_gradient(inputs, targets, weights, bias, ones))
    found, found_bias = fit(inputs, targets, CLASSES, 1.0, ones, prior)
    assert np.abs(found - weights).max() < 1e-6
    assert np.abs(found_bias - bias).max() < 1e-5


def test_the_loss_gradient_is_the_derivative() -> None:
    inputs, targets = blobs(samples=40, width=3)
    weights, bias = np.zeros((3, CLASSES)), np.array([0.1, 0.2, -0.1, 0.0])
    gradient = loss_gradient(inputs, targets, weights, bias, np.ones(40))

    def loss(at: Floats) -> float:
        return float(-np.log(softmax(inputs @ at + bias)[np.arange(40), targets]).sum())

    step = np.zeros_like(weights)
    step[1, 2] = 1e-5
    assert (loss(weights + step) - loss(weights - step)) / 2e-5 == pytest.approx(gradient[1, 2], rel=1e-4)


def test_the_temperature_undoes_overconfidence() -> None:
    inputs, targets = blobs()
    weights, bias = fit(inputs, targets, CLASSES, 1.0)
    logits = inputs @ weights + bias
    assert fit_temperature(3 * logits, targets) == pytest.approx(3 * fit_temperature(logits, targets), rel=1e-3)


def test_the_cautious_temperature_is_higher_with_few_rows_and_the_likeliest_with_many() -> None:
    rng = np.random.default_rng(4)

    def excess(count: int) -> float:
        logits = rng.normal(size=(count, 4)) * 3
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        targets = np.array([rng.choice(4, p=row) for row in chances], dtype=np.intp)
        return cautious_temperature(logits, targets) / fit_temperature(logits, targets)

    few, many = excess(100), excess(20_000)
    assert 1.1 < few < 2.01
    assert 1.0 <= many < 1.05


def test_folds_are_stratified_and_keep_groups_whole() -> None:
    rng = np.random.default_rng(2)
    targets = rng.choice(CLASSES, 500, p=[0.3, 0.5, 0.12, 0.08]).astype(np.intp)
    groups = np.concatenate([np.repeat(np.arange(20), 5), np.arange(20, 420)]).astype(np.intp)
    folds = stratified_folds(targets, groups, 5)
    assert all(len(set(folds[groups == group])) == 1 for group in range(20))
    shares = np.array([np.bincount(targets[folds == fold], minlength=CLASSES) for fold in range(5)])
    assert (shares.max(axis=0) - shares.min(axis=0)).max() <= 6
    assert np.array_equal(folds, stratified_folds(targets, groups, 5))


def test_near_duplicates_are_one_group_in_any_script() -> None:
    texts = [
        "Write me a poem about the sea and its moods",
        "write me a poem  about the sea and its moods!!",
        "Write a proof that the sea is finite",
        "三角形内角和是几度啊请问",
        "三角形内角和是几度啊请问？",
        "Hi",
        "",
    ]
    groups = near_duplicate_groups(texts)
    assert groups[0] == groups[1]
    assert groups[3] == groups[4]
    assert len(set(groups.tolist())) == 5


def test_leaving_out_texts_of_other_lengths_leaves_the_groups_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [row.text for row in read_examples(BUILT_IN)[0][::12]]
    texts += [text[: len(text) * 2 // 3] for text in texts[::5]] + [f"{text} {text}" for text in texts[::7]]
    groups = near_duplicate_groups(texts)
    monkeypatch.setattr(fitting, "COMPARED_RATIO", 1e-9)
    assert np.array_equal(groups, near_duplicate_groups(texts))
    assert len(set(groups.tolist())) < len(texts) - 300


def test_texts_of_one_template_are_grouped_in_no_time() -> None:
    """All pairs of them are alike: a walk over the pairs took a minute for ten thousand."""
    texts = [f"Read the e-mail of customer {number} and say in one word whether it is urgent" for number in range(4000)]
    began = time.process_time()
    assert len(set(near_duplicate_groups(texts).tolist())) == 1
    assert time.process_time() - began < 4  # 0.6 here; 8 by pairs


def test_likeness_goes_along_a_chain() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve".split()
    chain = [" ".join(words[start : start + 9]) for start in range(4)]
    assert len(set(near_duplicate_groups(chain).tolist())) == 1
    assert len(set(near_duplicate_groups([chain[0], " ".join(words[6:])]).tolist())) == 2


def test_cross_validation_sees_no_leak() -> None:
    """Random labels on pairs of twins: seen across folds they would be predictable, kept together they are not."""
    rng = np.random.default_rng(3)
    half = rng.normal(size=(300, 384)).astype(np.float32)
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    surface = rng.uniform(size=(300, features.COUNT)).astype(np.float32)
    inputs = np.tile(np.hstack([half, surface]), (2, 1))
    targets = np.tile(rng.integers(0, CLASSES, 300), 2).astype(np.intp)
    alone = np.arange(600, dtype=np.intp)
    together = np.tile(np.arange(300, dtype=np.intp), 2)
    leaking = cross_validate(inputs, targets, CLASSES, 0.1, alone).logits.argmax(axis=1) == targets
    honest = cross_validate(inputs, targets, CLASSES, 0.1, together).logits.argmax(axis=1) == targets
    assert leaking.mean() > 0.6
    assert honest.mean() < 0.35


def small_head() -> Head:
    inputs, targets = blobs(width=8 + features.COUNT)
    return fit_head(LABELS, inputs.astype(np.float32), targets, 1.0, temperature=1.5)


def test_a_head_survives_its_file(tmp_path: Path) -> None:
    head = small_head()
    (tmp_path / "head.npz").write_bytes(head.to_bytes())
    read = Head.from_file(tmp_path / "head.npz")
    assert read.labels == head.labels
    assert np.array_equal(read.weights, head.weights)
    assert (read.l2, read.feature_version) == (head.l2, head.feature_version)


def test_scales_and_temperature_are_inside_the_matrix() -> None:
    inputs, targets = blobs(width=8 + features.COUNT)
    cold = fit_head(LABELS, inputs.astype(np.float32), targets, 1.0, temperature=1.0)
    warm = fit_head(LABELS, inputs.astype(np.float32), targets, 1.0, temperature=2.0)
    assert np.allclose(cold.weights, 2 * warm.weights)
    assert np.allclose(warm.probabilities(inputs.astype(np.float32)).sum(axis=1), 1.0)


def test_restricting_a_head_keeps_the_ratios() -> None:
    head = small_head()
    inputs = blobs(width=8 + features.COUNT)[0].astype(np.float32)
    part = head.restricted(["reasoning", "unknown", "simple"])
    assert part.labels == ("reasoning", "simple")
    whole, some = head.probabilities(inputs), part.probabilities(inputs)
    assert np.allclose(some[:, 0] * whole[:, 0], some[:, 1] * whole[:, 3], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": None}, "holds no 'weights'"),
        ({"bias": np.zeros(3)}, "4 labels"),
        ({"labels": np.array(["a", "a", "b", "c"])}, "4 labels"),
        ({"weights": np.full((21, 4), np.nan)}, "not finite"),
        ({"labels": np.array(["a", None, "b", "c"], dtype=object)}, "allow_pickle"),
    ],
    ids=["missing", "shape", "twice", "nan", "pickle"],
)
def test_a_damaged_head_is_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    path = tmp_path / "head.npz"
    path.write_bytes(small_head().to_bytes())
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays = {name: value for name, value in {**arrays, **change}.items() if value is not None}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match=says):
        Head.from_file(path)


def test_a_file_that_is_no_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "head.npz").write_bytes(b"hello")
    with pytest.raises(ArtifactError, match=r"head\.npz"):
        Head.from_file(tmp_path / "head.npz")
