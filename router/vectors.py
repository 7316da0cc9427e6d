"""`POST /v1/embeddings`: a tier's provider, or all-MiniLM-L6-v2 from the local artefacts.

Local vectors come from an unmodified MiniLM only: the artefacts' `embedder`, or the routing encoder where that was
exported without fine-tuning. It is loaded with the first request that asks for it.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from aiohttp import web

from router.api import Exchange
from router.artifacts import ArtifactError, Manifest, read_manifest
from router.config import Settings
from router.doors import chat_completions, embeddings
from router.doors.answer import counts
from router.doors.door import spliced
from router.encoder import Encoder
from router.errors import BadRequest, NotConfigured, NotFound
from router.http import WholeResponse, json_response, read_body
from router.policy import plan
from router.providers import dialect_for
from router.providers.dialect import Outgoing, Usage
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


class _Embedding(Exchange):
    """A request for vectors: as a chat in all but the answer's making."""

    async def _serve(self) -> web.StreamResponse:
        wanted = embeddings.parse(await read_body(self.request, self.settings.max_body_bytes))
        self.record.received = perf_counter()
        self.record.mechanism = "direct"
        if wanted.model == embeddings.LOCAL_MODEL:
            self.record.provider, self.record.model = "local", wanted.model
            body = await self.request.app[EMBEDDER].embed(wanted, self.service)
            self.record.status = 200  # and no `answered`: the work is the answer, not an overhead
            return json_response(body, headers=self._headers())
        return await self._forward(wanted)

    async def _forward(self, wanted: embeddings.EmbeddingsRequest) -> web.StreamResponse:
        """To the provider of the tier that the client named.

        Never to its fallbacks: the vectors of two models do not compare, and a client that stores them would not
        notice until its searches find nothing.
        """
        _check_named(wanted.model, self.settings)
        self.plan = chosen = plan(self.settings, wanted.model, "direct")
        if not chosen.targets:
            raise NotConfigured("No tier is configured.")
        self.record.mechanism = chosen.mechanism
        target = chosen.targets[0]
        self.record.tier = target.tier
        if dialect_for(target.vendor.dialect).embedded:
            raise NotFound(
                f"Tier '{target.tier}' is served by the embedded echo, which makes no embeddings.", param="model"
            )
        outgoing = Outgoing("/embeddings", wanted.forwarded(target.model))
        answer = await self.service.dispatcher.forward(outgoing, chosen, self.settings, self.record, self.deadline)
        used = counts(answer.document.get("usage"))
        self._count(Usage(used.prompt, used.completion, used.cached))
        self._answered(200)
        return WholeResponse(spliced(answer.body, answer.document, self._meta()), self._headers())


async def create(request: web.Request) -> web.StreamResponse:
    """The endpoint."""
    # Of the door, only the shape of its errors is asked for.
    return await _Embedding(request, chat_completions.DOOR, request.app[SERVICE]).run()


def _check_named(model: str, settings: Settings) -> None:
    """Raises `NotFound` or, where a tier would have to be chosen by what the text says, `BadRequest`."""
    choices = ", ".join((embeddings.LOCAL_MODEL, *settings.tiers))
    if model == settings.model_name:
        raise BadRequest(
            f"'{model}' chooses a model for each text, and vectors of different models do not compare. "
            f"Name one: {choices}.",
            param="model",
            code="model_not_supported",
        )
    if model not in settings.tiers:
        raise NotFound(
            f"The model '{model[:100]}' does not exist here. Embedding models: {choices}.",
            param="model",
            code="model_not_found",
        )


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
