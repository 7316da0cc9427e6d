"""One OpenAI content part → one Anthropic content block.

OpenAI's parts: https://platform.openai.com/docs/api-reference/chat/create#chat-create-messages. Anthropic's blocks:
https://platform.claude.com/docs/en/api/messages/create (text, image, document).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from router.errors import BadRequest

Block = dict[str, Any]

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
# Text that is not called text/…; what a coding client attaches.
_TEXT_TYPES = re.compile(
    r"text/|application/(json|xml|yaml|x-yaml|toml|javascript|x-sh|sql|x-ndjson)|[^;]*\+(json|xml)"
)
_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
# Blocks of Anthropic's own that a client may put among OpenAI's parts; passed on as they are.
_NATIVE = frozenset({"image", "document", "search_result", "container_upload"})


def text_of(part: dict[str, Any]) -> str | None:
    """The text of a text-like part; None for the other kinds."""
    kind = part.get("type")
    if kind in ("text", "input_text", "output_text"):
        text = part.get("text")
        return text if isinstance(text, str) else ""
    if kind == "refusal":
        refusal = part.get("refusal")
        return refusal if isinstance(refusal, str) else ""
    return None


def to_block(part: dict[str, Any], where: str, dropped: dict[str, None]) -> Block | None:
    """A block for `part`; None where it says nothing (blank text is refused by the API).

    Raises `BadRequest` for what Anthropic has no form for (audio, foreign file ids, unreadable data URLs).
    """
    text = text_of(part)
    if text is not None:
        if not text.strip():
            return None
        block: Block = {"type": "text", "text": text}
    else:
        kind = part.get("type")
        if kind in ("image_url", "input_image"):
            block = _image(part, where, dropped)
        elif kind in ("file", "input_file"):
            block = _file(part, where)
        elif isinstance(kind, str) and kind in _NATIVE:
            return dict(part)
        else:
            raise BadRequest(
                f"'{where}' of type {str(kind)[:40]!r} cannot be sent to an Anthropic model.",
                param=where,
                code="unsupported_content",
            )
    if "cache_control" in part:
        block["cache_control"] = part["cache_control"]
    return block


def _image(part: dict[str, Any], where: str, dropped: dict[str, None]) -> Block:
    image = part.get("image_url")
    if isinstance(image, dict):
        if image.get("detail") not in (None, "auto"):
            dropped["image_url.detail"] = None
        image = image.get("url")
    if not isinstance(image, str) or not image:
        raise BadRequest(f"'{where}.image_url' must hold a URL.", param=where, code="invalid_image")
    if image[:5].lower() != "data:":
        return {"type": "image", "source": {"type": "url", "url": image}}
    media_type, data = _base64_of(image, where)
    return _image_block(media_type, data, where)


def _image_block(media_type: str, data: str, where: str) -> Block:
    media_type = "image/jpeg" if media_type == "image/jpg" else media_type
    if media_type not in _IMAGE_TYPES:
        raise BadRequest(
            f"'{where}': an image of type {media_type[:60]!r}; Anthropic takes JPEG, PNG, GIF and WebP.",
            param=where,
            code="unsupported_image",
        )
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _file(part: dict[str, Any], where: str) -> Block:
    given = part.get("file")
    file: dict[str, Any] = given if isinstance(given, dict) else part
    name = file.get("filename")
    data = file.get("file_data")
    if isinstance(data, str) and data:
        block = _document(data, name, where)
    elif isinstance(url := file.get("file_url"), str) and url:
        block = {"type": "document", "source": {"type": "url", "url": url}}
    elif isinstance(file_id := file.get("file_id"), str) and file_id.startswith("file_"):  # Anthropic's own form of id
        block = {"type": "document", "source": {"type": "file", "file_id": file_id}}
    else:
        raise BadRequest(
            f"'{where}': an uploaded file is known to its provider only; send 'file_data' (a data URL) instead.",
            param=where,
            code="unsupported_file",
        )
    if isinstance(name, str) and name.strip() and block["type"] == "document":
        block["title"] = name[:500]
    return block


def _document(data: str, name: Any, where: str) -> Block:
    """PDF, text or image data. Bare base64 without a data URL is taken for what the file's name says, else PDF."""
    if data[:5].lower() != "data:":
        is_text = isinstance(name, str) and name.lower().endswith((".txt", ".md", ".csv", ".json", ".xml", ".yaml"))
        data = f"data:{'text/plain' if is_text else 'application/pdf'};base64,{data}"
    media_type, encoded = _base64_of(data, where)
    if media_type == "application/pdf":
        return {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": encoded}}
    if media_type.startswith("image/"):
        return _image_block(media_type, encoded, where)
    if not media_type or _TEXT_TYPES.match(media_type):
        text = _decoded(encoded, where).decode("utf-8", "replace")
        return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}
    raise BadRequest(
        f"'{where}': a file of type {media_type[:60]!r}; Anthropic takes PDF, text and images.",
        param=where,
        code="unsupported_file",
    )


def _base64_of(url: str, where: str) -> tuple[str, str]:
    """A data URL (RFC 2397) → its media type in lower case and its data in base64, as it stands where it is base64."""
    match = _DATA_URL.match(url)
    if match is None:
        raise BadRequest(f"'{where}': not a readable data URL.", param=where, code="invalid_data_url")
    data = url[match.end() :]
    if ";base64" not in match[2].lower():
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return match[1].strip().lower(), data


def _decoded(data: str, where: str) -> bytes:
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        raise BadRequest(f"'{where}': its base64 cannot be decoded.", param=where, code="invalid_data_url") from None
