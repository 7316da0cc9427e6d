"""Fits the cascade's first stage: `python -m export.firststage`, after every export of another encoder or head.

Distils what the published encoder and head say of each example into a table of hashed words (`router.firststage`),
calibrates it and chooses its threshold on prompts that it was not fitted on, and measures the cascade beside the
encoder alone. Needs only what the router needs; the same inputs give the same bytes. Ten minutes for 12,000
prompts on one core, nearly all of it the encoder reading them; `--inputs FILE` keeps what it said for the next time.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.finetune import HELD_OUT_MODULUS, is_held_out
from export.headfit import ENOUGH_TO_CALIBRATE, FIXED_POINTS, NATURAL_MIX
from export.steps import ExportError, step
from router import embeddings
from router.artifacts import ArtifactError, Manifest, NewFile, default_models_dir, publish, read_manifest
from router.classifier import head_input
from router.encoder import Encoder
from router.examples import BUILT_IN, Example, latest, read_examples
from router.firststage import BAG_SCALE, ROWS, SHAPE_SCALE, VERSION, FirstStage, slots
from router.head import Floats, Head, Ints, fit_temperature, minimise, softmax

# A word met in fewer examples says more about them than about other prompts.
MIN_EXAMPLES = 4
L2 = 3.0
# Share of the target that is the full model's distribution; the rest is the example's label.
DISTILLED = 0.8
# Prompts that people sent count this much beside examples written for the purpose.
OF_PEOPLE = 3.0
MAX_PIN_WEIGHT = 1024.0
ITERATIONS = 60  # the loss on held-out prompts is flat from here on
TOLERANCE = 3e-5
THRESHOLDS = tuple(round(0.50 + 0.05 * index, 2) for index in range(10))
# What the cascade has to show on every measured set to be on by default.
MAX_LOSS = 0.005
MIN_STOPPED = 0.5


@dataclass(frozen=True, slots=True)
class Prompts:
    """Labelled prompts and what the full model says of them: `teacher` (n, labels)."""

    examples: list[Example]
    targets: Ints
    teacher: Floats
    of_people: npt.NDArray[np.bool_]

    def part(self, rows: npt.NDArray[np.bool_]) -> Prompts:
        examples = [example for example, wanted in zip(self.examples, rows, strict=True) if wanted]
        return Prompts(examples, self.targets[rows], self.teacher[rows], self.of_people[rows])


@dataclass(frozen=True, slots=True)
class Design:
    """A sparse matrix: entry k adds `values[k]` times row `columns[k]` of the weights to text `texts[k]`."""

    columns: Ints
    values: Floats
    texts: Ints


def design(texts: Sequence[str]) -> Design:
    """What the first stage reads of each text."""
    columns: list[int] = []
    values: list[float] = []
    sizes: list[int] = []
    for text in texts:
        found = slots(text.strip())
        columns += found.bag + found.shape
        values += [BAG_SCALE / len(found.bag) ** 0.5] * len(found.bag) + [SHAPE_SCALE] * len(found.shape)
        sizes.append(len(found.bag) + len(found.shape))
    rows = np.repeat(np.arange(len(texts)), sizes)
    return Design(np.array(columns, dtype=np.intp), np.array(values), rows)


def fit_table(texts: Sequence[str], wanted: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weights (ROWS, labels) and bias (labels,) of least cross-entropy to `wanted` (n, labels), ridge-penalised."""
    full = design(texts)
    common = np.bincount(full.columns, minlength=ROWS) >= MIN_EXAMPLES
    kept = common[full.columns]
    columns, values, rows = (np.cumsum(common) - 1)[full.columns[kept]], full.values[kept], full.texts[kept]
    width, classes, count = int(common.sum()), wanted.shape[1], len(texts)

    def objective(flat: Floats) -> tuple[float, Floats]:
        matrix = flat.reshape(classes, width + 1)  # one label's weights together; its bias comes last
        logits = np.stack([np.bincount(rows, values * line[columns], count) + line[-1] for line in matrix], axis=1)
        top = logits.max(axis=1, keepdims=True)
        logs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        value = float(-(weights[:, None] * wanted * logs).sum() + 0.5 * L2 * (matrix[:, :-1] ** 2).sum())
        residual = (np.exp(logs) - wanted) * weights[:, None]
        gradient = L2 * matrix
        gradient[:, -1] = residual.sum(axis=0)
        for line, shares in zip(gradient, residual.T, strict=True):
            line[:-1] += np.bincount(columns, values * shares[rows], width)
        return value, gradient.ravel()

    start = np.zeros(classes * (width + 1))
    found = minimise(objective, start, TOLERANCE * float(weights.sum()), ITERATIONS).reshape(classes, width + 1)
    table = np.zeros((ROWS, classes))
    table[common] = found[:, :-1].T
    return table, found[:, -1]


