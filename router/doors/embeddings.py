"""`POST /v1/embeddings`: the request and the answer. API: https://platform.openai.com/docs/api-reference/embeddings

A tier's name is forwarded to the tier's provider as it came (`forwarded`). The local encoder serves text only
(`texts`), and answers with `response`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from router.chat import encode, parse_object
from router.doors import checks

MAX_INPUTS = 2048  # the API's own limit
LOCAL_MODEL = "all-MiniLM-L6-v2"
LOCAL_DIMENSIONS = 384

Format = Literal["float", "base64"]


class EmbeddingsRequest(NamedTuple):
    """`body`: the client's JSON. `format`: how it wants the numbers."""

    model: str
    body: dict[str, Any]
    format: Format

    def texts(self, dimensions: int = LOCAL_DIMENSIONS) -> list[str]:
        """The texts to embed locally, by an encoder of `dimensions`. Raises `BadRequest` for what it cannot do."""
        wanted = self.body.get("dimensions")
        if wanted is not None and wanted != dimensions:
            checks.refuse(f"This model has {dimensions} dimensions and no others.", "dimensions", "invalid_value")
        given = self.body["input"]
        texts = [given] if isinstance(given, str) else given
        if isinstance(texts[0], int | list):
            checks.refuse(
                "Arrays of tokens are not supported: they belong to another model's tokenizer. Send text.",
                "input",
                "unsupported_value",
            )
        for index, text in enumerate(texts):
            where = "input" if isinstance(given, str) else f"input[{index}]"
            if not isinstance(text, str):
                checks.wrong_type(where, "a string")
            if not text:
                checks.refuse(f"'{where}' must not be empty.", where, "invalid_value")
        return texts

    def forwarded(self, model: str) -> bytes:
        """The request for the provider of a tier, whose model is `model`; everything else as the client sent it."""
        return encode({**self.body, "model": model})


def parse(raw: bytes) -> EmbeddingsRequest:
    """Checks what holds for every model. Raises `BadRequest`."""
    body = parse_object(raw)
    model = checks.text(body, "model")
    given = body.get("input")
    if given is None:
        checks.missing("input")
    if not isinstance(given, str | list):
        checks.wrong_type("input", "a string or an array")
    if not given:
        checks.refuse("'input' must not be empty.", "input", "invalid_value")
    # An array of numbers is one text; the limit is on texts.
    if isinstance(given, list) and len(given) > MAX_INPUTS and not isinstance(given[0], int):
        checks.refuse(f"'input' must hold at most {MAX_INPUTS} texts.", "input", "array_above_max_length")
    form = checks.optional_text(body, "encoding_format") or "float"
    if form == "float":
        return EmbeddingsRequest(model, body, "float")
    if form == "base64":
        return EmbeddingsRequest(model, body, "base64")
    checks.refuse("'encoding_format' must be float or base64.", "encoding_format", "invalid_value")


def response(
    model: str,
    vectors: npt.NDArray[np.float32],
    tokens: Sequence[int],
    form: Format,
    meta: Mapping[str, Any] | None = None,
) -> bytes:
    """`vectors` (n, d), one row a text, and the tokens of each text → the answer's JSON."""
    matrix = np.ascontiguousarray(vectors, dtype="<f4")  # little-endian, as the API's base64 is
    rows: list[Any]
    if form == "base64":
        rows = [base64.b64encode(row.tobytes()).decode() for row in matrix]
    else:
        rows = list(matrix)
    total = int(sum(tokens))
    body: dict[str, Any] = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": model,
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }
    if meta is not None:
        body["_virtusoul"] = meta
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
