"""Properties that hold for every chat: the strict fake's rules are the judge of what Anthropic would take."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import BadRequest, RouterError, UpstreamError
from router.providers import dialect_for
from router.sse import Event
from tests.fakes.anthropic import Answer, events_of
from tests.fakes.anthropic_rules import as_blocks, objection
from tests.providers.kit import KEY, chat, merged, read, target
from tests.providers.strategies import (
    arguments,
    conversations,
    fuzzed_bodies,
    junk,
    names,
    parameters,
    spoken,
    words,
)

MODELS = (
    "claude-3-5-haiku-20241022",
    "claude-3-7-sonnet-latest",
    "claude-opus-4-1-20250805",
    "claude-sonnet-4-5",
    "claude-opus-4-5",
    "claude-opus-4-6",
    "claude-sonnet-4-6",
    "claude-opus-4-8",
    "claude-sonnet-5",
    "claude-opus-5",
    "claude-haiku-5-5",
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-fable-5-1",
    "company-claude",
)
models = st.sampled_from(MODELS)
ANTHROPIC = dialect_for("anthropic")
HEADERS = ANTHROPIC.headers(target("any"))
slow = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _wire(model: str, body: dict[str, Any]) -> dict[str, Any]:
    asked = chat(**body)
    before = orjson.dumps(asked.body)
    wire: dict[str, Any] = orjson.loads(ANTHROPIC.request(asked, target(model)).body)
    assert orjson.dumps(asked.body) == before
    return wire


@slow
@given(models, conversations, parameters)
def test_every_valid_chat_becomes_a_request_that_the_api_takes(
    model: str, messages: list[dict[str, Any]], extra: dict[str, Any]
) -> None:
    wire = _wire(model, {**extra, "messages": messages})
    found = objection(HEADERS, wire, KEY)
    prefill = wire["messages"][-1]["role"] == "assistant"
    assert found is None or (prefill and "prefill" in found[2]), (found, wire)


@slow
@given(models, conversations)
def test_no_word_no_call_and_no_result_is_lost(model: str, messages: list[dict[str, Any]]) -> None:
    wire = _wire(model, {"messages": messages})
    blocks = [block for turn in wire["messages"] for block in as_blocks(turn["content"])]
    said = orjson.dumps([wire.get("system"), blocks]).decode()
    for message in messages:
        content = message.get("content")
        parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content or ()]
        for text in parts:
            if text.strip():
                assert orjson.dumps(text.rstrip()).decode()[1:-1] in said
    calls = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    uses = [block for block in blocks if block["type"] == "tool_use"]
    assert [(use["name"], use["input"]) for use in uses] == [(c["name"], orjson.loads(c["arguments"])) for c in calls]
    results = Counter(block["tool_use_id"] for block in blocks if block["type"] == "tool_result")
    assert results == Counter(use["id"] for use in uses)


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Content blocks of an answer, thinking first, as models give them."""
    blocks: list[dict[str, Any]] = []
    if draw(st.booleans()):
        blocks.append({"type": "thinking", "thinking": draw(words), "signature": "sig_" + draw(names)})
    if draw(st.booleans()):
        blocks.append({"type": "redacted_thinking", "data": "red_" + draw(names)})
    blocks += [{"type": "text", "text": text} for text in draw(st.lists(spoken, max_size=2))]
    for number in range(draw(st.integers(0, 3))):
        use = {"type": "tool_use", "id": f"toolu_{number}", "name": draw(names), "input": draw(arguments)}
        blocks.append(use)
    if draw(st.booleans()) and any(block["type"] == "tool_use" for block in blocks):
        blocks.insert(-1, {"type": "thinking", "thinking": draw(words), "signature": "sig_between"})
    return blocks


