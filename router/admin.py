"""Everything beside routing: classify, retrain, feedback, models, health, readiness, metrics."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from router import __version__, feedback, metrics
from router.artifacts import ArtifactError
from router.chat import parse_object
from router.classifier import Classification
from router.config import Settings
from router.doors import messages
from router.errors import BadRequest, Conflict, NotFound, RouterError
from router.examples import Example
from router.http import error_response, json_response, read_body, refuse_other_sites
from router.prompt import bare_text_to_classify, text_to_classify
from router.routing import bias_of
from router.service import SERVICE, Service

log = logging.getLogger("router.admin")

MAX_TEXTS = 2048
_LOCK = ".retrain.lock"
_STARTED = int(time.time())


async def classify(request: web.Request) -> web.StreamResponse:
    """`POST /classify`: what the classifier thinks of a text, a chat, or many texts."""
    service = request.app[SERVICE]
    service.take_permit()
    try:
        body = parse_object(await read_body(request))
        bias = bias_of(request.headers)
        if "texts" in body:
            found = await service.classifier.classify_many(_checked_texts(body["texts"]), bias)
            return json_response({"results": [_classified(one) for one in found]})
        text = _text_of(body)
        began = time.perf_counter()
        one = await service.classifier.classify(text, bias)
        metrics.observe_classification(time.perf_counter() - began)
        return json_response(_classified(one))
    finally:
        service.release_permit()


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """`POST /v1/messages/count_tokens`: an estimate, in Anthropic's shape."""
    try:
        return json_response(messages.count_tokens(await read_body(request)))
    except RouterError as error:
        return error_response(error, body=messages.DOOR.error(error))


async def retrain(request: web.Request) -> web.StreamResponse:
    """`POST /retrain`: refits the head on built-in, stored and sent examples; one at a time."""
    service = request.app[SERVICE]
    refuse_other_sites(request)
    raw = await read_body(request) if request.can_read_body else b""
    examples = _checked_examples(parse_object(raw) if raw.strip() else {}, service.settings)
    if service.is_retraining:
        raise Conflict("A retraining is running already.", code="retrain_in_progress")
    # A client that gives up cannot stop the thread that fits: what belongs to the fit goes on with it.
    service.retraining = asyncio.create_task(_retrain(service, examples))
    service.retraining.add_done_callback(_seen)
    return json_response(await asyncio.shield(service.retraining))


def _seen(done: asyncio.Task[dict[str, Any]]) -> None:
    """`_retrain` has logged its failure; without its client nobody asks for it, and asyncio would log it again."""
    if not done.cancelled():
        done.exception()


async def _retrain(service: Service, examples: list[Example]) -> dict[str, Any]:
    """One retraining, from the lock to the metric; the answer's body. Logged, for there may be no client any more."""
    from router.training import RetrainRefused
    from router.training import retrain as fit  # numpy's linear algebra is not needed to serve

    store = service.settings.training_data
    try:
        with _alone(service.models_dir):
            report = await asyncio.to_thread(
                fit,
                service.classifier.classifier,
                extra=examples,
                training_data=store,
                models_dir=service.models_dir,
            )
            service.show_build()
            if store is not None and examples:  # only now: examples that were refused would spoil every later training
                await _keep(store, examples)
    except Conflict:
        raise
    except RetrainRefused as refused:
        log.warning("retraining: %s", refused)
        metrics.observe_retrain("refused")
        raise Conflict(str(refused), code="retrain_refused", details=refused.report.as_dict()) from None
    except (ArtifactError, OSError) as error:
        log.warning("retraining failed, the old weights stay: %s", error)
        metrics.observe_retrain("failed")
        raise RouterError(f"Retraining failed, the old weights stay: {error}", code="retrain_failed") from None
    except BaseException as error:
        log.warning("retraining failed: %r", error)
        metrics.observe_retrain("failed")
        raise
    log.info("retrained: head %s", report.head)
    metrics.observe_retrain("succeeded")
    return report.as_dict()


async def _keep(store: Path, examples: list[Example]) -> int:
    """Appends to TRAINING_DATA; how many were new. Raises `RouterError`."""
    try:
        return await asyncio.to_thread(feedback.append, store, examples)
    except OSError as error:
        raise RouterError(
            f"TRAINING_DATA cannot be written: {error.strerror}", code="training_data_unwritable"
        ) from None