def quantised(labels: Sequence[str], table: Floats, bias: Floats, temperature: float, threshold: float) -> FirstStage:
    """The stage as it is stored: one step for the whole table, temperature folded in."""
    # The few weights beyond a ten-thousandth of the table's share are cut, or all others would be coarser for them.
    carried = np.abs(table[table.any(axis=1)])
    limit = float(np.quantile(carried, 0.9999)) if carried.size else 1.0
    unit = limit / 127
    codes = np.clip(np.round(table / unit), -127, 127).astype(np.int8)
    return FirstStage(tuple(labels), codes, unit / temperature, tuple((bias / temperature).tolist()), threshold)


def fit_stage(
    labels: Sequence[str], fitted: Prompts, chosen_on: Prompts, pinned: Sequence[Example] = ()
) -> tuple[FirstStage, float]:
    """A stage fitted on the one, calibrated and its threshold chosen on the other; and its temperature.

    Prompts of `pinned` that it answers otherwise than labelled weigh more and more, until it does not.
    """
    classes = len(labels)
    counts = np.maximum(np.bincount(fitted.targets, minlength=classes), 1)
    mix = np.array([NATURAL_MIX.get(label, 1 / classes) for label in labels])
    weights = (mix * len(fitted.targets) / counts)[fitted.targets] * np.where(fitted.of_people, OF_PEOPLE, 1.0)
    onehot = np.eye(classes)
    wanted = DISTILLED * fitted.teacher + (1 - DISTILLED) * onehot[fitted.targets]
    wanted = np.vstack([wanted, *(onehot[labels.index(row.tier)] for row in pinned)])
    texts = [row.text for row in (*fitted.examples, *pinned)]
    pins = np.ones(len(pinned))
    while True:
        table, bias = fit_table(texts, wanted, np.concatenate([weights, pins]))
        raw = quantised(labels, table, bias, 1.0, 0.0)
        logits = np.log(np.maximum(answers(raw, chosen_on), 1e-30))
        temperature = fit_temperature(logits, chosen_on.targets)
        judged = softmax(logits / temperature)
        threshold = choose_threshold([cascade(judged, chosen_on, value) for value in THRESHOLDS])
        stage = quantised(labels, table, bias, temperature, threshold)
        wrong = misrouted(stage, pinned)
        if not wrong.any() or pins.max() >= MAX_PIN_WEIGHT:
            return stage, temperature
        pins[wrong] *= 4


def misrouted(stage: FirstStage, pinned: Sequence[Example]) -> npt.NDArray[np.bool_]:
    """Which of the prompts (n,) the stage answers, and otherwise than labelled."""
    found = [stage.classify(row.text.strip()) for row in pinned]
    return np.array(
        [
            own is not None and stage.labels[own.index(max(own))] != row.tier
            for own, row in zip(found, pinned, strict=True)
        ],
        dtype=bool,
    )


def answers(stage: FirstStage, prompts: Prompts) -> Floats:
    """The stage's probabilities (n, labels)."""
    return np.array([stage.probabilities(row.text.strip()) for row in prompts.examples])