def _joined(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocks with neighbouring texts joined, which is all that a round trip may change."""
    found: list[dict[str, Any]] = []
    for block in blocks:
        if found and block["type"] == found[-1]["type"] == "text":
            found[-1] = {"type": "text", "text": found[-1]["text"] + block["text"]}
        else:
            found.append(block)
    return found


@slow
@given(answers(), st.booleans())
def test_an_answer_comes_back_in_the_next_turn_as_it_was(blocks: list[dict[str, Any]], streamed: bool) -> None:
    """Anthropic → OpenAI → Anthropic, whole and streamed: signed thinking stands where it stood, word for word."""
    asked, to = chat(stream=streamed), target("claude-sonnet-5")
    answer = Answer(blocks)
    if streamed:
        raw = _sse(events_of(answer, blocks, {"model": "m"}))
        pieces, reader = read(ANTHROPIC, asked, to, raw)
        assert reader.ended
        message = merged(pieces)
        message.setdefault("role", "assistant")
    else:
        body = {"id": "m", "content": blocks, "stop_reason": answer.stop_reason, "usage": {"input_tokens": 1}}
        message = ANTHROPIC.response(orjson.dumps(body), asked, to).document["choices"][0]["message"]
    if not any(block["type"] in ("text", "tool_use") for block in blocks):
        return
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "r"} for call in message.get("tool_calls") or ()]
    history = [{"role": "user", "content": "q"}, message, *results, {"role": "user", "content": "next"}]
    wire = _wire("claude-sonnet-5", {"messages": history})
    assert _joined(as_blocks(wire["messages"][1]["content"])) == _joined(blocks)


@slow
@given(answers(), st.data(), st.sampled_from(["json_object", "json_schema", "text"]))
def test_a_stream_cut_into_any_pieces_decodes_the_same(blocks: list[dict[str, Any]], data: Any, kind: str) -> None:
    raw = _sse(events_of(Answer(blocks), blocks, {"model": "m"}))
    wanted = {"type": kind, "json_schema": {"name": "go", "schema": {"type": "object"}}}
    asked = chat(stream=True, response_format=wanted, stream_options={"include_usage": True})
    to = target("claude-3-7-sonnet-latest")
    whole, _ = read(ANTHROPIC, asked, to, raw)
    cut, reader = read(ANTHROPIC, asked, to, raw, data.draw(st.integers(1, 40)))
    assert reader.ended and reader.finished
    assert merged(cut) == merged(whole)
    assert [piece.content for piece in cut] == [piece.content for piece in whole]


@slow
@given(answers())
def test_a_stream_says_what_the_whole_answer_says(blocks: list[dict[str, Any]]) -> None:
    asked, to = chat(stream=True, stream_options={"include_usage": True}), target("claude-opus-4-6")
    answer = Answer(blocks)
    streamed = merged(read(ANTHROPIC, asked, to, _sse(events_of(answer, blocks, {"model": "m"})))[0])
    body = {"id": "m", "content": blocks, "stop_reason": answer.stop_reason, "usage": answer.usage}
    document = ANTHROPIC.response(orjson.dumps(body), asked, to).document
    choice = document["choices"][0]
    message = choice["message"]
    assert streamed["content"] == (message["content"] or "")
    assert streamed["finish_reason"] == choice["finish_reason"]
    assert streamed["usage"] == document["usage"]
    for name in ("reasoning_content", "thinking_blocks"):
        assert streamed.get(name) == message.get(name)
    calls = message.get("tool_calls") or []
    assert [_parsed(call) for call in streamed["tool_calls"]] == [_parsed(call) for call in calls]


def _parsed(call: dict[str, Any]) -> tuple[str, str, Any]:
    return call["id"], call["function"]["name"], orjson.loads(call["function"]["arguments"])


def _sse(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), orjson.dumps(e)) for e in events)


@pytest.mark.parametrize("vendor", ["anthropic", "openai", "mistral", "google"])
@slow
@given(models | st.sampled_from(["gpt-5", "o3-mini", "gpt-4o"]), fuzzed_bodies)
def test_a_fuzzed_body_is_a_bad_request_at_worst(vendor: str, model: str, body: dict[str, Any]) -> None:
    try:
        asked = chat(**body)
        to = target(model, vendor)
        dialect = dialect_for(to.vendor.dialect)
        orjson.loads(dialect.request(asked, to).body)
        dialect.stream(asked, to)
    except BadRequest:
        pass


@slow
@given(junk)
def test_a_fuzzed_answer_is_an_upstream_error_at_worst(answer: Any) -> None:
    for dialect in (ANTHROPIC, dialect_for("openai")):
        for document in (answer, {"content": answer, "usage": answer}, {"content": [answer]}, {"choices": answer}):
            with suppress(UpstreamError):
                dialect.response(orjson.dumps(document), chat(), target("claude-sonnet-4-5"))
            assert isinstance(dialect.error(400, {}, orjson.dumps(document), target("m")), RouterError)


_EVENTS = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "error",
)


@slow
@given(st.lists(st.tuples(st.sampled_from(_EVENTS), st.dictionaries(words, junk) | junk), max_size=5), junk)
def test_fuzzed_events_are_an_upstream_error_at_worst(events: list[tuple[str, Any]], inner: Any) -> None:
    for dialect in (ANTHROPIC, dialect_for("openai")):
        reader = dialect.stream(chat(stream=True), target("claude-sonnet-4-5"))
        try:
            for kind, fields in events:
                rest = fields if isinstance(fields, dict) else {"delta": fields, "index": 0, "content_block": inner}
                for document in ({**rest, "type": kind}, {"choices": fields}, {"choices": [fields]}, fields):
                    reader.feed(Event(orjson.dumps(document), kind))
            reader.close()
        except UpstreamError:
            pass
