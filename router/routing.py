"""From a chat to a plan: the client's `model`, or the classifier, says which tier; the policy says which targets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import perf_counter

from router.chat import Chat
from router.classification import ClassifierService
from router.config import Settings
from router.errors import BadRequest
from router.estimate import estimate_tokens
from router.metrics import Record
from router.policy import Plan, plan
from router.prompt import text_to_classify
from router.providers.state import pinned_dialect

BIAS_HEADER = "x-virtusoul-bias"
# Serves while the classifier cannot: the tier that is least often wrong when nothing is known.
WITHOUT_CLASSIFIER = "medium"

log = logging.getLogger("router.routing")


def tier_named(model: str, settings: Settings) -> str | None:
    """The tier that `model` names; None for smart routing. Raises `BadRequest` (400, naming the choices)."""
    if model == settings.model_name:
        return None
    if model in settings.tiers:
        return model
    choices = ", ".join((settings.model_name, *settings.tiers))
    raise BadRequest(
        f"The model '{model[:100]}' does not exist. Available models: {choices}.",
        param="model",
        code="model_not_found",
    )


def bias_of(headers: Mapping[str, str]) -> float | None:
    """The client's `x-virtusoul-bias`, −1 … 1; None if it sent none. Raises `BadRequest`."""
    raw = headers.get(BIAS_HEADER)
    if raw is None:
        return None
    try:
        bias = float(raw)
    except ValueError:
        bias = float("nan")
    if not -1.0 <= bias <= 1.0:
        raise BadRequest(f"The header {BIAS_HEADER} must be a number from -1 to 1.", param=BIAS_HEADER)
    return bias


async def route(
    chat: Chat,
    headers: Mapping[str, str],
    settings: Settings,
    classifier: ClassifierService,
    record: Record,
    *,
    alone: bool = False,
) -> Plan:
    """The plan for one chat; fills the record's mechanism, confidence and classification time.

    `alone`: no other request is in flight.
    """
    named = tier_named(chat.model, settings)
    if named is not None:
        wanted, mechanism = named, "direct"
    else:
        wanted, mechanism = await _classified(chat, bias_of(headers), settings, classifier, record, alone)
    # The estimate reads the whole conversation: only where some tier has a window to hold it against.
    tokens = estimate_tokens(chat) if settings.has_windows else 0
    chosen = plan(settings, wanted, mechanism, needs=chat.needs, tokens=tokens, pinned_dialect=pinned_dialect(chat))
    record.mechanism = chosen.mechanism
    record.tier = chosen.targets[0].tier if chosen.targets else wanted
    return chosen


async def _classified(
    chat: Chat, bias: float | None, settings: Settings, classifier: ClassifierService, record: Record, alone: bool
) -> tuple[str, str]:
    began = perf_counter()
    try:
        found = await classifier.classify(text_to_classify(chat.messages), bias, alone=alone)
    except Exception:  # a classifier that fails must not cost anyone an answer
        log.exception("classification failed; the tier '%s' serves", WITHOUT_CLASSIFIER)
        return (WITHOUT_CLASSIFIER if WITHOUT_CLASSIFIER in settings.tiers else settings.tiers[0]), "unavailable"
    finally:
        record.classify_seconds = perf_counter() - began
    record.confidence = round(found.confidence, 4)
    record.flagged = found.flagged
    if found.flagged and settings.low_confidence_tier:
        return settings.low_confidence_tier, "low_confidence"
    return found.tier, "classified"