def cascade(own: Floats, prompts: Prompts, threshold: float) -> dict[str, float]:
    """One point of the curve: what the cascade does at `threshold`, beside the full model alone."""
    first, second = own.argmax(axis=1), prompts.teacher.argmax(axis=1)
    stops = own.max(axis=1) >= threshold
    routed = np.where(stops, first, second)
    gain = (routed == prompts.targets).astype(float) - (second == prompts.targets)
    hard = prompts.targets >= 2  # complex and reasoning
    count = max(1, int(stops.sum()))
    return {
        "threshold": threshold,
        "stopped": round(float(stops.mean()), 4),
        "agreement": round(float((first == second)[stops].sum()) / count, 4),
        "accuracy": round(float((routed == prompts.targets).mean()), 4),
        "change": round(float(gain.mean()), 4),
        "standard_error": round(float(gain.std()) / len(gain) ** 0.5, 4),
        "under_routing": round(float((routed[hard] == 0).mean()), 4) if hard.any() else 0.0,
    }


def choose_threshold(curve: Sequence[dict[str, float]]) -> float:
    """The lowest threshold from which on the cascade loses no more than MAX_LOSS even one standard error worse.

    The highest if there is none. Without the error, the luck of a thousand prompts would choose.
    """
    chosen = curve[-1]["threshold"]
    for point in reversed(curve):
        if point["change"] - point["standard_error"] < -MAX_LOSS:
            break
        chosen = point["threshold"]
    return chosen


