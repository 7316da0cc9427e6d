"""Every provider file keeps the contract of `router.providers.dialect`, by its golden cases."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import orjson
import pytest

import router.providers
from router.errors import UpstreamError
from router.providers.dialect import Dialect
from tests.providers.golden import REQUIRED, Golden
from tests.providers.kit import chat, merged, read, target

PROVIDERS = sorted(
    module.name
    for module in iter_modules(router.providers.__path__)
    if hasattr(import_module(f"router.providers.{module.name}"), "DIALECT")
)


def _cases(provider: str) -> dict[str, Golden]:
    try:
        cases: dict[str, Golden] = import_module(f"tests.providers.golden.{provider}").CASES
    except ModuleNotFoundError:
        pytest.fail(f"router/providers/{provider} has no golden cases: write tests/providers/golden/{provider}.py")
    return cases


def _dialect(provider: str) -> Dialect:
    dialect: Dialect = import_module(f"router.providers.{provider}").DIALECT
    return dialect


def test_the_provider_files_are_found() -> None:
    assert {"anthropic", "echo", "openai"} <= set(PROVIDERS)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_file_has_its_golden_cases(provider: str) -> None:
    missing = REQUIRED - _cases(provider).keys()
    assert not missing, f"tests/providers/golden/{provider}.py lacks {sorted(missing)}"
    assert _dialect(provider).name == provider


@pytest.mark.parametrize("name", sorted(REQUIRED))
@pytest.mark.parametrize("provider", PROVIDERS)
def test_request(provider: str, name: str) -> None:
    case = _cases(provider)[name]
    asked = chat(**case.request)
    before = orjson.dumps(asked.body)
    outgoing = _dialect(provider).request(asked, target(case.model, case.vendor))
    wire = orjson.loads(outgoing.body)
    for field, value in case.wire.items():
        assert wire[field] == value
    assert orjson.dumps(asked.body) == before, "the client's document was changed"


@pytest.mark.parametrize("name", ["text", "tools", "image", "usage"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_whole_answer(provider: str, name: str) -> None:
    case = _cases(provider)[name]
    reply = _dialect(provider).response(case.reply, chat(**case.request), target(case.model, case.vendor))
    assert orjson.loads(reply.body) == reply.document
    choice = reply.document["choices"][0]
    found = {"tool_calls": [], **choice["message"], **choice, "usage": reply.document["usage"]}
    _expect(found, case.answer)
    assert reply.usage is not None
    counts = found["usage"]
    assert (reply.usage.prompt, reply.usage.completion) == (counts["prompt_tokens"], counts["completion_tokens"])
    assert counts["total_tokens"] == reply.usage.prompt + reply.usage.completion
    assert reply.usage.cached == counts["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize("name", ["text", "tools", "image", "usage"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_streamed_answer(provider: str, name: str, size: int | None) -> None:
    case = _cases(provider)[name]
    asked = chat(**case.request, stream=True)
    pieces, reader = read(_dialect(provider), asked, target(case.model, case.vendor), case.stream, size)
    assert reader.ended and reader.finished
    _expect(merged(pieces), case.answer)
    assert any(piece.content for piece in pieces)
    if "usage" in case.answer:
        assert reader.usage is not None


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_truncated_stream_is_never_taken_for_whole(provider: str, size: int | None) -> None:
    case = _cases(provider)["truncated"]
    whole = case.stream
    for length in (*range(0, len(whole), 1 if size else 13), len(whole)):
        asked = chat(**case.request, stream=True)
        pieces, reader = read(_dialect(provider), asked, target(case.model, case.vendor), whole[:length], size)
        assert not reader.ended and not reader.finished
    _expect(merged(pieces), case.answer)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_error_status(provider: str) -> None:
    case = _cases(provider)["error"]
    error = _dialect(provider).error(case.status, {}, case.body, target(case.model, case.vendor))
    _expect_error(error, case)
    assert error.upstream_status == case.status


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_error_inside_a_stream(provider: str, size: int | None) -> None:
    case = _cases(provider)["error"]
    with pytest.raises(UpstreamError) as raised:
        read(_dialect(provider), chat(stream=True), target(case.model, case.vendor), case.stream, size)
    _expect_error(raised.value, case)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[]", b'{"a": 1}', b'{"choices": "x"}'])
def test_what_is_not_the_dialect_is_a_clean_failure(provider: str, body: bytes) -> None:
    case = _cases(provider)["text"]
    with pytest.raises(UpstreamError) as raised:
        _dialect(provider).response(body, chat(), target(case.model, case.vendor))
    assert raised.value.status == 502
    error = _dialect(provider).error(502, {}, body, target(case.model, case.vendor))
    assert error.status == 502 and "<html" not in error.message


def _expect(found: dict[str, Any], answer: Any) -> None:
    assert {name: found.get(name) for name in answer} == dict(answer)


def _expect_error(error: UpstreamError, case: Golden) -> None:
    assert error.status == case.error["status"]
    assert case.error["message"] in error.message
    if error.status < 500:
        assert error.type == case.error["type"]
