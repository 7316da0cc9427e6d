"""OpenAI's dialect, which is the hub form itself: bodies and stream events pass as sent.

API: https://platform.openai.com/docs/api-reference/chat. Every OpenAI-compatible vendor goes through here; what a
given model demands beyond it stands in `model_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from router.chat import Chat, encode
from router.config import Target
from router.errors import Failure, UpstreamError
from router.providers.dialect import Outgoing, Piece, Reply, Usage, parse
from router.providers.failures import classify_status, not_the_dialect, upstream_error
from router.providers.model_rules import adapt
from router.sse import Event


class OpenAiStream:
    """Relays a stream event by event, watching for content, finish reasons, usage, errors and the end marker."""

    native = False

    def __init__(self, chat: Chat, target: Target) -> None:
        self._target = target
        self._closed: set[int] = set()
        n = chat.body.get("n")
        self._choices = n if isinstance(n, int) and n > 1 else 1
        self.ended = False
        self.finished = False
        self.usage: Usage | None = None
        options = chat.body.get("stream_options")
        self._wants_usage = isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def owes_usage(self) -> bool:
        return self._wants_usage and self.usage is None

    def feed(self, event: Event) -> list[Piece]:
        data = event.data
        if data == b"[DONE]":
            self.ended = True
            return []
        try:
            document = parse(data)
        except orjson.JSONDecodeError:
            self.ended = data.strip() == b"[DONE]"
            document = data.decode("utf-8", "replace")
        if not isinstance(document, dict):
            if event.event == "error":
                raise _failed(document, self._target)
            return []  # one malformed event must not cost the rest of the answer
        if document.get("error") or document.get("object") == "error" or event.event == "error":
            raise _failed(document.get("error") or document, self._target)
        if b"\n" in data:
            data = orjson.dumps(document)
        return [Piece(data, document, self._read(document))]

    def close(self) -> list[Piece]:
        return []

    def _read(self, document: dict[str, Any]) -> bool:
        """Notes finish reasons and usage; whether the chunk carries something of the answer."""
        usage = document.get("usage")
        if isinstance(usage, dict):
            self.usage = read_usage(usage)
        choices = document.get("choices")
        if not isinstance(choices, list):
            return False
        content = False
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta")
            if isinstance(delta, dict):
                for key, value in delta.items():
                    if value and key != "role":
                        content = True
                        break
            elif choice.get("text"):
                content = True
            if choice.get("finish_reason"):  # SGLang, Ollama and others send "" where the API has null
                _refuse_broken(choice, self._target)
                content = True
                index = choice.get("index")
                self._closed.add(index if isinstance(index, int) else 0)
                self.finished = len(self._closed) >= self._choices
        return content


class OpenAi:
    name = "openai"
    embedded = False

    def headers(self, target: Target) -> dict[str, str]:
        return {"authorization": f"Bearer {target.api_key}"} if target.api_key else {}

    def request(self, chat: Chat, target: Target) -> Outgoing:
        changed, dropped = adapt(chat.body, target)
        if changed is None:
            return Outgoing("/chat/completions", chat.with_model(target.model))
        return Outgoing("/chat/completions", encode({**changed, "model": target.model}), dropped)

    def response(self, body: bytes, chat: Chat, target: Target) -> Reply:
        try:
            document = parse(body)
        except orjson.JSONDecodeError:
            raise not_the_dialect(target, "an answer that is not JSON") from None
        if not isinstance(document, dict):
            raise not_the_dialect(target, "an answer that is not a JSON object")
        if document.get("error") or document.get("object") == "error":  # some vendors answer 200 with an error inside
            raise _failed(document.get("error") or document, target)
        choices = document.get("choices")
        if not isinstance(choices, list):
            raise not_the_dialect(target, "an answer without choices")
        for choice in choices:
            if isinstance(choice, dict):
                _refuse_broken(choice, target)
        usage = document.get("usage")
        return Reply(body, document, read_usage(usage) if isinstance(usage, dict) else None)

    def stream(self, chat: Chat, target: Target) -> OpenAiStream:
        return OpenAiStream(chat, target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> UpstreamError:
        message, type_, param, code = read_error(body)
        if status == 200:  # an error in disguise
            status = _status_of(message, type_, code)
        return upstream_error(status, headers, target, message=message, type=type_, param=param, code=code)


DIALECT = OpenAi()


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """An OpenAI usage object → counts; anything that is not a number counts as 0."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def read_error(body: bytes) -> tuple[str, str | None, str | None, str | None]:
    """Message, type, param and code of an error body in OpenAI's shape or near it; HTML is not quoted."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace").strip()  # clipped later, once the key is masked
        return ("an HTML page instead of JSON" if text.startswith("<") else text), None, None, None
    if isinstance(document, list) and document:  # Google wraps its error in a list
        document = document[0]
    if not isinstance(document, dict):
        return str(document), None, None, None
    return _error_fields(document.get("error", document))


def _error_fields(error: Any) -> tuple[str, str | None, str | None, str | None]:
    if not isinstance(error, dict):
        return str(error), None, None, None
    message = error.get("message") or error.get("detail") or error.get("error") or ""
    if not isinstance(message, str):
        message = orjson.dumps(message).decode()
    fields = (error.get(key) for key in ("type", "param", "code"))
    type_, param, code = (str(value) if isinstance(value, str | int) else None for value in fields)
    return message, type_, param, code


def _failed(error: Any, target: Target) -> UpstreamError:
    """An error inside a 200: as its first event, in the middle, or as the whole body."""
    message, type_, param, code = _error_fields(error)
    status = _status_of(message, type_, code)
    return upstream_error(status, {}, target, message=message, type=type_, param=param, code=code)


def _refuse_broken(choice: Mapping[str, Any], target: Target) -> None:
    """Raises `UpstreamError` where an answer ends in its provider's fault: what came of it is not the whole.

    https://openrouter.ai/docs/api-reference/errors: such an end looks like any other but for its finish reason.
    """
    if choice.get("finish_reason") == "error":
        raise _failed(choice.get("error") or "the answer ended in an error", target)


def _status_of(message: str, type_: str | None, code: str | None) -> int:
    """The HTTP status that an error inside a 200 stands for."""
    if code and code.isdigit() and 400 <= int(code) < 600:
        return int(code)
    words = f"{type_} {code}".lower()
    if "rate_limit" in words:
        return 429
    if "authentication" in words or "invalid_api_key" in words:
        return 401
    if "invalid_request" in words or "badrequest" in words:
        return 400
    if "server" in words or "internal" in words or "overloaded" in words:
        return 500
    said = classify_status(400, code or "", message)  # neither its type nor its code need say what its words do
    return 400 if said in (Failure.CONTEXT_LENGTH, Failure.CONTENT_FILTER) else 500


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
