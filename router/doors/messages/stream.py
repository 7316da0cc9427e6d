"""Hub stream → Anthropic events. API: https://platform.claude.com/docs/en/build-with-claude/streaming

message_start, then each content block as start, deltas, stop, one after the other, then message_delta and message_stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from router.chat import Chat
from router.doors.answer import Call, Said, choices_of, counts, is_whole, read
from router.doors.calls import Calls, GrowingCall
from router.doors.details import Details
from router.doors.messages.errors import error_body
from router.doors.messages.reply import envelope, stop_of, tool_block, usage_of
from router.doors.messages.thinking import UNSIGNED, bare, details_block, sealed_block, wants_thinking
from router.doors.translated import source_of
from router.errors import RouterError
from router.providers.dialect import Piece, Usage
from router.sse import encode

Json = dict[str, Any]

_NOTHING = Said()


class MessagesWriter:
    """Native pieces pass as they are; hub pieces are retold."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._source = source_of(chat)
        self._blocks = _Blocks(wants_thinking(self._source))
        self._started = False
        self._native = False
        self._choice: Json = {}
        self._usage: Any = None

    def write(self, pieces: list[Piece], meta: Mapping[str, Any]) -> bytes:
        if not pieces:
            return b""
        if self._native or pieces[0].event:
            self._native = True
            return b"".join([self._pass(piece, meta) for piece in pieces])
        events = [] if self._started else [self._start(pieces[0].document, meta)]
        for piece in pieces:
            self._read(piece.document, events)
        return b"".join(events)

    def end(self, usage: Usage | None) -> bytes:
        if self._native:
            return b""  # message_stop came from the provider
        events = [] if self._started else [self._start({}, {})]
        self._blocks.finish(events)
        reason, sequence = stop_of(self._choice, self._source, called=self._blocks.called, refused=self._blocks.refused)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        found = usage_of(counts(self._usage, usage))
        events.append(_event("message_delta", {"delta": delta, "usage": found}))
        events.append(_event("message_stop", {}))
        return b"".join(events)

    def error(self, error: RouterError) -> bytes:
        return encode(error_body(error), "error")

    def _pass(self, piece: Piece, meta: Mapping[str, Any]) -> bytes:
        if self._started or piece.event != "message_start":
            return encode(piece.data, piece.event)
        self._started = True
        document = {**piece.document, "_virtusoul": meta}
        if isinstance(message := piece.document.get("message"), dict):
            document["message"] = {**message, "_virtusoul": meta}
        return encode(orjson.dumps(document), piece.event)

    def _start(self, document: Mapping[str, Any], meta: Mapping[str, Any]) -> bytes:
        """`_virtusoul` stands in the event, and in the message, which is what the SDKs keep."""
        self._started = True
        # The prompt's tokens are known at the end only; message_delta's usage is cumulative and replaces these.
        usage = {**usage_of(counts(document.get("usage"))), "output_tokens": 0}
        message = {**envelope(document, self._chat.model), "usage": usage, "_virtusoul": meta}
        return _event("message_start", {"message": message, "_virtusoul": meta})

    def _read(self, document: Mapping[str, Any], events: list[bytes]) -> None:
        if isinstance(document.get("usage"), dict):
            self._usage = document["usage"]
        for choice in choices_of(document):
            if choice.get("index") in (0, None):
                self._blocks.add(read(choice.get("delta")), events)
                if choice.get("finish_reason"):  # "" is null, as in `providers.openai`
                    self._choice = choice


