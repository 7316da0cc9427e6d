"""The events of one response stream, and those of each kind of output item.

API: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from router.doors.answer import new_id
from router.doors.responses.reply import call_item, message_item, reasoning_item, text_content
from router.sse import encode

Json = dict[str, Any]


class Events:
    """Numbers events and holds them until they are written."""

    def __init__(self) -> None:
        self._number = 0
        self._pending: list[bytes] = []

    def add(self, kind: str, **fields: Any) -> None:
        self._pending.append(encode(orjson.dumps({"type": kind, "sequence_number": self._number, **fields}), kind))
        self._number += 1

    def take(self) -> bytes:
        pending, self._pending = self._pending, []
        return b"".join(pending)


class ItemWriter(Protocol):
    """One output item on its way."""

    def cut(self) -> None:
        """Says that it will not be whole when it is closed: the answer ended in it."""
        ...

    def close(self) -> None:
        """The events that say it is done; nothing the second time."""
        ...

    def whole(self, status: str = "completed") -> Json:
        """The item as it stands in `output`. `status`: of an item that was not closed."""
        ...


class _Item:
    """What every item's writer knows: its id, its place in `output`, whether it is done."""

    def __init__(self, events: Events, place: int, prefix: str) -> None:
        self.id = new_id(prefix)
        self._events = events
        self._place = place
        self._done = False
        self._end = "completed"  # its status once it is done

    def cut(self) -> None:
        self._end = "incomplete"

    def _status(self, unfinished: str) -> str:
        return self._end if self._done else unfinished

    def _add(self, kind: str, **fields: Any) -> None:
        self._events.add(f"response.{kind}", item_id=self.id, output_index=self._place, **fields)

    def _announce(self, kind: str, item: Json) -> None:
        self._events.add(f"response.output_item.{kind}", output_index=self._place, item=item)


class MessageWriter(_Item):
    """Text, and at times a refusal: one content part each, in the order they began."""

    def __init__(self, events: Events, place: int) -> None:
        super().__init__(events, place, "msg_")
        self.annotations: list[Json] = []
        self._parts: list[Json] = []
        self._pieces: list[str] = []  # of the open part
        self._open = False
        self._announce("added", message_item(self.id, [], "in_progress"))

    def add_text(self, text: str, logprobs: list[Json]) -> None:
        index = self._part("output_text", text_content("", [], []))
        self._pieces.append(text)
        self._parts[index]["logprobs"] += logprobs
        self._add("output_text.delta", content_index=index, delta=text, logprobs=logprobs)

    def add_refusal(self, refusal: str) -> None:
        index = self._part("refusal", {"type": "refusal", "refusal": ""})
        self._pieces.append(refusal)
        self._add("refusal.delta", content_index=index, delta=refusal)

    def annotate(self, annotations: list[Json]) -> None:
        for annotation in annotations:
            index, number = self._part("output_text", text_content("", [], [])), len(self.annotations)
            self.annotations.append(annotation)
            place = {"content_index": index, "annotation_index": number}
            self._add("output_text.annotation.added", **place, annotation=annotation)

    def close(self) -> None:
        if self._done:
            return
        self._end_part()
        self._done = True
        self._announce("done", self.whole())

    def whole(self, status: str = "completed") -> Json:
        self._fill()
        return message_item(self.id, self._parts, self._status(status))

    def _part(self, kind: str, empty: Json) -> int:
        """The index of the open part of this kind; begins one where there is none."""
        if not self._open or self._parts[-1]["type"] != kind:
            self._end_part()
            self._parts.append(empty)
            self._open = True
            self._add("content_part.added", content_index=len(self._parts) - 1, part=empty)
        return len(self._parts) - 1

    def _fill(self) -> None:
        """The open part gets all that was said in it."""
        if not self._open:
            return
        part = self._parts[-1]
        part["text" if part["type"] == "output_text" else "refusal"] = "".join(self._pieces)
        if part["type"] == "output_text":
            part["annotations"] = self.annotations

    def _end_part(self) -> None:
        if not self._open:
            return
        self._fill()
        part, index = self._parts[-1], len(self._parts) - 1
        if part["type"] == "output_text":
            self._add("output_text.done", content_index=index, text=part["text"], logprobs=part["logprobs"])
        else:
            self._add("refusal.done", content_index=index, refusal=part["refusal"])
        self._add("content_part.done", content_index=index, part=part)
        self._pieces = []
        self._open = False


class ReasoningWriter(_Item):
    """The reasoning that a provider shows, as a summary of one part."""

    def __init__(self, events: Events, place: int) -> None:
        super().__init__(events, place, "rs_")
        self._pieces: list[str] = []
        self._blocks: list[Json] = []
        self._calls: Json = {}
        self._details: list[Json] = []
        self._announce("added", reasoning_item(self.id, ""))

    def keep(self, calls: Json) -> None:
        """What the provider wants back with the calls that follow."""
        self._calls |= calls

    def keep_details(self, details: list[Json]) -> None:
        self._details += details

    def add(self, text: str, thinking_blocks: list[Json]) -> None:
        self._blocks += thinking_blocks
        if not text:
            return
        if not self._pieces:
            self._add("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""})
        self._pieces.append(text)
        self._add("reasoning_summary_text.delta", summary_index=0, delta=text)

    def close(self) -> None:
        if self._done:
            return
        self._done = True
        if self._pieces:
            text = "".join(self._pieces)
            self._add("reasoning_summary_text.done", summary_index=0, text=text)
            self._add("reasoning_summary_part.done", summary_index=0, part={"type": "summary_text", "text": text})
        self._announce("done", self.whole())

    def whole(self, status: str = "completed") -> Json:
        text = "".join(self._pieces)
        return reasoning_item(self.id, text, self._blocks, self._calls, self._details, self._status(status))


class CallWriter(_Item):
    """A function call, or a call of a custom tool."""

    def __init__(self, events: Events, place: int, call_id: str, name: str, *, custom: bool) -> None:
        super().__init__(events, place, "ctc_" if custom else "fc_")
        self._call_id = call_id or new_id("call_")
        self._name = name
        self._custom = custom
        self._kind = "custom_tool_call_input" if custom else "function_call_arguments"
        self._pieces: list[str] = []
        self._announce("added", self.whole("in_progress"))

    def add(self, arguments: str) -> None:
        if arguments and not self._done:
            self._pieces.append(arguments)
            self._add(f"{self._kind}.delta", delta=arguments)

    def close(self) -> None:
        if self._done:
            return
        self._done = True
        item = self.whole()
        if self._custom:
            self._add(f"{self._kind}.done", input=item["input"])
        else:
            self._add(f"{self._kind}.done", arguments=item["arguments"], name=self._name)
        self._announce("done", item)

    def whole(self, status: str = "completed") -> Json:
        arguments, status = "".join(self._pieces), self._status(status)
        return call_item(self.id, self._call_id, self._name, arguments, custom=self._custom, status=status)
