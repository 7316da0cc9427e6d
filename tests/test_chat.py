"""The view of the client's JSON: only `model` changes, and only where it stands."""

from __future__ import annotations

import gc
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.chat import Chat, parse_object
from router.errors import BadRequest

MESSAGES = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"simple","messages":[{"role":"user","content":"x"}]}',
        b'{"messages":[{"role":"user","content":"\\"model\\": \\"simple\\""}], "model" :\n"simple"}',
        b'{"metadata":{"model":"simple"},"model":"simple","messages":[{"role":"user","content":"x"}]}',
        b'{"metadata":{"model":"simple"},"messages":[{"role":"user","content":"x"}],"m\\u006fdel":"simple"}',
        b'{"a":["model"],"model":"si\\u006dple","messages":[{"role":"user","content":"x"}]}',
    ],
)
def test_only_the_model_changes(raw: bytes) -> None:
    chat = Chat.parse(raw)
    assert chat.model == "simple"
    changed = json.loads(chat.with_model('new"model'))
    assert changed == {**json.loads(raw), "model": 'new"model'}


def test_bytes_around_the_model_stay() -> None:
    raw = b'{ "model": "simple" , "big": 123456789012345678901234567890, "f": 1.10, "messages":[{"role":"user"}] }'
    assert Chat.parse(raw).with_model("m") == raw.replace(b'"simple"', b'"m"')


def test_two_models_become_one() -> None:
    raw = b'{"model":"gpt-expensive","messages":[{"role":"user","content":"x"}],"model":"simple"}'
    out = Chat.parse(raw).with_model("m")
    assert out.count(b'"model"') == 1 and b"expensive" not in out


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.just("model"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("model"), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), values, max_size=4), st.text(min_size=1), st.booleans())
def test_any_document_keeps_everything_else(extra: dict[str, Any], model: str, ascii_only: bool) -> None:
    document = {**extra, "messages": MESSAGES, "model": "simple", "stream": False}
    raw = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "replace")
    try:
        chat = Chat.parse(raw)
    except BadRequest:
        return  # lone surrogates
    assert orjson.loads(chat.with_model(model)) == {**orjson.loads(raw), "model": model}


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_request(raw: bytes) -> None:
    try:
        Chat.parse(raw)
    except BadRequest as error:
        assert error.status == 400


@pytest.mark.parametrize("raw", [b"1", b"[]", b'"x"', b"null", b"{", b"\xff", b'{"a":NaN}'])
def test_not_an_object(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_object(raw)


def test_needs() -> None:
    def needs(**fields: Any) -> frozenset[str]:
        return Chat.parse(orjson.dumps({"model": "m", "messages": MESSAGES, **fields})).needs

    assert needs() == frozenset()
    assert needs(tools=[]) == frozenset()
    assert needs(tools=[{"type": "function"}]) == {"tools"}
    assert needs(response_format={"type": "json_schema"}) == {"json"}
    assert needs(response_format={"type": "text"}) == frozenset()
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]
    assert needs(messages=image) == {"vision"}


def test_a_body_of_brackets_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(BadRequest, match="arrays and objects"):
        parse_object(b'{"a": [' + b"[]," * 1_000_000 + b"[]]}")
    assert len(parse_object(b'{"a": [' + b"[]," * 400_000 + b"[]]}")["a"]) == 400_001
    with pytest.raises(BadRequest):
        parse_object(b'{"a": ' + b" " * 2_000_000)
    assert gc.isenabled()