def run(
    models_dir: Path,
    extra: Sequence[Path] = (),
    choose: Sequence[Path] = (),
    measure: Sequence[Path] = (),
    modulus: int | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Fit on the built-in examples and `extra`, publish, and return the manifest's section."""
    manifest = read_manifest(models_dir)
    reader = _Reader(manifest, cache)
    labels = reader.head.labels
    if modulus is None:
        modulus = manifest.section("encoder").get("finetuned", {}).get("held_out_modulus", HELD_OUT_MODULUS)
    known = reader.read([BUILT_IN, *extra])
    asked = [reader.read([path]) for path in choose]
    measured = [reader.read([path]) for path in measure]
    reader.save()
    held_out = _held_out(known, modulus, sum(len(prompts.targets) for prompts in asked))
    chosen_on = _joined([known.part(held_out), *asked])
    if not len(chosen_on.targets):
        raise ExportError("no prompts to choose the threshold on: give --choose FILE")
    pinned = read_examples(FIXED_POINTS)[0]
    with step("first stage") as current:
        stage, temperature = fit_stage(labels, known.part(~held_out), chosen_on, pinned)
        current.outcome = f"threshold {stage.threshold}"
    curves = {"held out": _curve(stage, chosen_on)}
    curves |= {path.name: _curve(stage, prompts) for path, prompts in zip(measure, measured, strict=True)}
    at_choice = [
        next(point for point in curves[path.name] if point["threshold"] == stage.threshold) for path in measure
    ]
    ships = all(point["stopped"] >= MIN_STOPPED and point["change"] >= -MAX_LOSS for point in at_choice)
    wrong = int(misrouted(stage, pinned).sum())
    section: dict[str, Any] = {
        "default": bool(at_choice) and ships and not wrong,
        "labels": list(labels),
        "version": VERSION,
        "threshold": stage.threshold,
        "temperature": round(temperature, 4),
        "distilled_from": {"encoder": manifest.digest("encoder"), "head": manifest.digest("head")},
        "fitted_on": int((~held_out).sum()),
        "chosen_on": len(chosen_on.targets),
        "fixed_points_misrouted": wrong,
        "curves": curves,
    }
    publish(models_dir, {"firststage": NewFile(stage.to_bytes(), ".npz")}, {"firststage": section})
    return section


def _held_out(known: Prompts, modulus: int, asked: int) -> npt.NDArray[np.bool_]:
    """Rows (n,) of `known` that choose instead of being fitted on: such as the encoder has not seen either.

    What it has learnt by heart it is right about too often. People's prompts alone choose if there are enough of them.
    """
    unseen = np.array([modulus > 0 and is_held_out(row.text, modulus) for row in known.examples])
    of_people = unseen & known.of_people
    return of_people if of_people.sum() + asked >= ENOUGH_TO_CALIBRATE else unseen


class _Reader:
    """Files → prompts with the full model's answers, each text asked once."""

    def __init__(self, manifest: Manifest, cache: Path | None) -> None:
        limit = int(manifest.section("encoder")["token_limit"])
        self.encoder = Encoder.load(manifest.verified("encoder"), manifest.verified("tokenizer"), limit)
        self.head = Head.from_file(manifest.verified("head"))
        self._stored = embeddings.read(manifest)
        self._cache = cache
        self._of = manifest.digest("encoder")
        self._inputs: dict[str, npt.NDArray[np.float32]] = {}
        if cache is not None and cache.is_file():
            with np.load(cache, allow_pickle=False) as file:
                if str(file["encoder"]) == self._of:
                    self._inputs = dict(zip(file["keys"].tolist(), file["inputs"], strict=True))

    def read(self, paths: Sequence[Path]) -> Prompts:
        """The prompts of `paths`; those of the second and further files are people's."""
        with step("reading " + ", ".join(path.name for path in paths)) as current:
            found: list[Example] = []
            people: set[str] = set()
            for index, path in enumerate(paths):
                rows, problems = read_examples(path)
                if problems:
                    raise ExportError("; ".join(problems[:5]))
                found += rows
                people |= {row.text.strip() for row in rows} if index else set()
            examples = [row for row in latest(found) if row.tier in self.head.labels]
            inputs = np.stack([self._input(row.text.strip()) for row in examples])
            targets = np.array([self.head.labels.index(row.tier) for row in examples], dtype=np.intp)
            of_people = np.array([row.text.strip() in people for row in examples])
            current.outcome = f"{len(examples)} prompts"
            return Prompts(examples, targets, self.head.probabilities(inputs), of_people)

    def _input(self, text: str) -> npt.NDArray[np.float32]:
        key = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        if key not in self._inputs:
            self._inputs[key] = head_input(self.encoder, text, self._stored.get(text))
        return self._inputs[key]

    def save(self) -> None:
        if self._cache is not None:
            keys, inputs = np.array(list(self._inputs)), np.stack(list(self._inputs.values()))
            np.savez_compressed(self._cache, encoder=np.array(self._of), keys=keys, inputs=inputs)


def _joined(parts: Sequence[Prompts]) -> Prompts:
    return Prompts(
        [row for part in parts for row in part.examples],
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.teacher for part in parts]),
        np.concatenate([part.of_people for part in parts]),
    )


def _curve(stage: FirstStage, prompts: Prompts) -> list[dict[str, float]]:
    own = answers(stage, prompts)
    return [cascade(own, prompts, threshold) for threshold in THRESHOLDS]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 1 with `models/` as it was."""
    parser = argparse.ArgumentParser("python -m export.firststage", description=__doc__)
    parser.add_argument("--models", type=Path, default=default_models_dir(), help="default: models/")
    parser.add_argument("--extra", type=Path, action="append", default=[], help="labelled JSONL to fit on as well")
    parser.add_argument("--choose", type=Path, action="append", default=[], help="labelled JSONL to choose on")
    parser.add_argument("--measure", type=Path, action="append", default=[], help="labelled JSONL to measure on only")
    parser.add_argument("--held-out", type=int, help="one in so many examples is left out to choose on; 0: none")
    parser.add_argument("--inputs", type=Path, help="keep what the encoder says here (.npz), and take it from here")
    options = parser.parse_args(arguments)
    try:
        section = run(options.models, options.extra, options.choose, options.measure, options.held_out, options.inputs)
    except (ExportError, ArtifactError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, curve in section["curves"].items():
        print(name)
        for point in curve:
            print("  " + "  ".join(f"{key} {value:.4g}" for key, value in point.items()))
    print(f"threshold {section['threshold']}, default {'on' if section['default'] else 'off'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
