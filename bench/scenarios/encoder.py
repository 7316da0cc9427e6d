"""The classifier alone, in this process: by token count, and for texts far beyond its limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bench import prompts
from bench.figures import quantiles
from bench.processes import BenchError
from bench.rounds import Leg, Play, Reading, Round
from bench.stage import Stage
from router.artifacts import ArtifactError
from router.classifier import Classifier
from router.encoder import Encoder

TOKENS = (8, 16, 32, 64, 128, 8000)
LENGTHS = (64, 128, 256, 512, 1000, 2000, 4000, 8000)
_MEGABYTE = 1_000_000
_TIERS = ("simple", "medium", "complex", "reasoning")


def classifier_in(models_dir: Path) -> Classifier:
    """The shipped classifier as the router loads it. Raises `BenchError`."""
    try:
        return Classifier.load(models_dir, tiers=_TIERS)
    except ArtifactError as error:
        raise BenchError(f"the classifier cannot be loaded: {error}") from error


def encoder_in(models_dir: Path) -> Encoder:
    return classifier_in(models_dir).loaded.encoder


def by_tokens(stage: Stage, stack: ExitStack) -> Play:
    """Classification by token count; the floor beside it is the bare `session.run` on the same ids."""
    classifier = classifier_in(stage.models_dir)
    encoder = classifier.loaded.encoder
    legs: list[Leg] = []
    for tokens in TOKENS:
        texts = _endless(tokens)
        legs.append(_timed(stage, f"{tokens} tokens", texts, lambda text: lambda: classifier.classify(text)))
        legs.append(_timed(stage, f"{tokens} tokens, floor", texts, lambda text: _bare(encoder, text)))

    def derive(seen: Round) -> Round:
        return {
            f"{name} / floor": {"overhead": seen[name]["p50"] / seen[f"{name}, floor"]["p50"]}
            for name in (f"{tokens} tokens" for tokens in TOKENS)
        }

    limit = encoder.token_limit
    return Play(legs, derive, [f"token limit {limit}; floor: session.run alone on the same ids; texts never repeat"])


def clip(stage: Stage, stack: ExitStack) -> Play:
    """Classification time against prompt length: flat beyond the token limit, or the clip comes too late."""
    classifier = classifier_in(stage.models_dir)

    def once(text: str) -> Callable[[], object]:
        return lambda: classifier.classify(text)

    legs = [_timed(stage, f"{tokens} tokens", _endless(tokens), once) for tokens in LENGTHS]
    limit = min((tokens for tokens in LENGTHS if tokens >= classifier.loaded.encoder.token_limit), default=LENGTHS[-1])
    word = "A megabyte of pasted text. "
    huge = word * (_MEGABYTE // len(word))
    texts = iter(lambda: f"{next(_numbers)} {huge}", "")
    legs.append(_timed(stage, "1 MB", texts, once))

    def derive(seen: Round) -> Round:
        at_limit = seen[f"{limit} tokens"]["p50"]
        return {
            f"{what} / {limit} tokens": {"overhead": seen[what]["p50"] / at_limit} for what in ("8000 tokens", "1 MB")
        }

    return Play(legs, derive, [f"token limit {classifier.loaded.encoder.token_limit}"])


_numbers = iter(range(1, 1 << 40))


def _endless(tokens: int) -> Iterator[str]:
    return iter(lambda: prompts.of_tokens(tokens, next(_numbers)), "")


def _bare(encoder: Encoder, text: str) -> Callable[[], object]:
    ids = encoder.token_ids(text)
    return lambda: encoder.run(ids)


def _timed(stage: Stage, subject: str, texts: Iterator[str], prepare: Callable[[str], Callable[[], object]]) -> Leg:
    """Times what `prepare` gives for each text, for a share of the run's seconds; preparing is not timed."""

    def run() -> Reading:
        prepare(next(texts))()
        took = []
        end = time.perf_counter() + stage.options.seconds / 4
        while time.perf_counter() < end:
            work = prepare(next(texts))
            began = time.perf_counter()
            work()
            took.append((time.perf_counter() - began) * 1e3)
        samples = np.array(took)
        return Reading(quantiles(samples), samples)

    return Leg(subject, run)
