"""The estimate against published tokenizers: o200k (GPT-4o and later), cl100k, Claude 2's, DeepSeek V3's.

The counts in `token_counts.json` are in that order, made once with the tokenizers themselves.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import orjson
import pytest

from router.chat import Chat
from router.estimate import IMAGE, estimate_tokens, text_tokens

_ENTRIES = json.loads(Path(__file__).with_name("token_counts.json").read_text(encoding="utf-8"))
SAMPLES: dict[str, str] = {name: entry["text"] for name, entry in _ENTRIES.items()}
COUNTS: dict[str, list[int]] = {name: entry["counts"] for name, entry in _ENTRIES.items()}


def _chat(**body: object) -> Chat:
    return Chat.parse(orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **body}))


@pytest.mark.parametrize("name", SAMPLES)
def test_text_is_estimated_near_what_tokenizers_count(name: str) -> None:
    counts = COUNTS[name]
    estimate = text_tokens(SAMPLES[name])
    mean = sum(counts) / len(counts)
    assert 0.65 * mean <= estimate <= 1.4 * mean
    assert 0.8 * min(counts) <= estimate <= 2.1 * max(counts)


def test_the_estimate_leans_to_the_high_side() -> None:
    means = {name: sum(counts) / len(counts) for name, counts in COUNTS.items()}
    ratios = sorted(text_tokens(text) / means[name] for name, text in SAMPLES.items())
    assert 1.0 <= sum(ratios) / len(ratios) <= 1.2


def test_text_counts_however_it_is_held() -> None:
    plain = estimate_tokens(_chat(messages=[{"role": "user", "content": "word " * 400}]))
    parts = estimate_tokens(_chat(messages=[{"role": "user", "content": [{"type": "text", "text": "word " * 400}]}]))
    assert plain == parts and 400 <= plain <= 560


def test_images_tools_calls_and_schemas_count() -> None:
    bare = estimate_tokens(_chat())
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert estimate_tokens(_chat(messages=[{"role": "user", "content": [image]}])) - IMAGE < 20
    tool = {"type": "function", "function": {"name": "f", "description": "d " * 100, "parameters": {"type": "object"}}}
    assert estimate_tokens(_chat(tools=[tool])) > bare + 350
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "x " * 400}}
    assert estimate_tokens(_chat(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])) > bare + 150
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"description": "d " * 400}}}
    assert estimate_tokens(_chat(response_format=schema)) > bare + 150
    pdf = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 50_000}}
    assert 1_000 < estimate_tokens(_chat(messages=[{"role": "user", "content": [pdf]}])) < 4_000


@pytest.mark.parametrize("name", ["english", "chinese", "python"])
def test_megabytes_take_milliseconds_and_are_estimated_as_well(name: str) -> None:
    text = SAMPLES[name]
    times = 10_000_000 // len(text)
    chat = _chat(messages=[{"role": "user", "content": text * times}])
    began = time.perf_counter()
    estimate = estimate_tokens(chat)
    assert time.perf_counter() - began < 0.25
    assert estimate == pytest.approx(text_tokens(text) * times, rel=0.1)


def test_many_texts_are_bounded_together() -> None:
    messages = [{"role": "user", "content": SAMPLES["english"] * 30} for _ in range(1000)]
    chat = _chat(messages=messages)
    began = time.perf_counter()
    estimate = estimate_tokens(chat)
    assert time.perf_counter() - began < 0.5
    assert estimate == pytest.approx(text_tokens(SAMPLES["english"]) * 30_000, rel=0.1)


def test_it_never_raises() -> None:
    odd = [
        {"type": "file", "file": 3},
        {"type": "input_audio"},
        {"type": "what", "x": [1]},
        {"type": "text", "text": 4},
    ]
    assert estimate_tokens(_chat(messages=[{"role": "user", "content": odd}], tools="x", response_format=[])) > 0
