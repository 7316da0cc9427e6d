"""Anthropic content blocks → hub parts.

API: https://platform.claude.com/docs/en/api/messages/create (content block types). Blocks that only Anthropic can read
(the results of its own server tools, say) have no hub form; their types are reported, never dropped in silence.
"""

from __future__ import annotations

from typing import Any

from router.doors import checks
from router.doors.transcript import Part, text_part

Json = dict[str, Any]

# A document's text is not what the person asked: `router.prompt` leaves this block out.
_DOCUMENT = "<attached_files>\n{}\n</attached_files>"


def blocks_of(content: Any, where: str) -> list[Json]:
    """A string or an array of content blocks → the blocks, each with a string `type`."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is None:
        checks.missing(where)
    if not isinstance(content, list):
        checks.wrong_type(where, "a string or an array of content blocks")
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            checks.wrong_type(f"{where}[{index}]", "an object")
        checks.text(block, "type", f"{where}[{index}]")
    return content


def part_of(block: Json, where: str, lost: list[str]) -> list[Part]:
    """One block → hub parts; none where the hub has no form for it (then its type is in `lost`)."""
    kind = block["type"]
    if kind == "text":
        return [text_part(checks.text(block, "text", where))]
    if kind == "image":
        return [_image(_source(block, where), f"{where}.source")]
    if kind == "document":
        return _document(block, where, lost)
    if kind == "search_result":
        return [_search_result(block, where, lost)]
    if kind == "container_upload":
        return [_file({"file_id": checks.text(block, "file_id", where)})]
    lost.append(f"content.{kind}")
    return []


def parts_of(content: Any, where: str, lost: list[str]) -> list[Part]:
    """All blocks of `content` → hub parts; null is empty."""
    if content is None:
        return []
    blocks = blocks_of(content, where)
    return [part for index, block in enumerate(blocks) for part in part_of(block, f"{where}[{index}]", lost)]


def _source(block: Json, where: str) -> Json:
    source = checks.optional_object(block, "source", where)
    if source is None:
        checks.missing(f"{where}.source")
    return source


def _image(source: Json, where: str) -> Part:
    kind = checks.text(source, "type", where)
    if kind == "base64":
        url = f"data:{checks.text(source, 'media_type', where)};base64,{checks.text(source, 'data', where)}"
    elif kind == "url":
        url = checks.text(source, "url", where)
    elif kind == "file":  # lives at Anthropic; another provider will say that it does not know it
        return _file({"file_id": checks.text(source, "file_id", where)})
    else:
        checks.refuse(f"'{where}.type' must be base64, url or file.", f"{where}.type", "invalid_value")
    return {"type": "image_url", "image_url": {"url": url}}


def _document(block: Json, where: str, lost: list[str]) -> list[Part]:
    source, title = _source(block, where), checks.optional_text(block, "title", where)
    context = checks.optional_text(block, "context", where)
    inside = f"{where}.source"
    kind = checks.text(source, "type", inside)
    if (citations := checks.optional_object(block, "citations", where)) and citations.get("enabled") is True:
        lost.append("content.document.citations")
    heading = "\n".join(line for line in (title, context) if line)
    if kind == "text":
        data = checks.text(source, "data", inside)
        return [text_part(_DOCUMENT.format(f"{heading}\n{data}" if heading else data))]
    if kind == "content":
        parts = parts_of(source.get("content"), f"{inside}.content", lost)
        quoted = [text_part(_DOCUMENT.format(part["text"])) if part["type"] == "text" else part for part in parts]
        return [text_part(_DOCUMENT.format(heading)), *quoted] if heading else quoted
    name = title or "document.pdf"
    if kind == "base64":
        media_type, data = checks.text(source, "media_type", inside), checks.text(source, "data", inside)
        file = _file({"filename": name, "file_data": f"data:{media_type};base64,{data}"})
    elif kind == "url":
        file = _file({"filename": name, "file_url": checks.text(source, "url", inside)})
    elif kind == "file":
        file = _file({"file_id": checks.text(source, "file_id", inside)})
    else:
        checks.refuse(f"'{inside}.type' must be base64, text, content, url or file.", f"{inside}.type", "invalid_value")
    return [text_part(_DOCUMENT.format(context)), file] if context else [file]


def _search_result(block: Json, where: str, lost: list[str]) -> Part:
    texts = [part["text"] for part in parts_of(block.get("content"), f"{where}.content", lost) if "text" in part]
    heading = [checks.text(block, "title", where), checks.text(block, "source", where)]
    return text_part(_DOCUMENT.format("\n".join([*heading, *texts])))


def _file(file: Json) -> Part:
    return {"type": "file", "file": file}
