"""A strict fake of Anthropic's Messages API on a real socket. How to use it: `tests.fakes.server`. Standalone:

    python -m tests.fakes.anthropic --port 8002 --key sk-ant-test

Every request is held against `tests.fakes.anthropic_rules`; what the real API would refuse is refused in its words, and
consumes no step. Steps: `Answer` (below); `Status`, `Silence`, `Reset`, `Stream`, `Raw` (from `tests.fakes.server`).
An `Answer` is a whole message, or a stream of it with pings where the request says `"stream": true`. In a `Stream`, a
str chunk is a text delta of one block and a dict is a whole event. Thinking is signed; a later request that brings it
back altered (or, for the models that bind it, after an altered beginning) gets the API's 400.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.anthropic_rules import objection, sign
from tests.fakes.server import Fake, Raw, Request, Reset, Silence, Status, Stream

__all__ = [
    "Answer", "FakeAnthropic", "Raw", "Request", "Reset", "Silence", "Status", "Stream", "events_of", "redacted",
    "text", "thinking", "tool_use",
]  # fmt: skip

USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 5,
    "output_tokens": 7,
}
KEY = "sk-ant-test"
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def tool_use(name: str, input: Mapping[str, Any] | None = None, id: str = "") -> dict[str, Any]:
    return {"type": "tool_use", "id": id or f"toolu_{name}", "name": name, "input": dict(input or {})}


def thinking(words: str) -> dict[str, Any]:
    """Signed when it is sent."""
    return {"type": "thinking", "thinking": words}


def redacted(data: str = "red_1") -> dict[str, Any]:
    return {"type": "redacted_thinking", "data": data}


@dataclass(frozen=True)
class Answer:
    """A good answer: its content blocks (a str is one text block). `error`: an error event after the content."""

    content: str | Sequence[Mapping[str, Any]] = "Hello world"
    stop: str | None = None
    usage: Mapping[str, Any] = field(default_factory=lambda: dict(USAGE))
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    error: Mapping[str, Any] | None = None

    @property
    def blocks(self) -> list[dict[str, Any]]:
        return [text(self.content)] if isinstance(self.content, str) else [dict(block) for block in self.content]

    @property
    def stop_reason(self) -> str:
        return self.stop or ("tool_use" if any(b["type"] == "tool_use" for b in self.blocks) else "end_turn")


class FakeAnthropic(Fake):
    """See the module. `fake.url` ends in /v1; `fake.root` does not. `key`: None takes any."""

    def __init__(self, *steps: Any, key: str | None = KEY, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(*steps, host=host, port=port)
        self.key = key
        self.refused: list[str] = []

    def default_step(self) -> Answer:
        return Answer()

    def error_body(self, status: int, message: str, kind: str = "") -> bytes:
        error = {"type": kind or _KINDS.get(status, "api_error"), "message": message}
        return json.dumps({"type": "error", "error": error, "request_id": "req_fake"}).encode()

    def refusal(self, request: Request) -> Status | None:
        if request.path != "/v1/messages":
            return Status(404, self.error_body(404, f"Not found: {request.path}"))
        found = objection(request.headers, request.json, self.key)
        if found is None:
            return None
        status, kind, message = found
        self.refused.append(message)
        return Status(status, self.error_body(status, message, kind))

    async def answer(self, step: Answer, request: Request, http: web.Request) -> web.StreamResponse:
        if step.delay:
            await asyncio.sleep(step.delay)
        body = request.json
        blocks = _signed(step.blocks, body)
        if body.get("stream"):
            events = events_of(step, blocks, body)
            return await self._stream(Stream(events, done=False, headers=step.headers), request, http)
        return web.json_response(_message(step, blocks, body), headers=dict(step.headers))

    def frames(self, step: Stream, request: Request) -> tuple[list[bytes], list[bytes], list[bytes]]:
        if not any(isinstance(chunk, str) for chunk in step.chunks):
            return [], [_frame(chunk) for chunk in step.chunks], []
        message = {**_message(Answer([]), [], request.json), "stop_reason": None}
        before = [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": text("")},
        ]
        after = [
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 7},
            },
            {"type": "message_stop"},
        ]
        return [_frame(e) for e in before], [_frame(chunk) for chunk in step.chunks], [_frame(e) for e in after]


def _frame(chunk: str | Mapping[str, Any] | bytes) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, str):
        chunk = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": chunk}}
    return f"event: {chunk['type']}\ndata: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


def _signed(blocks: list[dict[str, Any]], body: Mapping[str, Any]) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = []
    for block in blocks:
        signed = block["type"] != "thinking" or "signature" in block
        done.append(block if signed else {**block, "signature": sign(block, body, done)})
    return done


def _message(step: Answer, blocks: list[dict[str, Any]], body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks,
        "stop_reason": step.stop_reason,
        "stop_sequence": None,
        "usage": dict(step.usage),
        **step.extra,
    }


def events_of(step: Answer, blocks: list[dict[str, Any]], body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The events of an answer, cut as the API cuts them: an empty start, deltas, pings in between."""
    start = _message(step, [], body)
    start |= {"stop_reason": None, "usage": {**step.usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(blocks):
        empty, deltas = _opened(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    if step.error is not None:
        return [*events, {"type": "error", "error": dict(step.error)}]
    delta = {"stop_reason": step.stop_reason, "stop_sequence": None}
    delta |= {name: value for name, value in step.extra.items() if name.startswith("stop_")}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": step.usage["output_tokens"]}})
    events.append({"type": "message_stop"})
    return events


def _opened(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The block as `content_block_start` shows it, and the deltas that fill it."""
    kind = block["type"]
    if kind == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in _halves(block["text"])]
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": part} for part in _halves(block["thinking"])]
        signature = {"type": "signature_delta", "signature": block["signature"]}
        return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature]
    if kind == "tool_use":
        whole = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", *_halves(whole))]
        return {**block, "input": {}}, deltas
    return dict(block), []


def _halves(whole: str) -> list[str]:
    middle = len(whole) // 2
    return [part for part in (whole[:middle], whole[middle:]) if part]


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8002)
    parser.add_argument("--key", default=KEY)
    options = parser.parse_args()
    fake = FakeAnthropic(key=options.key, port=options.port)
    await fake.start()
    print(f"Anthropic fake on {fake.url}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