@contextmanager
def _alone(models_dir: Path) -> Iterator[None]:
    """One retraining at a time over all workers, and all replicas that share the folder. Raises `Conflict`.

    From before the examples are read until they are kept: the file is one that no publishing replaces.
    """
    handle = os.open(models_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(PermissionError):
            os.fchmod(handle, 0o666)  # whatever the umask: a worker may run under another user
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict("A retraining is running already, in another worker.", code="retrain_in_progress") from None
    finally:
        os.close(handle)


async def give_feedback(request: web.Request) -> web.StreamResponse:
    """`POST /feedback`: keeps the right tier of a prompt for the next retraining."""
    service = request.app[SERVICE]
    store = service.settings.training_data
    if store is None:
        raise Conflict("TRAINING_DATA is not set, so there is nowhere to keep feedback.", code="no_training_data")
    body = parse_object(await read_body(request))
    text = _text_of(body)
    if not text.strip():
        raise BadRequest("There is no text to learn from.", param="text", code="empty_text")
    example = Example(text, _checked_tier(body.get("tier"), "tier", service.settings))
    added = await _keep(store, [example])
    return json_response({"success": True, "stored": bool(added), "duplicate": not added, "tier": example.tier})


async def models(request: web.Request) -> web.StreamResponse:
    """`GET /v1/models`."""
    settings = request.app[SERVICE].settings
    return json_response({"object": "list", "data": [_model(name) for name in (settings.model_name, *settings.tiers)]})


async def model(request: web.Request) -> web.StreamResponse:
    """`GET /v1/models/{id}`."""
    settings = request.app[SERVICE].settings
    name = request.match_info["id"]
    if name not in (settings.model_name, *settings.tiers):
        raise NotFound(f"The model '{name[:100]}' does not exist.", param="model", code="model_not_found")
    return json_response(_model(name))


async def health(request: web.Request) -> web.StreamResponse:
    """`GET /health`: alive. Says nothing that a stranger should not know."""
    service = request.app[SERVICE]
    return json_response(
        {
            "status": "ok",
            "version": __version__,
            "classifier_ready": service.probed,
            "configured_tiers": list(service.settings.targets),
        }
    )


async def ready(request: web.Request) -> web.StreamResponse:
    """`GET /ready`: 200 while requests should come here, else 503."""
    service = request.app[SERVICE]
    is_ready = await service.ready()
    status = "ready" if is_ready else "draining"
    return json_response({"status": status}, status=200 if is_ready else 503)


async def show_metrics(request: web.Request) -> web.StreamResponse:
    """`GET /metrics`: Prometheus text format, summed over workers."""
    request.app[SERVICE].show_in_flight()
    text = await asyncio.to_thread(metrics.exposition)
    return web.Response(body=text, headers={"content-type": metrics.CONTENT_TYPE})


async def index(request: web.Request) -> web.StreamResponse:
    """`GET /`."""
    settings = request.app[SERVICE].settings
    return json_response(
        {
            "name": "VirtuSoul Router",
            "version": __version__,
            "model": settings.model_name,
            "tiers": _tier_table(settings),
        }
    )


def _tier_table(settings: Settings) -> dict[str, Any]:
    routes = {tier: settings.targets[serving].route for tier, serving in settings.serving.items()}
    return {tier: {"routed_to": routes.get(tier), "configured": tier in settings.targets} for tier in settings.tiers}


def _classified(found: Classification) -> dict[str, Any]:
    return {
        "tier": found.tier,
        "confidence": found.confidence,
        "scores": found.scores,
        "reasoning": found.reasoning,
        "latency_ms": round(found.latency_ms, 3),
        "flagged": found.flagged,
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "virtusoul"}


def _text_of(body: dict[str, Any]) -> str:
    """The text to classify of `{"text": …}` or `{"messages": […]}`."""
    if "messages" in body:
        messages = body["messages"]
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise BadRequest("'messages' must be an array of objects.", param="messages", code="invalid_type")
        return text_to_classify(messages)
    if "text" not in body:
        raise BadRequest("Give 'text', 'texts' or 'messages'.", param="text", code="missing_required_parameter")
    if not isinstance(body["text"], str):
        raise BadRequest("'text' must be a string.", param="text", code="invalid_type")
    return bare_text_to_classify(body["text"])


def _checked_texts(texts: Any) -> Sequence[str]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequest("'texts' must be an array of strings.", param="texts", code="invalid_type")
    if len(texts) > MAX_TEXTS:
        raise BadRequest(f"'texts' may hold at most {MAX_TEXTS} strings.", param="texts", code="array_too_long")
    return texts


def _checked_examples(body: dict[str, Any], settings: Settings) -> list[Example]:
    rows = body.get("examples", [])
    if not isinstance(rows, list):
        raise BadRequest("'examples' must be an array.", param="examples", code="invalid_type")
    examples = []
    for index, row in enumerate(rows):
        where = f"examples[{index}]"
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
            raise BadRequest(f"'{where}.text' must be a non-empty string.", param=where, code="invalid_type")
        examples.append(Example(row["text"], _checked_tier(row.get("tier"), f"{where}.tier", settings)))
    return examples


def _checked_tier(tier: Any, where: str, settings: Settings) -> str:
    if tier not in settings.tiers:
        raise BadRequest(f"'{where}' must be one of {', '.join(settings.tiers)}.", param=where, code="unknown_tier")
    return str(tier)
