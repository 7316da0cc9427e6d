"""The classifier as the event loop sees it: off the loop, one prompt at a time, work of vanished clients dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from router.classifier import Classification, Classifier

T = TypeVar("T")
# Texts of one `/classify` batch that are classified before others get their turn.
_BATCH = 16


class ClassifierService:
    """Runs the classifier on its own thread; awaiting callers that are cancelled cost nothing if not yet started."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="classify")

    async def classify(self, text: str, bias: float | None = None) -> Classification:
        """One text. Anything that the classifier raises comes out here."""
        return await self._run(lambda: self.classifier.classify(text, bias))

    async def classify_many(self, texts: Sequence[str], bias: float | None = None) -> list[Classification]:
        """Texts in order, in slices, so that a large batch does not hold up routed requests."""
        results: list[Classification] = []
        for start in range(0, len(texts), _BATCH):
            part = texts[start : start + _BATCH]
            results += await self._run(lambda part=part: self.classifier.classify_batch(part, bias))  # type: ignore[misc]
        return results

    def reconfigure(self, confidence_threshold: float, bias: float) -> None:
        """New limits for the classifications that follow."""
        self.classifier.reconfigure(confidence_threshold, bias)

    async def reload_if_changed(self) -> bool:
        """Looks for a newly published head or encoder; the look itself costs one `stat`."""
        return await self._run(self.classifier.reload_if_changed)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
