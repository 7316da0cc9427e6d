"""Embeddings: the request's checks and the answer's numbers."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from router.doors import embeddings
from router.errors import BadRequest
from tests.doors.wire import ANY_JSON, META

Json = dict[str, Any]


def parse(given: Any = "Hi", **fields: Any) -> embeddings.EmbeddingsRequest:
    return embeddings.parse(orjson.dumps({"model": "all-MiniLM-L6-v2", "input": given, **fields}))


def test_one_text_and_many() -> None:
    assert parse("Hi").texts() == ["Hi"]
    assert parse(["a", "b"], dimensions=384, encoding_format="float").texts() == ["a", "b"]
    assert parse("x", encoding_format="base64").format == "base64"
    assert len(parse(["x"] * 2048).texts()) == 2048


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"given": None}, "input"),
        ({"given": ""}, "input"),
        ({"given": []}, "input"),
        ({"given": 7}, "input"),
        ({"given": ["a", ""]}, "input[1]"),
        ({"given": ["a", 7]}, "input[1]"),
        ({"given": [None]}, "input[0]"),
        ({"given": [1, 2, 3]}, "input"),
        ({"given": [[1, 2], [3]]}, "input"),
        ({"given": ["x"] * 2049}, "input"),
        ({"dimensions": 256}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"encoding_format": 1}, "encoding_format"),
        ({"model": None}, "model"),
    ],
)
def test_faults(fields: Json, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(**fields).texts()
    assert caught.value.param == param


def test_a_forwarded_request_keeps_what_only_the_provider_understands() -> None:
    request = parse([1, 2, 3], dimensions=256, vendor_field=True)
    assert orjson.loads(request.forwarded("text-embedding-3-small")) == {
        "model": "text-embedding-3-small", "input": [1, 2, 3], "dimensions": 256, "vendor_field": True,
    }  # fmt: skip


def test_floats_and_base64_are_the_same_numbers() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 384)).astype(np.float32)
    plain = orjson.loads(embeddings.response("m", vectors, [2, 3, 4], "float", META))
    CreateEmbeddingResponse.model_validate(plain)
    assert plain["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert [entry["index"] for entry in plain["data"]] == [0, 1, 2]
    assert plain["_virtusoul"] == META
    packed = orjson.loads(embeddings.response("m", vectors, [2, 3, 4], "base64"))
    assert "_virtusoul" not in packed
    for row, as_floats, as_text in zip(vectors, plain["data"], packed["data"], strict=True):
        assert np.array_equal(np.asarray(as_floats["embedding"], dtype=np.float32), row)
        assert np.array_equal(np.frombuffer(base64.b64decode(as_text["embedding"]), dtype="<f4"), row)


def test_a_matrix_in_any_layout() -> None:
    vectors = np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3))
    body = orjson.loads(embeddings.response("m", vectors.astype(np.float32), [1, 1], "float"))
    assert [entry["embedding"] for entry in body["data"]] == [[0, 1, 2], [3, 4, 5]]


@given(ANY_JSON | st.lists(ANY_JSON), st.dictionaries(st.sampled_from(["dimensions", "encoding_format"]), ANY_JSON))
@settings(deadline=None)
def test_any_json_is_texts_or_a_bad_request(given_input: Any, fields: Json) -> None:
    try:
        texts = parse(given_input, **fields).texts()
    except BadRequest as error:
        assert error.message
    else:
        assert all(isinstance(text, str) and text for text in texts)