class _Blocks:
    """The content blocks of one message: never more than one open, indices without gaps."""

    def __init__(self, thinking: bool) -> None:
        self._show_thinking = thinking
        self._index = -1
        self._open = ""  # the open block's type
        self._signed = False
        self._calls = Calls()
        self._call: GrowingCall | None = None  # the open one
        self._held: list[Said] = []
        self._details = Details()
        self.refused = False

    @property
    def called(self) -> bool:
        return bool(self._calls.all)

    def add(self, said: Said, events: list[bytes]) -> None:
        """Words inside a call wait like a second call does: a block of theirs would cut its arguments off."""
        words = said._replace(calls=())
        if words != _NOTHING:
            if self._call is not None and not is_whole(self._call.arguments):
                self._held.append(words)
            else:
                self._release(events)
                self._add_words(words, events)
        for piece in said.calls:
            self._add_call(piece, events)

    def finish(self, events: list[bytes]) -> None:
        self._release(events)
        self._close(events)
        for call in self._calls.all:
            if call.place is None:
                self._begin_call(call, events)
                self._close(events)
        self._add_details(events)

    def _release(self, events: list[bytes]) -> None:
        held, self._held = self._held, []
        for words in held:
            self._add_words(words, events)

    def _add_words(self, said: Said, events: list[bytes]) -> None:
        if self._show_thinking:
            self._add_thinking(said, events)
        self.refused = self.refused or bool(said.refusal)
        if text := said.text or said.refusal:
            if self._open != "text":
                self._begin({"type": "text", "text": ""}, events)
            self._delta({"type": "text_delta", "text": text}, events)

    def _add_thinking(self, said: Said, events: list[bytes]) -> None:
        self._details.add(said.details)
        if said.reasoning:
            self._add_thought(said.reasoning, events)
        for given in said.thinking_blocks:
            block = bare(given)
            if block["type"] == "redacted_thinking":  # nothing in it to stream
                self._begin(block, events)
                self._close(events)
                continue
            if self._open != "thinking":
                self._add_thought(block["thinking"], events)
            self._sign(block["signature"], events)

    def _add_details(self, events: list[bytes]) -> None:
        if details := self._details.take():
            self._add_sealed(details_block(details), events)

    def _add_sealed(self, block: Json, events: list[bytes]) -> None:
        self._begin({**block, "signature": ""}, events)
        self._sign(block["signature"], events)

    def _add_thought(self, thought: str, events: list[bytes]) -> None:
        if self._open != "thinking":
            self._begin({"type": "thinking", "thinking": "", "signature": ""}, events)
        if thought:
            self._delta({"type": "thinking_delta", "thinking": thought}, events)

    def _sign(self, signature: str, events: list[bytes]) -> None:
        self._signed = True
        self._delta({"type": "signature_delta", "signature": signature}, events)
        self._close(events)

    def _add_call(self, piece: Call, events: list[bytes]) -> None:
        """A piece of a call. Servers may take turns between calls; a block here must be whole before the next.

        So a call that begins inside another waits for the end, unless the other one's arguments are whole already.
        """
        call = self._calls.add(piece)
        if call is self._call:
            if piece.arguments:
                self._delta({"type": "input_json_delta", "partial_json": piece.arguments}, events)
        elif call.place is None and call.name and (self._call is None or is_whole(self._call.arguments)):
            self._begin_call(call, events)

    def _begin_call(self, call: GrowingCall, events: list[bytes]) -> None:
        block = tool_block(call.id, call.name)
        self._release(events)
        self._add_details(events)
        if call.extra and self._show_thinking:
            self._add_sealed(sealed_block(block["id"], call.extra), events)
        self._begin(block, events)
        self._call, call.place = call, self._index
        if call.arguments:
            self._delta({"type": "input_json_delta", "partial_json": call.arguments}, events)

    def _begin(self, block: Json, events: list[bytes]) -> None:
        self._close(events)
        self._index += 1
        self._open = block["type"]
        events.append(_event("content_block_start", {"index": self._index, "content_block": block}))

    def _delta(self, delta: Json, events: list[bytes]) -> None:
        events.append(_event("content_block_delta", {"index": self._index, "delta": delta}))

    def _close(self, events: list[bytes]) -> None:
        if not self._open:
            return
        if self._open == "thinking" and not self._signed:
            self._delta({"type": "signature_delta", "signature": UNSIGNED}, events)
        self._open, self._signed, self._call = "", False, None
        events.append(_event("content_block_stop", {"index": self._index}))


def _event(name: str, data: Json) -> bytes:
    return encode(orjson.dumps({"type": name, **data}), name)
