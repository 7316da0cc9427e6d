"""Hub stream → Responses events. API: https://platform.openai.com/docs/api-reference/responses-streaming

Each output item is added, grows by deltas and is done; its place in `output` is fixed when it is added. The stream
ends with response.completed, .incomplete or .failed, and without `[DONE]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from router.chat import Chat
from router.doors.answer import Call, choices_of, counts, new_id, read
from router.doors.calls import Calls
from router.doors.details import Details
from router.doors.responses.events import CallWriter, Events, ItemWriter, MessageWriter, ReasoningWriter
from router.doors.responses.reply import annotations_of, envelope, finished, is_cut, logprobs_of, usage_of
from router.doors.responses.tools import custom_names
from router.doors.translated import source_of
from router.errors import RouterError
from router.providers.dialect import Piece, Usage

Json = dict[str, Any]
_Item = TypeVar("_Item", bound=ItemWriter)


class ResponsesWriter:
    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._customs = custom_names(source_of(chat))
        self._events = Events()
        self._response: Json | None = None
        self._items: list[ItemWriter] = []
        self._calls = Calls()
        self._details = Details()
        self._finish: Any = None
        self._usage: Any = None

    def write(self, pieces: list[Piece], meta: Mapping[str, Any]) -> bytes:
        if not pieces:
            return b""
        if self._response is None:
            self._start(pieces[0].document, meta)
        for piece in pieces:
            self._read(piece.document)
        return self._events.take()

    def end(self, usage: Usage | None) -> bytes:
        response = self._response if self._response is not None else self._start({}, {})
        if not self._items:
            self._message().add_text("", [])
        if is_cut(self._finish):
            self._items[-1].cut()
        self._keep_details()
        for item in self._items:
            item.close()
        output = [item.whole() for item in self._items]
        done = finished(response, output, self._finish, usage_of(counts(self._usage, usage)))
        self._events.add(f"response.{done['status']}", response=done)
        return self._events.take()

    def error(self, error: RouterError) -> bytes:
        """A response that has begun has failed; before that, there is only the error."""
        if self._response is None:
            told = error.body()["error"]
            # `error` beside the documented fields is what makes OpenAI's SDKs raise.
            self._events.add("error", code=error.code, message=error.message, param=error.param, error=told)
        else:
            code = "rate_limit_exceeded" if error.status == 429 else "server_error"
            failed = {
                **self._response,
                "status": "failed",
                "error": {"code": code, "message": error.message},
                "output": [item.whole("incomplete") for item in self._items],
            }
            self._events.add("response.failed", response=failed)
        return self._events.take()

    def _start(self, document: Mapping[str, Any], meta: Mapping[str, Any]) -> Json:
        """`_virtusoul` stands in the first event, and in each `response`, which is what the SDKs keep."""
        response = self._response = envelope(document, self._chat, meta)
        self._events.add("response.created", response=response, _virtusoul=meta)
        self._events.add("response.in_progress", response=response)
        return response

    def _read(self, document: Mapping[str, Any]) -> None:
        if isinstance(document.get("usage"), dict):
            self._usage = document["usage"]
        for choice in choices_of(document):
            if choice.get("index") not in (0, None):
                continue
            delta = choice.get("delta")
            said = read(delta)
            self._details.add(said.details)
            if said.reasoning or said.thinking_blocks:
                self._thinking().add(said.reasoning, [dict(block) for block in said.thinking_blocks])
            if said.text:
                self._message().add_text(said.text, logprobs_of(choice))
            if said.refusal:
                self._message().add_refusal(said.refusal)
            if annotations := annotations_of(delta):
                self._message().annotate(annotations)
            for piece in said.calls:
                self._add_call(piece)
            if finish := choice.get("finish_reason"):  # "" is null, as in `providers.openai`
                self._finish = finish

    def _keep_details(self) -> None:
        if details := self._details.take():
            self._thinking().keep_details(details)

    def _thinking(self) -> ReasoningWriter:
        last = self._items[-1] if self._items else None
        return (
            last if isinstance(last, ReasoningWriter) else self._added(ReasoningWriter(self._events, len(self._items)))
        )

    def _message(self) -> MessageWriter:
        last = self._items[-1] if self._items else None
        return last if isinstance(last, MessageWriter) else self._added(MessageWriter(self._events, len(self._items)))

    def _add_call(self, piece: Call) -> None:
        call = self._calls.add(piece)
        if call.place is None:
            if not call.name:  # an item cannot be shown without its name
                return
            if call.extra:
                call.id = call.id or new_id("call_")
                self._thinking().keep({call.id: call.extra})
            self._keep_details()
            custom = call.name in self._customs
            call.place = len(self._items)
            item = self._added(CallWriter(self._events, call.place, call.id, call.name, custom=custom))
            item.add(call.arguments)
            return
        item_ = self._items[call.place]
        if isinstance(item_, CallWriter):
            item_.add(piece.arguments)

    def _added(self, item: _Item) -> _Item:
        """Calls stay open to the end, for some providers take turns between them; others end where the next begins."""
        for earlier in self._items:
            if not isinstance(earlier, CallWriter):
                earlier.close()
        self._items.append(item)
        return item
