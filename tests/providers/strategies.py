"""Hypothesis strategies for chats: valid ones as clients send them, and fuzzed ones as nobody should."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import strategies as st

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
spoken = words.filter(lambda text: text.strip())
names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_-]{0,12}", fullmatch=True)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | words
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=5
)
arguments = st.dictionaries(words, values, max_size=3)

text_parts = st.lists(st.builds(lambda text: {"type": "text", "text": text}, words), min_size=1, max_size=3)
_IMAGES = [
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4AA="}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
    {"type": "file", "file": {"file_data": "data:text/plain;base64,SGVsbG8=", "filename": "a.txt"}},
]
user_content = words | st.lists(
    st.sampled_from(_IMAGES) | text_parts.map(lambda parts: parts[0]), min_size=1, max_size=3
)


@st.composite
def turn(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One exchange: perhaps an instruction, a user message, then an answer or a whole tool loop."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": draw(st.sampled_from(["system", "developer"])), "content": draw(words | text_parts)})
    messages.append({"role": "user", "content": draw(user_content)})
    for _ in range(draw(st.integers(0, 2))):
        calls = [
            {"id": draw(st.from_regex(r"[a-zA-Z0-9_.:-]{1,8}", fullmatch=True)), "type": "function",
             "function": {"name": draw(names), "arguments": orjson.dumps(draw(arguments)).decode()}}
            for _ in range(draw(st.integers(1, 3)))
        ]  # fmt: skip
        if len({call["id"] for call in calls}) < len(calls):
            continue
        messages.append({"role": "assistant", "content": draw(st.none() | words), "tool_calls": calls})
        results = draw(st.permutations(calls))
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": draw(words | text_parts)} for call in results
        ]
    if messages[-1]["role"] == "tool" or draw(st.booleans()):
        messages.append({"role": "assistant", "content": draw(words | text_parts)})
    return messages


conversations = st.lists(turn(), min_size=1, max_size=3).map(
    lambda turns: [message for one in turns for message in one]
)

_TOOLS = [
    {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "go", "strict": True, "parameters": {
        "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "wait", "strict": True, "parameters": {
        "type": "object", "properties": {"s": {"type": "number", "minimum": 0}}}}},
]  # fmt: skip
_SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}, "b": {"oneOf": [{"type": "null"}]}}},
    {"type": "object", "additionalProperties": {"type": "string"}},
    {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
]
_FORMATS = [{"type": "json_schema", "json_schema": {"name": "s", "schema": schema}} for schema in _SCHEMAS]

parameters = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.sampled_from([1, 1500, 5000, 70_000, 1_000_000]),
        "max_completion_tokens": st.sampled_from([2, 20_000]),
        "temperature": st.sampled_from([0, 0.3, 1, 1.7]),
        "top_p": st.sampled_from([0.1, 0.97, 1]),
        "top_k": st.just(5),
        "stop": st.sampled_from([None, "x", ["a", "\n"], [" "]]),
        "tools": st.lists(st.sampled_from(_TOOLS), unique_by=lambda tool: tool["function"]["name"]),
        "tool_choice": st.sampled_from(["auto", "none", "required"]),
        "parallel_tool_calls": st.booleans(),
        "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}, *_FORMATS]),
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
        "n": st.sampled_from([1, 3]),
        "user": st.sampled_from(["u", "u" * 300]),
        "service_tier": st.sampled_from(["auto", "default", "flex"]),
        "seed": st.just(1),
    },
)

_KEYS = """
type text content role function name id url image_url file file_data tool_calls arguments thinking_blocks signature
cache_control schema json_schema properties $ref items usage index delta message content_block
"""
junk = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS.split()) | words, inner, max_size=5)
    ),
    max_leaves=15,
)


def _any_of(fields: str) -> dict[str, st.SearchStrategy[Any]]:
    return dict.fromkeys(fields.split(), junk)


roles = st.sampled_from(["user", "assistant", "tool", "system", "developer", "function", "robot"])
_KINDS = st.sampled_from(
    ["text", "image_url", "file", "input_audio", "refusal", "thinking", "image", "tool_use", None, 3]
)
_parts = st.fixed_dictionaries({"type": _KINDS}, optional=_any_of("text image_url file refusal signature source data"))
_fields = _any_of(
    "name tool_calls tool_call_id function_call thinking_blocks cache_control refusal reasoning_details is_error"
)
_content = st.none() | words | st.lists(_parts, max_size=3)
fuzzed_messages = st.lists(
    st.fixed_dictionaries({"role": roles}, optional={"content": _content, **_fields}), min_size=1, max_size=4
)
_parameters = _any_of(
    "max_tokens max_completion_tokens temperature top_p stop tools tool_choice functions function_call thinking "
    "response_format reasoning_effort user metadata service_tier n output_config stream_options parallel_tool_calls"
)
fuzzed_bodies = st.fixed_dictionaries({"messages": fuzzed_messages}, optional=_parameters)
