"""Anthropic's event stream → chat-completion chunks.

Events: https://platform.claude.com/docs/en/build-with-claude/streaming. `message_start`, then per content block a
`start`, `delta`s and a `stop`, then `message_delta` with the stop reason and `message_stop`; `ping` and `error`
anywhere, and event types yet unknown, which the API's versioning policy says to ignore.
"""

from __future__ import annotations

import time
from typing import Any

import orjson

from router.chat import Chat
from router.config import Target
from router.providers.anthropic.models import lookup
from router.providers.anthropic.response import (
    dumps,
    failed,
    finish_reason,
    openai_usage,
    placed,
    read_usage,
    to_usage,
    url_citations,
)
from router.providers.anthropic.structured import Fence, output_of
from router.providers.anthropic.tools import custom_names, is_legacy
from router.providers.anthropic.wrapped import Unwrapper
from router.providers.dialect import Piece, Usage, parse
from router.sse import Event

# Blocks that start empty; all others say something by their start: a tool's name, what was redacted, what was found.
# A tuple, for a provider may send a type that no set can be asked for.
_FILLED_LATER = ("text", "thinking")


class _Counts:
    """What every reader of an Anthropic stream keeps: usage, the stop reason, the end."""

    owes_usage = False  # it comes with the stop reason

    def __init__(self, target: Target) -> None:
        self._target = target
        self._counts: dict[str, int] = {}
        self.usage: Usage | None = None
        self.ended = False
        self.finished = False

    def _parse(self, event: Event) -> dict[str, Any] | None:
        """The event's document; None where it is none. Raises `UpstreamError` for an error event."""
        try:
            document = parse(event.data)
        except orjson.JSONDecodeError:
            return None  # one malformed event must not cost the rest of the answer
        if not isinstance(document, dict):
            return None
        kind = document.get("type")
        if kind == "error":
            raise failed(document.get("error"), self._target)
        if kind == "message_start":
            message = document.get("message")
            if isinstance(message, dict):
                self._count(message.get("usage"))
        elif kind == "message_delta":
            self._count(document.get("usage"))
            delta = document.get("delta")
            if isinstance(delta, dict) and delta.get("stop_reason") is not None:
                self.finished = True
        elif kind == "message_stop":
            self.ended = True
        return document

    def _count(self, usage: Any) -> None:
        self._counts |= read_usage(usage)  # cumulative: a later count is the whole
        self.usage = to_usage(self._counts)


class NativeStream(_Counts):
    """Passes every event on as it came, for a client that speaks Anthropic's API itself."""

    native: bool = True

    def feed(self, event: Event) -> list[Piece]:
        document = self._parse(event)
        if document is None:
            return []
        kind = str(document.get("type") or "")
        data = orjson.dumps(document) if b"\n" in event.data else event.data
        if kind == "content_block_start":  # sent at once, long before the first token of what it announces
            content = not _announces(document.get("content_block"))
        else:
            content = kind == "content_block_delta" or (kind == "message_delta" and self.finished)
        return [Piece(data, document, content, event.event or kind)]

    def close(self) -> list[Piece]:
        """The end marker that the provider kept to itself: without it, an SDK gives its caller no message."""
        return (
            [] if self.ended else [Piece(b'{"type":"message_stop"}', {"type": "message_stop"}, False, "message_stop")]
        )


def _announces(block: Any) -> bool:
    """Whether a block says nothing yet."""
    return (
        isinstance(block, dict)
        and block.get("type") in _FILLED_LATER
        and not (block.get("text") or block.get("thinking"))
    )


class _Block:
    """One content block on its way. `call`: its number among the tool calls. `wrapped`: takes the answer out of it.

    `cited`: what a text cites. `start`: characters of text before it.
    """

    __slots__ = ("call", "cited", "document", "kind", "parts", "signature", "start", "wrapped")

    def __init__(self, kind: str, document: dict[str, Any], call: int = 0) -> None:
        self.kind = kind
        self.document = document
        self.call = call
        self.parts: list[str] = []
        self.signature = ""
        self.wrapped: Unwrapper | None = None
        self.cited: list[Any] = []
        self.start = 0


