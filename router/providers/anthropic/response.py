"""Anthropic message → OpenAI chat completion, and Anthropic errors.

https://platform.claude.com/docs/en/api/messages/create (response), …/build-with-claude/handling-stop-reasons,
…/api/errors. Thinking comes back twice: `reasoning_content` is its text, for reading; `thinking_blocks` are the signed
blocks as the API gave them, for sending back on the assistant message in the next turn.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from router.chat import Chat
from router.config import Target
from router.errors import UpstreamError
from router.providers.anthropic.models import lookup
from router.providers.anthropic.structured import Output, output_of, unfenced
from router.providers.anthropic.tools import custom_names, is_legacy
from router.providers.anthropic.wrapped import unwrap
from router.providers.dialect import Reply, Usage, parse
from router.providers.failures import not_the_dialect, upstream_error

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

# The status an error event inside a stream would have had: https://platform.claude.com/docs/en/api/errors
STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def translate_response(body: bytes, chat: Chat, target: Target) -> Reply:
    """Raises `UpstreamError` where the body is no message."""
    try:
        document = parse(body)
    except orjson.JSONDecodeError:
        raise not_the_dialect(target, "an answer that is not JSON") from None
    if not isinstance(document, dict):
        raise not_the_dialect(target, "an answer that is not a JSON object")
    if document.get("type") == "error" or (document.get("error") and "content" not in document):
        raise failed(document.get("error"), target)
    content = document.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise not_the_dialect(target, "an answer without content")
    counts = read_usage(document.get("usage"))
    usage = to_usage(counts)
    if chat.native is not None and chat.native[0] == "anthropic":
        return Reply(body, document, usage, native=True)
    output = output_of(chat.body, lookup(target.model))
    legacy = is_legacy(chat.body)
    answer = _Answer(output, custom_names(chat.body))
    for block in content:
        answer.add(block)
    message = answer.message(document, legacy=legacy)
    if output.kind == "prompt" and message["content"]:
        message["content"] = unfenced(message["content"])
    stop = document.get("stop_reason")
    reason = finish_reason(stop, bound=answer.bound, called=bool(answer.calls), legacy=legacy)
    completion = {
        "id": str(document.get("id") or ""),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": str(document.get("model") or target.model),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": openai_usage(counts),
    }
    return Reply(orjson.dumps(completion), completion, usage)


class _Answer:
    """Collects the blocks of one message. `bound`: the answer came as the input of the tool that binds it."""

    def __init__(self, output: Output, custom: frozenset[str]) -> None:
        self.calls: list[dict[str, Any]] = []
        self.bound = False
        self._binding = output.name if output.kind == "tool" else ""
        self._wrapped = output.wrapped
        self._custom = custom
        self._texts: list[str] = []
        self._length = 0
        self._thoughts: list[str] = []
        self._thinking: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, block: dict[str, Any]) -> None:
        kind = block.get("type")
        if kind == "text":
            start = self._length
            self._say(str(block.get("text") or ""))
            self._annotations += url_citations(block.get("citations"), start, self._length)
        elif kind == "thinking":
            self._thoughts.append(str(block.get("thinking") or ""))
            self._thinking.append(placed(block, self._length, len(self.calls)))
        elif kind == "redacted_thinking":
            self._thinking.append(placed(block, self._length, len(self.calls)))
        elif kind == "tool_use" and self._binding and block.get("name") == self._binding:
            if self.bound:
                return  # called again: two answers in a row would be no JSON at all
            self.bound = True
            given = block.get("input") or {}
            self._say(dumps(unwrap(given) if self._wrapped else given))
        elif kind == "tool_use":
            self.calls.append(tool_call(block, self._custom))

    def message(self, document: Mapping[str, Any], *, legacy: bool) -> dict[str, Any]:
        text = "".join(self._texts)
        details = document.get("stop_details")
        explanation = details.get("explanation") if isinstance(details, dict) else None
        refused = document.get("stop_reason") == "refusal" and isinstance(explanation, str)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text or (None if self.calls else ""),
            "refusal": explanation if refused else None,
        }
        if self._annotations:
            message["annotations"] = self._annotations
        if any(self._thoughts):
            message["reasoning_content"] = "\n\n".join(thought for thought in self._thoughts if thought)
        if self._thinking:
            message["thinking_blocks"] = self._thinking
        if self.calls and legacy:
            message["function_call"] = self.calls[0]["function"]  # it holds one, and no more was asked for
        elif self.calls:
            message["tool_calls"] = self.calls
        return message

    def _say(self, text: str) -> None:
        self._texts.append(text)
        self._length += len(text)


def url_citations(citations: Any, start: int, end: int) -> list[dict[str, Any]]:
    """What a text block cites of the web, as OpenAI's annotations of the characters from `start` to `end`.

    Citations of a document have no form there: https://platform.claude.com/docs/en/build-with-claude/citations.
    """
    found = []
    for citation in citations if isinstance(citations, list) else ():
        if isinstance(citation, dict) and isinstance(url := citation.get("url"), str):
            told = {"url": url, "title": str(citation.get("title") or ""), "start_index": start, "end_index": end}
            found.append({"type": "url_citation", "url_citation": told})
    return found


def placed(block: Mapping[str, Any], chars: int, calls: int) -> dict[str, Any]:
    """A signed block with its place, `at` = [characters of text, calls] before it, where it is not the beginning."""
    return {**block, "at": [chars, calls]} if chars or calls else dict(block)


def tool_call(block: Mapping[str, Any], custom: frozenset[str]) -> dict[str, Any]:
    name = str(block.get("name") or "")
    given = block.get("input")
    arguments = given if isinstance(given, dict) else {}
    call: dict[str, Any] = {"id": str(block.get("id") or "")}
    if name in custom:
        return {**call, "type": "custom", "custom": {"name": name, "input": str(arguments.get("input", ""))}}
    return {**call, "type": "function", "function": {"name": name, "arguments": dumps(arguments)}}


def finish_reason(stop_reason: Any, *, bound: bool, called: bool, legacy: bool) -> str:
    """OpenAI's finish reason; an unknown stop reason is `stop`, for the answer did end.

    `bound`: the answer came as a call of the binding tool. `called`: one of the client's tools is called. `legacy`: the
    client reads calls as `function_call`.
    """
    reason = FINISH_REASONS.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"
    if bound and reason == "tool_calls":
        reason = "stop"
    if called and reason == "stop":
        reason = "tool_calls"
    return "function_call" if legacy and reason == "tool_calls" else reason


# --- usage ------------------------------------------------------------------------------------------------------------


def read_usage(usage: Any) -> dict[str, int]:
    """Anthropic's counts by name; absent ones are left out, so that a later event's can be laid over them."""
    if not isinstance(usage, dict):
        return {}
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    counts = {name: value for name in names if isinstance(value := usage.get(name), int) and value >= 0}
    details = usage.get("output_tokens_details")
    if isinstance(details, dict) and isinstance(details.get("thinking_tokens"), int):
        counts["thinking_tokens"] = details["thinking_tokens"]
    return counts


def to_usage(counts: Mapping[str, int]) -> Usage | None:
    if not counts:
        return None
    cached = counts.get("cache_read_input_tokens", 0)
    prompt = counts.get("input_tokens", 0) + cached + counts.get("cache_creation_input_tokens", 0)
    return Usage(prompt, counts.get("output_tokens", 0), cached)


def openai_usage(counts: Mapping[str, int]) -> dict[str, Any]:
    """`prompt_tokens` counts cache reads and writes in, as OpenAI's does; the writes have a field of their own, too."""
    usage = to_usage(counts) or Usage()
    document: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_creation_tokens": counts.get("cache_creation_input_tokens", 0),
        },
    }
    if "thinking_tokens" in counts:
        document["completion_tokens_details"] = {"reasoning_tokens": counts["thinking_tokens"]}
    return document


# --- errors -----------------------------------------------------------------------------------------------------------


def translate_error(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> UpstreamError:
    """An error status: `{"type": "error", "error": {"type", "message"}}`, or whatever stands in front of the API."""
    message, kind = _read_error(body)
    if status == 200:  # an error in disguise
        status = STATUSES.get(kind or "", 500)
    return upstream_error(status, headers, target, message=message, type=kind)


def failed(error: Any, target: Target) -> UpstreamError:
    """An error inside a 200: in a stream, or from a proxy."""
    message, kind = _error_fields(error)
    return upstream_error(STATUSES.get(kind or "", 500), {}, target, message=message, type=kind)


def _read_error(body: bytes) -> tuple[str, str | None]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace").strip()  # clipped later, once the key is masked
        return ("an HTML page instead of JSON" if text.startswith("<") else text), None
    return _error_fields(document.get("error", document) if isinstance(document, dict) else document)


def _error_fields(error: Any) -> tuple[str, str | None]:
    if not isinstance(error, dict):
        return str(error), None
    message, kind = error.get("message"), error.get("type")
    return (message if isinstance(message, str) else dumps(error)), (kind if isinstance(kind, str) else None)


def dumps(value: Any) -> str:
    return orjson.dumps(value).decode()
