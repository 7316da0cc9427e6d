"""A checked view of the client's JSON, which is never mutated.

Only what routing depends on is checked; everything else is the provider's to judge, so that a field which is new today
passes tomorrow without a release of ours.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import orjson

from router.errors import BadRequest

Need = Literal["tools", "vision", "json"]

# Thirty megabytes of `[],` would hold up everyone for seconds and take a gigabyte. Brackets inside of text count, too:
# the densest text that fits into any model's window stays below.
MAX_BRACKETS = 1_000_000
_LARGE_BYTES = 1024 * 1024

_NO_NEEDS: frozenset[Need] = frozenset()
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

# JSON strings and brackets: all that is needed to find a top-level key without rebuilding the document.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]]', re.DOTALL)
_COLON = re.compile(rb"\s*:")
_MODEL_MEMBER = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*+")', re.DOTALL)


class Chat:
    """One chat-completions request: the bytes as sent and what was read from them.

    `raw`: the body exactly as the client sent it (or as another door of ours wrote it). `body`: the parsed document;
    treat it as frozen. `native`: for a request that came through another API's door, that API's dialect name and the
    original bytes, so that a provider of the same dialect gets them untouched.
    """

    __slots__ = ("_needs", "body", "lost", "messages", "model", "native", "native_headers", "raw", "stream")

    def __init__(self, raw: bytes, body: dict[str, Any], native: tuple[str, bytes] | None = None) -> None:
        self.raw = raw
        self.body = body
        self.model: str = _checked_model(body)
        self.messages: list[dict[str, Any]] = _checked_messages(body)
        self.stream: bool = _checked_stream(body)
        self.native = native
        # What the client asked for in another API's terms and the hub form cannot say (see `doors.translated`).
        self.lost: tuple[str, ...] = ()
        # Headers of the client's that belong to `native` and go out with it (`anthropic-beta`).
        self.native_headers: Mapping[str, str] = _NO_HEADERS
        self._needs: frozenset[Need] | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Chat:
        """Raises `BadRequest` for anything that is not a chat-completions request."""
        return cls(raw, parse_object(raw))

    @property
    def needs(self) -> frozenset[Need]:
        """What a target must be able to do: `tools`, `vision`, `json`."""
        if self._needs is None:
            self._needs = self._find_needs()
        return self._needs

    def _find_needs(self) -> frozenset[Need]:
        found: set[Need] = set()
        if self.body.get("tools") or self.body.get("functions"):
            found.add("tools")
        response_format = self.body.get("response_format")
        if isinstance(response_format, dict) and response_format.get("type") in ("json_schema", "json_object"):
            found.add("json")
        for message in self.messages:
            if _has_image(message.get("content")):
                found.add("vision")
                break
        return frozenset(found) if found else _NO_NEEDS

    def with_model(self, model: str) -> bytes:
        """The body as sent with only the value of the top-level `model` replaced; megabytes are not rebuilt."""
        return replace_model(self.raw, model, self.body)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Client bytes → JSON object. Raises `BadRequest` (syntax, encoding, nesting, too many parts, or not an object)."""
    is_large = len(raw) > _LARGE_BYTES
    if is_large and raw.count(b"{") + raw.count(b"[") > MAX_BRACKETS:
        raise BadRequest(f"The request body holds more than {MAX_BRACKETS} arrays and objects.", code="too_many_parts")
    collects = is_large and gc.isenabled()
    if collects:
        gc.disable()  # it would go over all that was parsed so far again and again, and nothing of it is garbage
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The request body is not valid JSON: {error}", code="invalid_json") from None
    finally:
        if collects:
            gc.enable()
    if not isinstance(body, dict):
        raise BadRequest("The request body must be a JSON object.", code="invalid_json")
    return body


def replace_model(raw: bytes, model: str, body: dict[str, Any] | None = None) -> bytes:
    """`raw` with only the value of its top-level `model` replaced. `body`: the parsed document, where there is one."""
    span = _model_span(raw)
    if span is None:
        return encode({**(parse_object(raw) if body is None else body), "model": model})
    return b"%b%b%b" % (raw[: span[0]], orjson.dumps(model), raw[span[1] :])


def encode(document: Any) -> bytes:
    """JSON bytes of a document that holds client data. Raises `BadRequest` where it is nested too deeply to write."""
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        raise BadRequest(f"The request body cannot be forwarded: {error}", code="invalid_json") from None


def _checked_model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if model is None:
        raise BadRequest("You must provide a model parameter.", param="model", code="missing_required_parameter")
    if not isinstance(model, str):
        raise BadRequest("'model' must be a string.", param="model", code="invalid_type")
    return model


def _checked_messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if messages is None:
        raise BadRequest("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
    if not isinstance(messages, list):
        raise BadRequest("'messages' must be an array.", param="messages", code="invalid_type")
    if not messages:
        raise BadRequest("'messages' must not be empty.", param="messages", code="empty_array")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise BadRequest(f"'{where}' must be an object.", param=where, code="invalid_type")
        if not isinstance(message.get("role"), str):
            raise BadRequest(f"'{where}.role' must be a string.", param=f"{where}.role", code="invalid_type")
        content = message.get("content")
        if content is None or isinstance(content, str):
            continue
        if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
            raise BadRequest(
                f"'{where}.content' must be a string or an array of content parts.",
                param=f"{where}.content",
                code="invalid_type",
            )
    return messages


def _checked_stream(body: dict[str, Any]) -> bool:
    stream = body.get("stream")
    if stream is None or isinstance(stream, bool):
        return bool(stream)
    raise BadRequest("'stream' must be a boolean.", param="stream", code="invalid_type")


def _has_image(content: Any) -> bool:
    return isinstance(content, list) and any(part.get("type") in ("image_url", "input_image") for part in content)


def _model_span(raw: bytes) -> tuple[int, int] | None:
    """Byte span of the value of the top-level `model` member; None where it stands twice, or is not to be found.

    Two of them are an attempt, or an accident, in which the provider may read the other one than we did.
    """
    # Without an escaped letter (m, o, d, e, l: \\u0064 … \\u006f), the only "model" in sight is the member we read.
    if raw.count(b'"model"') == 1 and b"\\u006" not in raw and (only := _MODEL_MEMBER.search(raw)):
        return only.span(1)
    depth = 0
    span: tuple[int, int] | None = None
    expects_value = False
    for token in _TOKEN.finditer(raw):
        text = token.group()
        if text in (b"{", b"["):
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and expects_value:
            if span is not None:
                return None
            span, expects_value = token.span(), False
        elif depth == 1 and _COLON.match(raw, token.end()):
            expects_value = text == b'"model"' or (b"\\" in text and orjson.loads(text) == "model")
    return span
