"""Vector → probabilities, and fitting it: multinomial logistic regression in numpy.

The objective is scikit-learn's (`LogisticRegression`, lbfgs, penalty l2):

    Σ_i s_i · ℓ_i(W, b)  +  ½ · l2 · ‖W − W0‖²        l2 = 1 / C, b is not penalised, W0 = 0

with two additions for refitting around weights that were fitted elsewhere (see `router.training`): a prior mean W0,
and a linear term that makes W0 stationary. It is smooth and convex, and L-BFGS (Nocedal & Wright, Numerical
Optimization, 2nd ed., algorithm 7.4) from a fixed start is deterministic.
"""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from router.artifacts import ArtifactError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

_MEMORY = 20  # pairs of the L-BFGS approximation; more no longer saves iterations on this problem
_SUFFICIENT_DECREASE = 1e-4  # Armijo's constant, Nocedal & Wright's value
_CURVATURE = 0.9  # Wolfe's constant for quasi-Newton directions, same source
# Near the minimum a decrease drowns in rounding: this much of a rise, relative to the value, is none.
_ROUNDING = {np.dtype(np.float64): 1e-14, np.dtype(np.float32): 1e-8}
_CURVATURE_ROWS = 6000  # enough to tell the second derivative of a few hundred inputs
_HEAVY = 10  # times the mean weight: such rows shape it one by one
_IDLE_STEPS = 5  # without a decrease beyond rounding: no more is to be had


@dataclass(frozen=True, slots=True)
class Head:
    """Weights (inputs, labels) and bias (labels,), temperature and input scales folded in.

    `scales` (inputs,) is the unit in which each input was regularised; only refitting needs it.
    """

    labels: tuple[str, ...]
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]
    feature_version: int
    l2: float

    def probabilities(self, inputs: npt.NDArray[np.float32]) -> Floats:
        """(n, inputs) → (n, labels); each row sums to 1."""
        return softmax((inputs @ self.weights + self.bias).astype(np.float64))

    def scores(self, inputs: npt.NDArray[np.float32]) -> list[float]:
        """One row of `probabilities`: of so few numbers Python makes a softmax in a third of numpy's time."""
        logits: list[float] = (inputs @ self.weights + self.bias).tolist()
        top = max(logits)
        exponents = [math.exp(logit - top) for logit in logits]
        total = sum(exponents)
        return [exponent / total for exponent in exponents]

    def restricted(self, labels: Sequence[str]) -> Head:
        """The head for those of `labels` that it knows, in their order; probabilities are renormalised by that."""
        kept = [label for label in labels if label in self.labels]
        columns = [self.labels.index(label) for label in kept]
        weights, bias = np.ascontiguousarray(self.weights[:, columns]), self.bias[columns]
        return Head(tuple(kept), weights, bias, self.scales, self.feature_version, self.l2)

    def to_bytes(self) -> bytes:
        """As an .npz without pickled objects."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            labels=np.array(self.labels, dtype=np.str_),
            weights=self.weights.astype(np.float32),
            bias=self.bias.astype(np.float32),
            scales=self.scales.astype(np.float32),
            feature_version=np.array(self.feature_version),
            l2=np.array(self.l2),
        )
        return buffer.getvalue()

    @classmethod
    def from_file(cls, path: Path) -> Head:
        """Read and check an .npz written by `to_bytes`; ArtifactError names what is wrong."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            head = cls(
                tuple(str(label) for label in arrays["labels"]),
                np.ascontiguousarray(arrays["weights"], dtype=np.float32),
                arrays["bias"].astype(np.float32),
                arrays["scales"].astype(np.float32),
                int(arrays["feature_version"]),
                float(arrays["l2"]),
            )
        except KeyError as error:
            raise ArtifactError(f"{path}: holds no {error}") from error
        except Exception as error:  # zipfile, numpy and OS each raise their own
            raise ArtifactError(f"{path}: {error}") from error
        inputs, outputs = head.weights.shape if head.weights.ndim == 2 else (-1, -1)
        shapes_agree = head.bias.shape == (outputs,) and head.scales.shape == (inputs,)
        if not shapes_agree or len(head.labels) != outputs or outputs < 2 or len(set(head.labels)) != outputs:
            raise ArtifactError(
                f"{path}: weights {head.weights.shape}, bias {head.bias.shape}, {len(head.labels)} labels"
            )
        if not all(np.isfinite(part).all() for part in (head.weights, head.bias, head.scales)):
            raise ArtifactError(f"{path}: holds values that are not finite")
        return head


@dataclass(frozen=True, slots=True)
class Prior:
    """A Gaussian around `weights` (inputs, labels), and where the search starts: there and at `bias` (labels,).

    `linear` (inputs + 1, labels; last row for the bias) is subtracted from the gradient everywhere.
    """

    weights: Floats
    bias: Floats
    linear: Floats


