"""`POST /v1/embeddings`: a tier's provider, or all-MiniLM-L6-v2 from the local artefacts.

Local vectors come from an unmodified MiniLM only: the artefacts' `embedder`, or the routing encoder where that was
exported without fine-tuning. It is loaded with the first request that asks for it.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from aiohttp import web

from router.access import request_id
from router.artifacts import ArtifactError, Manifest, read_manifest
from router.doors import embeddings
from router.encoder import Encoder
from router.errors import NotConfigured, NotFound, RouterError
from router.http import error_response, json_response, read_body
from router.metrics import Record
from router.providers import dialect_for
from router.service import SERVICE, Service

# What the original model reads of a text (its `max_seq_length`); longer ones are cut at the end, as everywhere else.
TOKEN_LIMIT = 256
# Texts that are embedded before routed requests get the processor again.
_SLICE = 8


class LocalEmbedder:
    """all-MiniLM-L6-v2, loaded once, when it is first asked for."""

    def __init__(self) -> None:
        self._encoder: Encoder | None = None
        self._lock = asyncio.Lock()

    async def embed(self, request: embeddings.EmbeddingsRequest, service: Service) -> bytes:
        """The answer's JSON. Raises `NotFound` where the artefacts hold no unmodified MiniLM."""
        async with self._lock:
            if self._encoder is None:
                self._encoder = await asyncio.to_thread(_load, service)
        encoder = self._encoder
        texts = request.texts(encoder.dimension)
        ids = await asyncio.to_thread(lambda: [encoder.leading_ids(text, TOKEN_LIMIT) for text in texts])
        rows = []
        for start in range(0, len(ids), _SLICE):
            part = ids[start : start + _SLICE]
            rows += await asyncio.to_thread(lambda part=part: [encoder.run(one) for one in part])  # type: ignore[misc]
        import numpy as np

        return embeddings.response(embeddings.LOCAL_MODEL, np.stack(rows), [len(one) for one in ids], request.format)


EMBEDDER: web.AppKey[LocalEmbedder] = web.AppKey("embedder", LocalEmbedder)


async def create(request: web.Request) -> web.StreamResponse:
    """The endpoint."""
    service = request.app[SERVICE]
    service.take_permit()
    try:
        wanted = embeddings.parse(await read_body(request))
        if wanted.model == embeddings.LOCAL_MODEL:
            return json_response(await request.app[EMBEDDER].embed(wanted, service))
        return await _forward(wanted, request, service)
    except RouterError as error:
        return error_response(error, body=embeddings.error_body(error))
    finally:
        service.release_permit()


async def _forward(wanted: embeddings.EmbeddingsRequest, request: web.Request, service: Service) -> web.StreamResponse:
    """To the provider of the tier that the client named."""
    settings = service.settings
    choices = ", ".join((embeddings.LOCAL_MODEL, *settings.tiers))
    if wanted.model not in settings.tiers:
        raise NotFound(
            f"The model '{wanted.model[:100]}' does not exist here. Embedding models: {choices}.",
            param="model",
            code="model_not_found",
        )
    serving = settings.serving.get(wanted.model)
    if serving is None:
        raise NotConfigured("No tier is configured.")
    target = settings.targets[serving]
    if dialect_for(target.vendor.dialect).embedded:
        raise NotFound(f"Tier '{serving}' is served by the embedded echo, which makes no embeddings.", param="model")
    record = Record(request_id=request_id(request.headers), endpoint=request.path, received=perf_counter())
    body = await service.dispatcher.forward(target, "/embeddings", wanted.forwarded(target.model), settings, record)
    return json_response(body, headers={"x-virtusoul-tier": target.tier, "x-virtusoul-routed-to": target.route})


def _load(service: Service) -> Encoder:
    try:
        manifest = read_manifest(service.models_dir)
        role = _role(manifest)
        # The routing encoder's tokenizer may know more words than the original model has vectors for.
        spelling = "embedder_tokenizer" if role == "embedder" and manifest.has("embedder_tokenizer") else "tokenizer"
        return Encoder.load(manifest.verified(role), manifest.verified(spelling), TOKEN_LIMIT)
    except ArtifactError as error:
        raise NotFound(str(error), param="model", code="model_not_found") from None


def _role(manifest: Manifest) -> str:
    if manifest.has("embedder"):
        return "embedder"
    if "finetuned" not in manifest.section("encoder"):
        return "encoder"
    raise NotFound(
        f"{embeddings.LOCAL_MODEL} is not among the local artefacts: the encoder there is fine-tuned for "
        "routing, and its vectors are not MiniLM's. `python -m export --embedder` adds the original.",
        param="model",
        code="model_not_found",
    )
