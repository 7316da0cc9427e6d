"""Who classifies: the shipped classifier in this process, or a running router."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import orjson

from bench.processes import BenchError
from bench.progress import Progress
from bench.scenarios.encoder import classifier_in
from router.classifier import decide

_BATCH = 32
_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Verdict:
    """One classification; `scores` by tier."""

    tier: str
    confidence: float
    scores: Mapping[str, float]
    flagged: bool


class Judge(Protocol):
    labels: tuple[str, ...]
    name: str

    def classify(self, texts: Sequence[str], what: str) -> list[Verdict]:
        """`what` is shown as progress. Raises `BenchError`."""
        ...

    def leaning(self, texts: Sequence[str], verdicts: Sequence[Verdict], bias: float) -> list[str]:
        """The tiers at another ROUTING_BIAS."""
        ...


class InProcess:
    """The artefacts in `models_dir`."""

    def __init__(self, models_dir: Path, progress: Progress) -> None:
        self._classifier = classifier_in(models_dir)
        self._progress = progress
        self.labels = self._classifier.labels
        self.name = f"classifier in this process, encoder {self._classifier.versions[0]}"

    def classify(self, texts: Sequence[str], what: str) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for batch in _batches(texts, what, self._progress):
            found = self._classifier.classify_batch(batch)
            verdicts += [Verdict(each.tier, each.confidence, each.scores, each.flagged) for each in found]
        return verdicts

    def leaning(self, texts: Sequence[str], verdicts: Sequence[Verdict], bias: float) -> list[str]:
        rows = (np.array([verdict.scores[label] for label in self.labels]) for verdict in verdicts)
        return [self.labels[int(row.argmax()) if bias == 0 else decide(row, bias)] for row in rows]


class OverHttp:
    """`POST /classify` of a running router."""

    def __init__(self, url: str, key: str | None, progress: Progress) -> None:
        """`url` with or without `/v1`."""
        self._url = f"{url.rstrip('/').removesuffix('/v1')}/classify"
        self._headers = {"content-type": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._progress = progress
        self.labels = tuple(self._ask(["Hello"], {})[0]["scores"])
        self.name = self._url

    def classify(self, texts: Sequence[str], what: str) -> list[Verdict]:
        return self._verdicts(texts, {}, what)

    def leaning(self, texts: Sequence[str], verdicts: Sequence[Verdict], bias: float) -> list[str]:
        headers = {"x-virtusoul-bias": f"{bias:.4f}"}
        return [verdict.tier for verdict in self._verdicts(texts, headers, f"bias {bias:+.2f}")]

    def _verdicts(self, texts: Sequence[str], headers: Mapping[str, str], what: str) -> list[Verdict]:
        return [
            Verdict(each["tier"], each["confidence"], each["scores"], each["flagged"])
            for batch in _batches(texts, what, self._progress)
            for each in self._ask(batch, headers)
        ]

    def _ask(self, texts: Sequence[str], headers: Mapping[str, str]) -> list[dict[str, Any]]:
        request = Request(  # noqa: S310 - the user's own router
            self._url, orjson.dumps({"texts": texts}), {**self._headers, **headers}
        )
        try:
            with urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
                results: list[dict[str, Any]] = orjson.loads(response.read())["results"]
                return results
        except HTTPError as error:
            raise BenchError(f"{self._url} answered {error.code}: {error.read(500)!r}") from error
        except (URLError, OSError, ValueError, KeyError) as error:
            raise BenchError(f"{self._url}: {error}") from error


def _batches(texts: Sequence[str], what: str, progress: Progress) -> Iterator[Sequence[str]]:
    batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
    progress.begin("quality", len(batches))
    for batch in batches:
        progress.step(what)
        yield batch
    progress.end()
