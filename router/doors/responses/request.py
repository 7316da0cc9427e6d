"""Responses request → hub. API: https://platform.openai.com/docs/api-reference/responses/create"""

from __future__ import annotations

from typing import Any

from router.chat import parse_object
from router.doors import checks
from router.doors.responses.items import messages_of
from router.doors.responses.tools import add_tools
from router.doors.translated import TranslatedChat

Json = dict[str, Any]

# What needs a memory that this router does not have, and what to do instead.
_STATEFUL = {
    "previous_response_id": "This router keeps no responses; send the whole conversation in 'input' instead of"
    " 'previous_response_id'.",
    "conversation": "This router keeps no conversations; send the whole conversation in 'input' instead.",
    "prompt": "This router keeps no prompt templates; send the text itself in 'instructions' and 'input'.",
}
# Parameters that chat completions have under the same name.
_AS_THEY_ARE = (
    "temperature", "top_p", "user", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
)  # fmt: skip
# `metadata`: OpenAI takes it only with `store`; it is repeated in the answer, as the API does. `store`: nothing is
# stored, and the answer says so. `truncation`: "disabled" is what happens anyway.
_ANSWERED = frozenset({"metadata", "store", "include", "truncation", "stream_options"})
_TRANSLATED = frozenset(
    {
        "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning",
        "max_output_tokens", "stream", "top_logprobs", "background", *_STATEFUL, *_AS_THEY_ARE, *_ANSWERED,
    }
)  # fmt: skip
_LOGPROBS = "message.output_text.logprobs"


def parse(raw: bytes) -> TranslatedChat:
    """Raises `BadRequest`."""
    body = parse_object(raw)
    for name, message in _STATEFUL.items():
        if body.get(name) is not None:
            checks.refuse(message, name, "unsupported_parameter")
    if checks.optional_flag(body, "background"):
        checks.refuse(
            "Background responses are not supported: this router stores nothing.", "background", "unsupported_parameter"
        )
    lost = [name for name in body if name not in _TRANSLATED and body[name] is not None]
    if body.get("truncation") == "auto":
        lost.append("truncation")
    instructions = checks.optional_text(body, "instructions")
    hub: Json = {"model": body.get("model"), "messages": messages_of(body.get("input"), instructions)}
    for name in _AS_THEY_ARE:
        if body.get(name) is not None:
            hub[name] = body[name]
    if body.get("max_output_tokens") is not None:
        hub["max_tokens"] = body["max_output_tokens"]
    checks.optional_object(body, "metadata")
    add_tools(body, hub)
    _add_text(body, hub)
    _add_logprobs(body, hub)
    reasoning = checks.optional_object(body, "reasoning") or {}
    if effort := checks.optional_text(reasoning, "effort", "reasoning"):
        hub["reasoning_effort"] = effort
    if checks.optional_flag(body, "stream"):
        hub["stream"] = True
        hub["stream_options"] = {"include_usage": True}
    return TranslatedChat(hub, body, tuple(lost))


def _add_text(body: Json, hub: Json) -> None:
    """`text.format` → `response_format`; `text.verbosity` → `verbosity`."""
    text = checks.optional_object(body, "text") or {}
    if verbosity := checks.optional_text(text, "verbosity", "text"):
        hub["verbosity"] = verbosity
    given = checks.optional_object(text, "format", "text")
    if given is None:
        return
    kind = checks.text(given, "type", "text.format")
    if kind == "json_object":
        hub["response_format"] = {"type": "json_object"}
    elif kind == "json_schema":
        checks.text(given, "name", "text.format")
        if checks.optional_object(given, "schema", "text.format") is None:
            checks.missing("text.format.schema")
        keys = ("name", "schema", "strict", "description")
        schema = {key: given[key] for key in keys if given.get(key) is not None}
        hub["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind != "text":
        checks.refuse(
            "'text.format.type' must be text, json_object or json_schema.", "text.format.type", "invalid_value"
        )


def _add_logprobs(body: Json, hub: Json) -> None:
    include = body.get("include")
    if include is not None and not isinstance(include, list):
        checks.wrong_type("include", "an array")
    if body.get("top_logprobs") or _LOGPROBS in (include or ()):
        hub["logprobs"] = True
        if body.get("top_logprobs") is not None:
            hub["top_logprobs"] = body["top_logprobs"]