class ChunkStream(_Counts):
    """Translates into chat-completion chunks."""

    native: bool = False

    def __init__(self, chat: Chat, target: Target) -> None:
        super().__init__(target)
        output = output_of(chat.body, lookup(target.model))
        self._binding = output.name if output.kind == "tool" else ""
        self._wrapped = output.wrapped
        self._fence = Fence() if output.kind == "prompt" else None
        self._custom = custom_names(chat.body)
        self._legacy = is_legacy(chat.body)
        options = chat.body.get("stream_options")
        self._wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._envelope: dict[str, Any] = {
            "id": "",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": target.model,
        }
        self._started = False
        self._closed = False
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._chars = 0
        self._thoughts = 0  # thinking blocks with text
        self._signed = 0  # thinking blocks in all
        self._bound = False
        self._annotations = 0

    def feed(self, event: Event) -> list[Piece]:
        document = self._parse(event)
        if document is None:
            return []
        kind = document.get("type")
        if kind == "content_block_delta":
            block, delta = self._blocks.get(_index(document)), document.get("delta")
            return self._delta(block, delta) if block is not None and isinstance(delta, dict) else []
        if kind == "content_block_start":
            return self._start_block(_index(document), document.get("content_block"))
        if kind == "content_block_stop":
            return self._stop_block(self._blocks.pop(_index(document), None))
        if kind == "message_start":
            return self._start(document.get("message"))
        if kind == "message_delta" and self.finished and not self._closed:
            return self._finish(document["delta"])
        return []

    def close(self) -> list[Piece]:
        """The usage chunk, where the client asked for one (`stream_options.include_usage`)."""
        if not (self._wants_usage and self.finished):
            return []
        self._wants_usage = False
        chunk = {**self._envelope, "choices": [], "usage": openai_usage(self._counts)}
        return [Piece(orjson.dumps(chunk), chunk, False)]

    # --- the message ---

    def _start(self, message: Any) -> list[Piece]:
        if isinstance(message, dict):
            self._envelope["id"] = str(message.get("id") or "")
            self._envelope["model"] = str(message.get("model") or self._target.model)
        return self._role()

    def _role(self) -> list[Piece]:
        if self._started:
            return []
        self._started = True
        return [self._chunk({"role": "assistant", "content": ""}, content=False)]

    def _finish(self, delta: dict[str, Any]) -> list[Piece]:
        self._closed = True
        pieces = self._role()
        for index in list(self._blocks):
            pieces += self._stop_block(self._blocks.pop(index))
        if self._fence is not None and (rest := self._fence.end()):
            pieces.append(self._chunk({"content": rest}))
        details = delta.get("stop_details")
        explanation = details.get("explanation") if isinstance(details, dict) else None
        if delta.get("stop_reason") == "refusal" and isinstance(explanation, str):
            pieces.append(self._chunk({"refusal": explanation}))
        stop, called = delta.get("stop_reason"), self._calls > 0
        reason = finish_reason(stop, bound=self._bound, called=called, legacy=self._legacy)
        return [*pieces, self._chunk({}, reason)]

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, *, content: bool = True) -> Piece:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**self._envelope, "choices": [choice]}
        if self._wants_usage:
            chunk["usage"] = None
        return Piece(orjson.dumps(chunk), chunk, content)

    # --- content blocks ---

    def _start_block(self, index: int, given: Any) -> list[Piece]:
        if not isinstance(given, dict):
            return []
        kind = given.get("type")
        if kind == "text":
            self._blocks[index] = block = _Block("text", given)
            block.start = self._chars
            return self._role() + self._delta(block, {"type": "text_delta", "text": given.get("text")})
        if kind == "thinking":
            self._blocks[index] = block = _Block("thinking", given)
            block.signature = str(given.get("signature") or "")
            return self._role() + self._delta(block, {"type": "thinking_delta", "thinking": given.get("thinking")})
        if kind == "redacted_thinking":
            self._blocks[index] = _Block("redacted", given)
            return self._role()
        if kind != "tool_use":
            return []  # server tools and what is yet to come have no form in OpenAI's stream
        name = str(given.get("name") or "")
        if self._binding and name == self._binding:
            if self._bound:
                return []  # called again: two answers in a row would be no JSON at all
            self._bound = True
            self._blocks[index] = block = _Block("binding", given)
            block.wrapped = Unwrapper() if self._wrapped else None
            return self._role()
        if self._legacy and self._calls:
            return []  # `function_call` holds one, and no more was asked for
        self._blocks[index] = block = _Block("custom" if name in self._custom else "tool", given, self._calls)
        self._calls += 1
        if block.kind == "custom":
            call = {"type": "custom", "custom": {"name": name, "input": ""}}
        else:
            call = {"type": "function", "function": {"name": name, "arguments": ""}}
        return [*self._role(), self._call(block, {"id": str(given.get("id") or ""), **call})]

    def _delta(self, block: _Block | None, delta: dict[str, Any]) -> list[Piece]:
        if block is None:
            return []
        kind = delta.get("type")
        if kind == "text_delta" and block.kind == "text":
            return self._say(delta.get("text"))
        if kind == "citations_delta" and block.kind == "text":
            block.cited.append(delta.get("citation"))
            return []
        if kind == "input_json_delta":
            return self._arguments(block, delta.get("partial_json"))
        if kind == "thinking_delta" and block.kind == "thinking":
            return self._think(block, delta.get("thinking"))
        if kind == "signature_delta" and block.kind == "thinking":
            block.signature += str(delta.get("signature") or "")
        return []

    def _say(self, text: Any) -> list[Piece]:
        if not isinstance(text, str) or not text:
            return []
        self._chars += len(text)
        if self._fence is not None:
            text = self._fence.feed(text)
            if not text:
                return []
        return [self._chunk({"content": text})]

    def _think(self, block: _Block, text: Any) -> list[Piece]:
        if not isinstance(text, str) or not text:
            return []
        first = not block.parts
        block.parts.append(text)
        if first:
            self._thoughts += 1
            if self._thoughts > 1:
                text = f"\n\n{text}"
        return [self._chunk({"reasoning_content": text})]

    def _arguments(self, block: _Block, part: Any) -> list[Piece]:
        if not isinstance(part, str) or not part or block.kind not in ("tool", "custom", "binding"):
            return []
        if block.kind == "binding":
            block.parts = [part]  # only that there was one matters
            return self._say(part if block.wrapped is None else block.wrapped.feed(part))
        if block.kind == "custom":
            block.parts.append(part)
            return []
        block.parts = [part]
        return [self._call(block, {"function": {"arguments": part}})]

    def _stop_block(self, block: _Block | None) -> list[Piece]:
        """What can be said of a block only once it is whole: signed thinking, citations, `{}` for no arguments."""
        if block is None:
            return []
        if block.kind == "text":
            return self._cited(block)
        if block.kind in ("thinking", "redacted"):
            return [self._thinking_block(block)]
        whole = dumps(given if isinstance(given := block.document.get("input"), dict) else {})
        if block.kind == "custom":
            try:
                arguments = orjson.loads("".join(block.parts) or whole)
            except orjson.JSONDecodeError:
                arguments = {}  # cut short by the token limit
            text = arguments.get("input", "") if isinstance(arguments, dict) else ""
            return [self._call(block, {"custom": {"input": str(text)}})]
        if block.wrapped is not None:
            return self._say((block.wrapped.feed(whole) if not block.parts else "") + block.wrapped.end())
        if block.parts:
            return []
        return self._say(whole) if block.kind == "binding" else [self._call(block, {"function": {"arguments": whole}})]

    def _cited(self, block: _Block) -> list[Piece]:
        found = url_citations(block.cited, block.start, self._chars)
        if not found:
            return []
        entries = [{"index": number, **one} for number, one in enumerate(found, self._annotations)]
        self._annotations += len(found)
        return [self._chunk({"annotations": entries})]

    def _thinking_block(self, block: _Block) -> Piece:
        if block.kind == "thinking":
            signed = {"type": "thinking", "thinking": "".join(block.parts), "signature": block.signature}
        else:
            signed = block.document
        # `index`: the OpenAI SDK joins the entries of streamed lists by it.
        entry = {"index": self._signed, **placed(signed, self._chars, self._calls)}
        self._signed += 1
        return self._chunk({"thinking_blocks": [entry]})

    def _call(self, block: _Block, fields: dict[str, Any]) -> Piece:
        if self._legacy:
            return self._chunk({"function_call": fields["function"]})
        return self._chunk({"tool_calls": [{"index": block.call, **fields}]})


def _index(document: dict[str, Any]) -> int:
    index = document.get("index")
    return index if isinstance(index, int) else 0
