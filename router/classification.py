"""The classifier as the event loop sees it: recent answers at once, a lone short prompt in place, the rest in a thread.

Measured (`python -m bench --only smart mixed`): handing a prompt to a thread costs tens of microseconds on an idle
machine and milliseconds on a busy one, so a request that is alone is classified in place; as soon as there are others,
nothing may hold up their streams. One thread a process: the loop needs the other core, and so do the other workers.
Prompts are not batched: dynamic quantisation takes its scale from the whole batch, so a prompt's tier would depend on
its neighbours', and at these lengths a batch is no faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from router import metrics
from router.classifier import Classification, Classifier
from router.prompt import bare_text_to_classify

T = TypeVar("T")
# Texts of one `/classify` batch that are classified before others get their turn.
_BATCH = 8
# A lone prompt of up to so many characters takes two or three milliseconds: not worth a change of threads.
_IN_PLACE_CHARS = 300


class ClassifierService:
    """Owns the classifying thread. A caller that is cancelled while it waits for the thread costs nothing."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="classify")

    async def classify(self, text: str, bias: float | None = None, *, alone: bool = False) -> Classification:
        """One text. `alone`: no other request would wait. Anything that the classifier raises comes out here."""
        recent = self.classifier.recall(text, bias)
        metrics.observe_embedding_cache(recent is not None)
        if recent is not None:
            return recent
        if alone and len(text) <= _IN_PLACE_CHARS:
            return self.classifier.classify(text, bias)
        return await self._run(lambda: self.classifier.classify(text, bias))

    async def classify_many(self, texts: Sequence[str], bias: float | None = None) -> list[Classification]:
        """Texts as they were sent, in order, in slices, so that a large batch does not hold up routed requests."""
        results: list[Classification] = []
        for start in range(0, len(texts), _BATCH):
            part = texts[start : start + _BATCH]
            results += await self._run(lambda part=part: self._classify(part, bias))  # type: ignore[misc]
        return results

    def _classify(self, texts: Sequence[str], bias: float | None) -> list[Classification]:
        """In the thread, the reading too: there may be megabytes, and streams are waiting for the loop."""
        return self.classifier.classify_batch([bare_text_to_classify(text) for text in texts], bias)

    def reconfigure(self, confidence_threshold: float, bias: float) -> None:
        """New limits for the classifications that follow."""
        self.classifier.reconfigure(confidence_threshold, bias)

    async def reload_if_changed(self) -> bool:
        """Looks for a newly published head or encoder; the look itself costs one `stat`."""
        return await asyncio.to_thread(self.classifier.reload_if_changed)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
