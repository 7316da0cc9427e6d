"""What a hub answer says, read once for every door that retells it in another API's words.

A message and a stream's delta have the same members, so one reader serves both:
https://platform.openai.com/docs/api-reference/chat/object and …/chat/streaming. Beyond them: `reasoning_content`
(DeepSeek and many after it) or `reasoning` (OpenRouter, Groq, Ollama), and `thinking_blocks` (signed blocks, verbatim,
from our Anthropic provider), `reasoning_details` (OpenRouter; see `details`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from router.providers.dialect import Usage

Json = dict[str, Any]


class Call(NamedTuple):
    """A tool call, or a piece of one. `number` None: the server does not number its calls.

    `extra`: `extra_content`, which its provider wants back with the call (Gemini's signature).
    """

    number: int | None
    id: str
    name: str
    arguments: str
    extra: Json | None = None


class Said(NamedTuple):
    """The members of one message or delta; "" and () for what is not there."""

    text: str = ""
    reasoning: str = ""
    thinking_blocks: tuple[Json, ...] = ()
    refusal: str = ""
    calls: tuple[Call, ...] = ()
    details: tuple[Json, ...] = ()


class Counts(NamedTuple):
    """Tokens. `prompt` includes `cached` (read) and `written` (to the cache); `completion` includes `reasoning`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0


def choices_of(document: Mapping[str, Any]) -> list[Json]:
    choices = document.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def read(member: Any) -> Said:
    """`message` or `delta` → what it says. Never raises: providers send all kinds of things."""
    if not isinstance(member, dict):
        return Said()
    content = member.get("content")
    text, reasoning = _text(content), ""
    if isinstance(content, list):
        reasoning = "".join(_text(part.get("thinking")) for part in content if isinstance(part, dict))
    reasoning = _text(member.get("reasoning_content")) or _text(member.get("reasoning")) or reasoning
    blocks, details = member.get("thinking_blocks"), member.get("reasoning_details")
    calls = member.get("tool_calls")
    return Said(
        text,
        reasoning,
        tuple(block for block in blocks if isinstance(block, dict)) if isinstance(blocks, list) else (),
        _text(member.get("refusal")),
        tuple(_call(call) for call in calls if isinstance(call, dict)) if isinstance(calls, list) else (),
        tuple(entry for entry in details if _is_foreign(entry)) if isinstance(details, list) else (),
    )


def counts(usage: Any, fallback: Usage | None = None) -> Counts:
    """A hub `usage` object → counts; `fallback` where there is none."""
    if not isinstance(usage, dict):
        return Counts(*fallback) if fallback is not None else Counts()
    prompt, completion = _member(usage, "prompt_tokens_details"), _member(usage, "completion_tokens_details")
    return Counts(
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _count(prompt.get("cached_tokens")),
        _count(prompt.get("cache_write_tokens")) or _count(prompt.get("cache_creation_tokens")),
        _count(completion.get("reasoning_tokens")),
    )


def new_id(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex}"


def created_of(document: Mapping[str, Any]) -> int:
    """Unix seconds."""
    created = document.get("created")
    return created if isinstance(created, int) and created > 0 else int(time.time())


def model_of(document: Mapping[str, Any], asked: str) -> str:
    """The model that answered, as its provider names it."""
    model = document.get("model")
    return model if isinstance(model, str) and model else asked


def is_whole(arguments: str) -> bool:
    """Whether the pieces of a call's arguments make a JSON object already: nothing can follow them then."""
    try:
        return isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        return False


def _is_foreign(detail: Any) -> bool:
    """Whether this is state of another provider than Anthropic, whose thinking a conversation does well without."""
    return isinstance(detail, dict) and not str(detail.get("format", "")).startswith("anthropic")


def _call(call: Json) -> Call:
    function = _member(call, "function") or _member(call, "custom")
    index = call.get("index")
    arguments = function.get("arguments", function.get("input"))
    if isinstance(arguments, dict | list):  # Ollama and others send them parsed
        arguments = orjson.dumps(arguments).decode()
    number = index if isinstance(index, int) else None
    extra = _member(call, "extra_content") or None
    return Call(number, _text(call.get("id")), _text(function.get("name")), _text(arguments), extra)


def _text(value: Any) -> str:
    """A string, or the text parts of a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ""


def _member(holder: Mapping[str, Any], key: str) -> Json:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