def softmax(logits: Floats) -> Floats:
    """Row-wise, without overflow."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def balanced_weights(targets: Ints, classes: int) -> Floats:
    """A weight per example that makes every class count alike: n / (classes · count), as scikit-learn has it."""
    counts = np.bincount(targets, minlength=classes)
    weights: Floats = len(targets) / (classes * np.maximum(counts, 1))
    return weights[targets]


def fit(
    inputs: npt.NDArray[Any],
    targets: Ints,
    classes: int,
    l2: float,
    sample_weights: Floats | None = None,
    prior: Prior | None = None,
    tolerance: float = 1e-7,
    begin: tuple[Floats, Floats] | None = None,
) -> tuple[Floats, Floats]:
    """Weights (inputs, classes) and bias (classes,) that minimise the objective at the head of this file.

    `tolerance`: largest component of the gradient per example at which the search ends. `inputs` (n, inputs) in
    float32 halve the time and are good to a tolerance of 1e-5. `begin`: weights and bias to search from, those of a
    like problem; without it the prior's.
    """
    samples, width = inputs.shape
    weight = np.ones(samples) if sample_weights is None else sample_weights
    # Centred inputs and a free bias describe the same functions, with a quarter of the iterations.
    centre = (weight @ inputs / weight.sum()).astype(inputs.dtype)
    extended = np.hstack([inputs - centre, np.ones((samples, 1), dtype=inputs.dtype)])
    onehot = np.zeros((samples, classes))
    onehot[np.arange(samples), targets] = 1.0
    start = np.zeros((width + 1, classes))
    linear = np.zeros_like(start)
    if prior is not None:
        start[:-1], start[-1] = prior.weights, prior.bias + centre @ prior.weights
        linear[:-1], linear[-1] = prior.linear[:-1] - np.outer(centre, prior.linear[-1]), prior.linear[-1]

    def objective(flat: Floats) -> tuple[float, Floats]:
        matrix = flat.reshape(width + 1, classes)
        logits = (extended @ matrix.astype(extended.dtype)).astype(np.float64)
        top = logits.max(axis=1, keepdims=True)
        exponent = np.exp(logits - top)
        total = exponent.sum(axis=1, keepdims=True)
        losses = np.log(total[:, 0]) + top[:, 0] - logits[np.arange(samples), targets]
        distance = matrix - start
        distance[-1] = 0.0  # the bias is free
        value = float(weight @ losses + 0.5 * l2 * (distance**2).sum() - (linear * matrix).sum())
        residual = ((exponent / total - onehot) * weight[:, None]).astype(extended.dtype)
        gradient = extended.T @ residual + l2 * distance - linear
        return value, gradient.ravel()

    first = start if begin is None else np.vstack([begin[0], begin[1] + centre @ begin[0]])
    inverse = _inverse_curvature(extended, weight, first, l2)

    def preconditioned(flat: Floats) -> Floats:
        return (inverse @ flat.reshape(width + 1, classes)).ravel()

    enough, rounding = tolerance * max(1.0, float(weight.sum())), _ROUNDING[extended.dtype]
    solution = minimise(objective, first.ravel(), enough, rounding=rounding, preconditioned=preconditioned)
    matrix = solution.reshape(width + 1, classes)
    return matrix[:-1], matrix[-1] - centre @ matrix[:-1]


def _inverse_curvature(extended: npt.NDArray[Any], weight: Floats, matrix: Floats, l2: float) -> Floats:
    """About the inverse of the objective's second derivative at `matrix`, (inputs, inputs), one for all classes.

    The inputs lie along a few directions, most of all behind a fine-tuned encoder: without it the search takes six
    times the steps. Of Σ s_i p(1 − p) x xᵀ each class has its own; this is their mean, and some of the rows tell it.
    """
    heavy = weight > _HEAVY * weight.mean()
    light = np.flatnonzero(~heavy)
    every = max(1, len(light) // _CURVATURE_ROWS)
    chosen = np.concatenate([np.flatnonzero(heavy), light[::every]])
    rows = extended[chosen].astype(np.float64)
    chances = softmax(rows @ matrix)
    spread = np.where(heavy, 1, every)[chosen] * weight[chosen] * (1.0 - (chances**2).sum(axis=1)) / chances.shape[1]
    curvature = (rows * spread[:, None]).T @ rows
    # Without a penalty there may be directions without any, and nothing to invert.
    ridge = max(l2, 1e-10 * float(np.trace(curvature)) / len(curvature), 1e-300)
    inverse: Floats = np.linalg.inv(curvature + ridge * np.eye(len(curvature)))
    return inverse


def loss_gradient(
    inputs: npt.NDArray[Any], targets: Ints, weights: Floats, bias: Floats, sample_weights: Floats
) -> Floats:
    """∇ Σ s_i ℓ_i at the given weights, (inputs + 1, classes), last row for the bias: `Prior.linear`."""
    residual = softmax(inputs @ weights + bias)
    residual[np.arange(len(targets)), targets] -= 1.0
    residual *= sample_weights[:, None]
    return np.vstack([inputs.T @ residual, residual.sum(axis=0)])


def fit_temperature(logits: Floats, targets: Ints) -> float:
    """T that minimises the log loss of softmax(logits / T) (Guo et al. 2017)."""
    rows = np.arange(len(targets))

    def loss(log_t: float) -> float:
        return float(-np.log(np.maximum(softmax(logits / np.exp(log_t))[rows, targets], 1e-300)).mean())

    low, high = np.log(0.05), np.log(20.0)
    golden = (np.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(50):  # shrinks the bracket by 0.618 each: to 1e-10
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2))


def cautious_temperature(logits: Floats, targets: Ints) -> float:
    """The highest T that these rows do not speak against: its loss is within one standard error of the least.

    A few hundred rows hardly tell 1.3 from 1.7, and a probability that promises too much misleads more than one that
    promises too little (the one-standard-error rule: Breiman et al. 1984, Classification and Regression Trees, 3.4.3).
    """
    rows = np.arange(len(targets))

    def losses(temperature: float) -> Floats:
        found: Floats = -np.log(np.maximum(softmax(logits / temperature)[rows, targets], 1e-300))
        return found

    likeliest = fit_temperature(logits, targets)
    least = losses(likeliest)
    chosen = likeliest
    for temperature in likeliest * np.geomspace(1.0, 2.0, 101)[1:]:
        more = losses(float(temperature)) - least
        if more.mean() > more.std() / np.sqrt(len(targets)):
            break
        chosen = float(temperature)
    return chosen


def minimise(
    objective: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    tolerance: float,
    iterations: int = 1000,
    rounding: float = _ROUNDING[np.dtype(np.float64)],
    preconditioned: Callable[[Floats], Floats] | None = None,
) -> Floats:
    """L-BFGS: the point where no component of the gradient exceeds `tolerance`, or the best one found.

    `rounding`: how far the objective's value may be off, relative to it. `preconditioned` multiplies a vector by a
    guess at the inverse of the second derivative; without one the first step is a short one along the gradient.
    """
    point, (value, gradient) = start, objective(start)
    short = min(1.0, 1.0 / max(1e-300, float(np.abs(gradient).sum())))
    guess = preconditioned or (lambda vector: short * vector)
    pairs: deque[tuple[Floats, Floats, float]] = deque(maxlen=_MEMORY)
    idle = 0
    for _ in range(iterations):
        if np.abs(gradient).max() <= tolerance or idle == _IDLE_STEPS:
            break
        direction = _two_loop(gradient, pairs, guess)
        slope = float(gradient @ direction)
        if slope >= 0:  # rounding has spoilt the approximation: begin it anew
            pairs.clear()
            direction = -guess(gradient)
            slope = float(gradient @ direction)
        found = _line_search(objective, point, value, direction, slope, rounding)
        if found is None:
            if not pairs:
                break
            pairs.clear()
            continue
        next_point, next_value, next_gradient = found
        step, change = next_point - point, next_gradient - gradient
        curvature = float(step @ change)
        if curvature > 1e-12 * float(change @ change):
            pairs.append((step, change, 1.0 / curvature))
        idle = idle + 1 if value - next_value <= rounding * abs(value) else 0
        point, value, gradient = next_point, next_value, next_gradient
    return point


def _two_loop(
    gradient: Floats, pairs: deque[tuple[Floats, Floats, float]], preconditioned: Callable[[Floats], Floats]
) -> Floats:
    """−H·gradient from the stored pairs (step, change of gradient, 1 / their product)."""
    direction = -gradient
    factors = []
    for step, change, inverse in reversed(pairs):
        factor = inverse * float(step @ direction)
        factors.append(factor)
        direction = direction - factor * change
    direction = preconditioned(direction)
    if pairs:
        _, change, inverse = pairs[-1]
        direction = direction / (inverse * float(change @ preconditioned(change)))
    for (step, change, inverse), factor in zip(pairs, reversed(factors), strict=True):
        direction = direction + step * (factor - inverse * float(change @ direction))
    return direction


def _line_search(
    objective: Callable[[Floats], tuple[float, Floats]],
    point: Floats,
    value: float,
    direction: Floats,
    slope: float,
    rounding: float,
) -> tuple[Floats, float, Floats] | None:
    """A step that meets the weak Wolfe conditions, by bisection and doubling; None where rounding allows none."""
    low, high, step = 0.0, np.inf, 1.0
    best: tuple[Floats, float, Floats] | None = None
    for _ in range(40):
        candidate = point + step * direction
        next_value, next_gradient = objective(candidate)
        enough = value + _SUFFICIENT_DECREASE * step * slope + rounding * abs(value)
        if next_value > enough or not np.isfinite(next_value):
            high = step
        else:
            best = (candidate, next_value, next_gradient)
            if float(next_gradient @ direction) >= _CURVATURE * slope:
                break
            low = step
        step = (low + high) / 2 if np.isfinite(high) else 2 * low
    return best
