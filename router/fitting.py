"""From labelled inputs to a head: scales, folds that keep near-duplicates together, temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from router import features
from router.head import Floats, Head, Ints, fit, fit_temperature, softmax

FOLDS = 5
# Embedding components of a 384-d unit vector have this spread; written down, not measured, so that one scale serves
# all of them and no direction is favoured.
EMBEDDING_SCALE = 0.05
# Above this cosine of their trigrams two prompts are variants of one another and must not stand on both sides of a
# fold; strangers of the same language reach 0.6.
NEAR_DUPLICATE = 0.70
# Set sizes further apart than this reach a likeness of 0.59 at most; hashing blurs it by 0.04 (its standard
# deviation).
COMPARED_RATIO = 0.35
_TRIGRAM_CHARS = 600
_ODD = np.array([0x9E3779B1, 0x85EBCA77 * 31, 0xC2B2AE3D * 977, 0x9E3779B97F4A7C15], dtype=np.uint64)
# Out-of-fold logits need not be exact to more than the third digit.
CV_TOLERANCE = 2e-5


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Logits (n, classes) of every example under a fit that has not seen it, and the temperature that suits them."""

    logits: Floats
    temperature: float

    def probabilities(self) -> Floats:
        return softmax(self.logits / self.temperature)


def input_scales(inputs: npt.NDArray[np.float32]) -> Floats:
    """The unit of each input, (inputs,): fixed for the embedding, the spread over the data for surface features."""
    scales = np.full(inputs.shape[1], EMBEDDING_SCALE)
    spread = inputs[:, -features.COUNT :].astype(np.float64).std(axis=0)
    scales[-features.COUNT :] = np.maximum(spread, 0.01)
    return scales


def fit_head(
    labels: Sequence[str],
    inputs: npt.NDArray[np.float32],
    targets: Ints,
    l2: float,
    temperature: float = 1.0,
    sample_weights: Floats | None = None,
) -> Head:
    """A head fitted from nothing; scales and temperature end up inside its one matrix."""
    scales = input_scales(inputs)
    weights, bias = fit(inputs / scales, targets, len(labels), l2, sample_weights)
    return Head(
        labels=tuple(labels),
        weights=(weights / scales[:, None] / temperature).astype(np.float32),
        bias=(bias / temperature).astype(np.float32),
        scales=scales.astype(np.float32),
        feature_version=features.VERSION,
        l2=l2,
    )


def cross_validate(
    inputs: npt.NDArray[np.float32],
    targets: Ints,
    classes: int,
    l2: float,
    groups: Ints,
    sample_weights: Floats | None = None,
    judged: npt.NDArray[np.bool_] | None = None,
) -> OutOfFold:
    """Fits on each four fifths, predicts the rest. `judged` (n,) limits what the temperature is fitted on."""
    scaled = (inputs / input_scales(inputs)).astype(np.float32)
    weight = np.ones(len(targets)) if sample_weights is None else sample_weights
    folds = stratified_folds(targets, groups, FOLDS)
    logits = np.zeros((len(targets), classes))
    for fold in range(FOLDS):
        inside = folds != fold
        weights, bias = fit(scaled[inside], targets[inside], classes, l2, weight[inside], tolerance=CV_TOLERANCE)
        logits[~inside] = scaled[~inside] @ weights + bias
    rows = np.ones(len(targets), dtype=bool) if judged is None else judged
    return OutOfFold(logits, fit_temperature(logits[rows], targets[rows]))


def stratified_folds(targets: Ints, groups: Ints, folds: int) -> Ints:
    """Fold of each example, (n,): groups stay whole, every class is spread evenly. Deterministic.

    Groups go, largest first, to the fold that has least of the group's commonest class, then least of everything.
    """
    order = np.argsort(-np.bincount(groups), kind="stable")
    members: list[list[int]] = [[] for _ in range(int(groups.max()) + 1)]
    # A fixed shuffle, so that neighbours in the file (one author, one subject) do not end in one fold by rank.
    for index in np.random.default_rng(0).permutation(len(targets)):
        members[groups[index]].append(int(index))
    classes = int(targets.max()) + 1
    filled = np.zeros((folds, classes), dtype=int)
    result = np.zeros(len(targets), dtype=np.intp)
    for group in order:
        rows = members[group]
        if not rows:
            continue
        counts = np.bincount(targets[rows], minlength=classes)
        main = int(counts.argmax())
        fold = min(range(folds), key=lambda candidate: (filled[candidate, main], filled[candidate].sum(), candidate))
        filled[fold] += counts
        result[rows] = fold
    return result


def near_duplicate_groups(texts: Sequence[str]) -> Ints:
    """Group number of each text, (n,): connected by likeness above NEAR_DUPLICATE. Time and 512 rows' memory ~ n².

    By letters, not by embedding: a fine-tuned encoder draws whole tiers together, and everything would be one group.
    """
    unsorted, unsorted_sizes = _trigrams(texts)
    order = np.argsort(unsorted_sizes, kind="stable")
    vectors, sizes = unsorted[order], unsorted_sizes[order]
    # The likeness of two sets is at most the root of the ratio of their sizes: a text has no variant of another length.
    ends = np.searchsorted(sizes, sizes / COMPARED_RATIO, side="right")
    parent = np.arange(len(vectors))
    joined = parent.copy()  # a text that each is known to be connected with

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    for start in range(0, len(vectors), 512):
        block = vectors[start : start + 512]
        alike = block @ vectors[start : ends[start + len(block) - 1]].T > NEAR_DUPLICATE
        for row in np.flatnonzero(alike.sum(axis=1) > 1):
            columns = start + np.flatnonzero(alike[row])
            own = root(start + int(row))
            # Texts from one template are all alike: those already joined are left out before Python counts them.
            for other in np.unique(joined[columns]):
                parent[root(int(other))] = own
            joined[columns] = own
    roots = np.empty(len(vectors), dtype=np.intp)
    roots[order] = [order[root(index)] for index in range(len(vectors))]
    _, first, group = np.unique(roots, return_index=True, return_inverse=True)
    return first.argsort().argsort()[group]  # numbered as they first appear


def _trigrams(texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], Ints]:
    """Unit vectors (n, 512) whose cosine is about that of the texts' sets of letter trigrams, and the sets' sizes (n,).

    By signed hashing: Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning. Case and spacing do
    not count.
    """
    vectors = np.zeros((len(texts), 512), dtype=np.float32)
    sizes = np.zeros(len(texts), dtype=np.intp)
    for row, text in enumerate(texts):
        plain = f" {' '.join(text.lower().split())[:_TRIGRAM_CHARS]} "
        codes = np.frombuffer(plain.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
        # Multiplication by large odd numbers, the overflow wanted (Knuth's multiplicative hashing).
        trigrams = codes[:-2] * _ODD[0] + codes[1:-1] * _ODD[1] + codes[2:] * _ODD[2]
        hashed = np.unique(trigrams * _ODD[3])
        places, signs = (hashed >> np.uint64(40)) % np.uint64(512), (hashed >> np.uint64(33)) & np.uint64(1)
        sizes[row] = len(hashed)
        vectors[row] = np.bincount(places.astype(np.intp), weights=1.0 - 2.0 * signs, minlength=512)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors, sizes
