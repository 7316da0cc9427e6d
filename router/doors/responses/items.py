"""Responses input items → hub messages.

API: https://platform.openai.com/docs/api-reference/responses/create#responses-create-input. One answer comes back as
several items (reasoning, message, function calls); in the hub they are one assistant message again.
"""

from __future__ import annotations

from typing import Any

from router.doors import checks
from router.doors.sealed import unseal, unseal_details
from router.doors.transcript import Part, Transcript, text_part

Json = dict[str, Any]


def messages_of(given: Any, instructions: str | None) -> list[Json]:
    """`input` and `instructions` → hub messages. Raises `BadRequest`."""
    transcript = Transcript()
    if instructions:
        transcript.system([text_part(instructions)])
    if given is None:
        checks.missing("input")
    if isinstance(given, str):
        transcript.user([text_part(given)])
        return transcript.done()
    items = checks.objects(given, "input")
    if not items:
        checks.refuse("'input' must not be empty.", "input", "empty_array")
    reader = _Reader(transcript)
    for index, item in enumerate(items):
        reader.add(item, f"input[{index}]")
    reader.settle()
    messages = transcript.done()
    if not messages:
        checks.refuse("'input' holds nothing that could be answered.", "input", "invalid_value")
    return messages


class _Reader:
    """Collects the items of one answer until another's turn begins."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._texts: list[str] = []
        self._calls: list[Json] = []
        self._reasoning: list[str] = []
        self._blocks: list[Json] = []
        self._extras: Json = {}
        self._details: list[Json] = []

    def add(self, item: Json, where: str) -> None:
        kind = checks.optional_text(item, "type", where) or "message"
        if kind == "message":
            self._add_message(item, where)
        elif kind == "function_call":
            self._calls.append(_call(item, where))
        elif kind == "custom_tool_call":
            custom = {"name": checks.text(item, "name", where), "input": checks.text(item, "input", where)}
            self._calls.append({"id": checks.text(item, "call_id", where), "type": "custom", "custom": custom})
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self.settle()
            call_id = checks.text(item, "call_id", where)
            self._transcript.tool(call_id, _parts(item.get("output"), f"{where}.output"))
        elif kind == "reasoning":
            self._add_reasoning(item, where)
        elif kind == "item_reference":
            checks.refuse(
                "This router keeps no items: send the item itself instead of a reference to it.",
                where,
                "unsupported_value",
            )
        else:
            checks.refuse(f"Items of type '{kind[:60]}' are not supported here.", f"{where}.type", "unsupported_value")

    def settle(self) -> None:
        """What the assistant said becomes one message."""
        for call in self._calls:
            if isinstance(extra := self._extras.get(call["id"]), dict):
                call["extra_content"] = extra
        if self._texts or self._calls or self._blocks:
            self._transcript.assistant(
                "".join(self._texts) if self._texts else None,
                self._calls,
                reasoning="" if self._blocks else "\n\n".join(self._reasoning),
                thinking_blocks=self._blocks,
                details=self._details,
            )
        self._texts, self._calls, self._reasoning, self._blocks, self._extras = [], [], [], [], {}
        self._details = []

    def _add_message(self, item: Json, where: str) -> None:
        role = checks.text(item, "role", where)
        parts = _parts(item.get("content"), f"{where}.content")
        if role == "assistant":
            self._texts += [part["text"] for part in parts if part["type"] == "text"]
        elif role == "user":
            self.settle()
            self._transcript.user(parts)
        elif role in ("system", "developer"):  # `system` is the name that every provider knows
            self.settle()
            self._transcript.system(parts)
        else:
            checks.refuse(
                f"'{where}.role' must be user, assistant, system or developer.", f"{where}.role", "invalid_value"
            )

    def _add_reasoning(self, item: Json, where: str) -> None:
        """Signed thinking goes back as it was; plain reasoning as text, which some providers demand in a tool loop."""
        blocks, extras = unseal(item.get("encrypted_content"))
        details = unseal_details(item.get("encrypted_content"))
        inside = bool(blocks and "at" in blocks[0]) or bool(
            extras or details
        )  # state of one answer that is already under way
        if (self._texts or self._calls) and not inside:
            self.settle()
        self._blocks += blocks
        self._extras |= extras
        self._details += details
        for key in ("summary", "content"):
            for part in checks.objects(item.get(key), f"{where}.{key}"):
                if text := checks.optional_text(part, "text", f"{where}.{key}"):
                    self._reasoning.append(text)


def _call(item: Json, where: str) -> Json:
    function = {"name": checks.text(item, "name", where), "arguments": checks.text(item, "arguments", where)}
    return {"id": checks.text(item, "call_id", where), "type": "function", "function": function}


def _parts(content: Any, where: str) -> list[Part]:
    if isinstance(content, str):
        return [text_part(content)]
    if content is None:
        checks.missing(where)
    return [_part(part, f"{where}[{index}]") for index, part in enumerate(checks.objects(content, where))]


def _part(part: Json, where: str) -> Part:
    kind = checks.text(part, "type", where)
    if kind in ("input_text", "output_text", "text", "summary_text"):
        return text_part(checks.text(part, "text", where))
    if kind == "refusal":
        return text_part(checks.text(part, "refusal", where))
    if kind == "input_image":
        if file_id := checks.optional_text(part, "file_id", where):
            return {"type": "file", "file": {"file_id": file_id}}
        image = {"url": checks.text(part, "image_url", where)}
        if detail := checks.optional_text(part, "detail", where):
            image["detail"] = detail
        return {"type": "image_url", "image_url": image}
    if kind == "input_file":
        keys = ("filename", "file_data", "file_id", "file_url")
        file = {key: text for key in keys if (text := checks.optional_text(part, key, where))}
        if not file.keys() & {"file_data", "file_id", "file_url"}:
            checks.missing(f"{where}.file_data")
        return {"type": "file", "file": file}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": checks.optional_object(part, "input_audio", where)}
    checks.refuse(f"Content of type '{kind[:60]}' is not supported here.", f"{where}.type", "unsupported_value")
