"""Encoder + head → `Classification`; loading, and swapping when another process has published.

What is loaded lives in one immutable object behind one reference: a reader takes the reference once per call, so a
swap in the middle of a call cannot mix an old encoder with a new head.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from router import features
from router.artifacts import ArtifactError, Manifest, fingerprint, load_consistent
from router.encoder import Encoder
from router.firststage import FirstStage
from router.head import Floats, Head
from router.prompt import clip

logger = logging.getLogger(__name__)

DEFAULT_THRESHOLD = 0.60
# Expected cost at bias ±1: an error in the avoided direction counts e^(2·1.5) ≈ 20 times the other.
BIAS_STRENGTH = 1.5
EMPTY_CONFIDENCE = 0.99
# Recent vectors kept, and the longest text of one: 1.6 kB a vector, some 4 MB in all at the worst.
RECENT = 1024
RECENT_CHARS = 2000

_READS_LIKE = {
    "simple": "a short, one-step request",
    "medium": "one self-contained piece of work",
    "complex": "work with several parts or constraints that needs planning",
    "reasoning": "a problem that takes a long chain of deduction",
}


@dataclass(frozen=True, slots=True)
class Classification:
    """`confidence` is the calibrated probability of `tier`, `scores` that of every tier (they sum to 1).

    `flagged`: the classifier's best guess, bias aside, is less probable than the threshold.
    """

    tier: str
    confidence: float
    scores: dict[str, float]
    latency_ms: float
    flagged: bool
    is_empty: bool = False  # there was no text to judge

    @property
    def reasoning(self) -> str:
        """One sentence on why, for a person; made where somebody reads it."""
        if self.is_empty:
            return "There is no text to judge, so the cheapest tier will do."
        tier, scores = self.tier, self.scores
        likeness = _READS_LIKE.get(tier, f"the examples of the tier {tier}")
        if len(scores) == 1:
            return f"Reads like {likeness}."
        best, second = sorted(scores, key=scores.__getitem__, reverse=True)[:2]
        if tier != best:
            return f"Could be {likeness} ({scores[tier]:.0%}); the bias prefers {tier} to {best} ({scores[best]:.0%})."
        if self.flagged:
            return (
                f"Unsure: most like {likeness} ({scores[best]:.0%}), but {second} is possible ({scores[second]:.0%})."
            )
        return f"Reads like {likeness} ({scores[best]:.0%}); next is {second} ({scores[second]:.0%})."


@dataclass(frozen=True, slots=True)
class Loaded:
    """One published set of artefacts. `head` knows all its labels, `active` those in use, cheapest first."""

    manifest: Manifest
    encoder: Encoder
    head: Head
    active: Head
    first: FirstStage | None = None  # answers before the encoder where it is sure


class Classifier:
    """Thread-safe: calls share nothing but the reference to what is loaded."""

    def __init__(
        self,
        models_dir: Path,
        loaded: Loaded,
        *,
        tiers: Sequence[str],
        threads: int,
        threshold: float,
        bias: float,
        cascade: bool | None = None,
    ) -> None:
        self.models_dir = models_dir
        self.tiers = tuple(tiers)
        self._loaded = loaded
        self._threads = threads
        self._cascade = cascade
        self._threshold = threshold
        self._bias = bias
        self._seen = fingerprint(models_dir)
        self._swapping = threading.Lock()
        # Text → encoder and vector, oldest first. A retried request, or the next turn of a tool loop, asks again for
        # what was just embedded. Each operation on it is atomic, so it needs no lock.
        self._recent: OrderedDict[str, tuple[Encoder, npt.NDArray[np.float32]]] = OrderedDict()

    @classmethod
    def load(
        cls,
        models_dir: Path,
        *,
        tiers: Sequence[str],
        threads: int = 1,
        confidence_threshold: float = DEFAULT_THRESHOLD,
        bias: float = 0.0,
        cascade: bool | None = None,
    ) -> Classifier:
        """Load, verify and warm up; ArtifactError names the file that is missing or damaged.

        `cascade`: whether a first stage answers where it is sure; None: as the artefacts were measured to be best.
        """
        seen = fingerprint(models_dir)
        loaded = load_consistent(models_dir, lambda manifest: _load(manifest, tiers, threads, None, cascade))
        if cascade and loaded.first is None:
            logger.warning(
                "CASCADE=1, but the artefacts hold no first stage for their head: the encoder reads everything"
            )
        classifier = cls(
            models_dir,
            loaded,
            tiers=tiers,
            threads=threads,
            threshold=confidence_threshold,
            bias=bias,
            cascade=cascade,
        )
        classifier._seen = seen
        classifier.warm_up()
        return classifier

    @property
    def loaded(self) -> Loaded:
        """What is in use at this moment."""
        return self._loaded

    @property
    def labels(self) -> tuple[str, ...]:
        """The tiers that can be predicted, cheapest first."""
        return self._loaded.active.labels

    @property
    def versions(self) -> tuple[str, str]:
        """Ids of the encoder and of the head: the beginnings of their SHA-256."""
        manifest = self._loaded.manifest
        return manifest.digest("encoder")[:12], manifest.digest("head")[:12]

    def reconfigure(self, confidence_threshold: float, bias: float) -> None:
        """New limits for the calls that follow."""
        self._threshold = confidence_threshold
        self._bias = bias

    def warm_up(self) -> None:
        """One short and one long run: onnxruntime allocates on the first, and the longest sets its peak."""
        for text in ("Hello", "one two three four five six seven eight nine ten " * 60):
            self.classify(text)
            head_input(self._loaded.encoder, text)  # by itself too: a first stage may have spared the encoder

    def classify(self, text: str, bias: float | None = None) -> Classification:
        """One text; see `classify_batch`."""
        return self.classify_batch([text], bias)[0]

    def classify_batch(self, texts: Sequence[str], bias: float | None = None) -> list[Classification]:
        """Classify texts that are already "the text to classify" (`router.prompt`); long ones are clipped here.

        `bias` (−1 … 1) overrides the configured one for this call. Synchronous; may run in any thread.
        """
        loaded = self._loaded
        lean = self._bias if bias is None else bias
        results = []
        for text in texts:
            started = time.perf_counter()
            stripped = text.strip()
            if not stripped:
                results.append(_empty(loaded.active.labels, started))
                continue
            # A bias weighs the costs of errors; the first stage is only ever asked for its plain opinion.
            # Nor where it is less sure than the operator wants: the encoder may well be.
            if loaded.first is not None and lean == 0:
                sure = loaded.first.classify(stripped)
                if sure is not None and max(sure) >= self._threshold:
                    results.append(self._classification(loaded.active.labels, sure, lean, started))
                    continue
            vector = head_input(loaded.encoder, stripped)
            self._remember(stripped, loaded.encoder, vector)
            row = loaded.active.scores(vector)
            results.append(self._classification(loaded.active.labels, row, lean, started))
        return results

    def recall(self, text: str, bias: float | None = None) -> Classification | None:
        """The classification of a text that was embedded recently, in microseconds; None for any other."""
        started = time.perf_counter()
        stripped = text.strip()
        found = self._recent.get(stripped)
        loaded = self._loaded
        if found is None or found[0] is not loaded.encoder:  # a swapped encoder means other vectors
            return None
        with contextlib.suppress(KeyError):  # another thread may just have dropped it
            self._recent.move_to_end(stripped)
        row = loaded.active.scores(found[1])
        return self._classification(loaded.active.labels, row, self._bias if bias is None else bias, started)

    def _remember(self, text: str, encoder: Encoder, vector: npt.NDArray[np.float32]) -> None:
        if len(text) > RECENT_CHARS:
            return
        self._recent[text] = (encoder, vector)
        if len(self._recent) > RECENT:
            with contextlib.suppress(KeyError):
                self._recent.popitem(last=False)

    def _classification(self, labels: tuple[str, ...], row: list[float], bias: float, started: float) -> Classification:
        top = max(row)
        chosen = row.index(top) if bias == 0 else decide(np.array(row), bias)
        return Classification(
            tier=labels[chosen],
            confidence=row[chosen],
            scores=dict(zip(labels, row, strict=True)),
            latency_ms=(time.perf_counter() - started) * 1e3,
            flagged=top < self._threshold,
        )

    def reload_if_changed(self) -> bool:
        """Swap if the manifest has changed since the last look; True if swapped. A bad file is logged once."""
        now = fingerprint(self.models_dir)
        if now == self._seen:
            return False
        with self._swapping:
            if now == self._seen:
                return False
            self._seen = now
            try:
                self._loaded = load_consistent(
                    self.models_dir,
                    lambda manifest: _load(manifest, self.tiers, self._threads, self._loaded, self._cascade),
                )
            except ArtifactError as error:
                logger.error("new model artefacts refused, the old ones stay in use: %s", error)
                return False
        logger.info("model artefacts swapped: encoder %s, head %s", *self.versions)
        return True


def head_input(
    encoder: Encoder, text: str, embedding: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """What the head reads of a text: its embedding (computed unless given), its surface features; (inputs,)."""
    clipped = clip(text, encoder.char_limit)
    vector = encoder.run(encoder.token_ids(clipped)) if embedding is None else embedding
    return np.concatenate([vector, features.surface_features(clipped, len(text))])


def decide(probabilities: Floats, bias: float) -> int:
    """The column of least expected cost; columns are tiers, cheapest first.

    A tier too weak costs e^(s·bias), one too strong e^(−s·bias), the right one nothing. At 0 that is the most probable
    tier; and since the difference of cost between two tiers falls with the bias, the choice only ever moves towards
    stronger tiers as the bias rises.
    """
    too_weak, too_strong = math.exp(BIAS_STRENGTH * bias), math.exp(-BIAS_STRENGTH * bias)
    up_to = np.cumsum(probabilities)
    stronger = up_to[-1] - up_to
    weaker = up_to - probabilities
    return int((too_weak * stronger + too_strong * weaker).argmin())


def _first_stage(manifest: Manifest, labels: tuple[str, ...], cascade: bool | None) -> FirstStage | None:
    """The first stage, where it is wanted and was distilled from the very head that stands beside it.

    After a retraining it would answer as the old head did, so it is left out until it is distilled anew.
    """
    if cascade is False or not manifest.has("firststage"):
        return None
    section = manifest.section("firststage")
    if not (cascade or section.get("default")) or section.get("distilled_from", {}).get("head") != manifest.digest(
        "head"
    ):
        return None
    stage = FirstStage.from_file(manifest.verified("firststage"))
    return stage if stage.labels == labels else None


def _load(
    manifest: Manifest, tiers: Sequence[str], threads: int, present: Loaded | None, cascade: bool | None
) -> Loaded:
    """Everything the manifest names, each file verified. An encoder that has not changed is taken over."""
    limit = manifest.section("encoder").get("token_limit")
    if not isinstance(limit, int) or limit < 8:
        raise ArtifactError(f"{manifest.folder}/manifest.json: encoder.token_limit is {limit!r}")
    same = present is not None and all(
        present.manifest.digest(role) == manifest.digest(role) for role in ("encoder", "tokenizer")
    )
    if present is not None and same and present.encoder.token_limit == limit:
        encoder = present.encoder
    else:
        encoder = Encoder.load(manifest.verified("encoder"), manifest.verified("tokenizer"), limit, threads)
    head = Head.from_file(manifest.verified("head"))
    if head.feature_version != features.VERSION:
        raise ArtifactError(
            f"{manifest.path('head')}: fitted on feature version {head.feature_version}, this program computes "
            f"{features.VERSION}; run `python -m export --head-only`"
        )
    if head.weights.shape[0] != encoder.dimension + features.COUNT:
        raise ArtifactError(
            f"{manifest.path('head')}: reads {head.weights.shape[0]} inputs, not what the encoder gives"
        )
    active = head.restricted(tiers)
    if not active.labels:
        raise ArtifactError(f"{manifest.path('head')}: knows {', '.join(head.labels)}, none of which TIERS lists")
    return Loaded(manifest, encoder, head, active, _first_stage(manifest, active.labels, cascade))


def _empty(labels: tuple[str, ...], started: float) -> Classification:
    """Nothing to read is `simple` (or, without that tier, the cheapest)."""
    tier = "simple" if "simple" in labels else labels[0]
    rest = (1 - EMPTY_CONFIDENCE) / max(1, len(labels) - 1)
    sure = EMPTY_CONFIDENCE if len(labels) > 1 else 1.0
    return Classification(
        tier=tier,
        confidence=sure,
        scores={label: sure if label == tier else rest for label in labels},
        latency_ms=(time.perf_counter() - started) * 1e3,
        flagged=False,
        is_empty=True,
    )
