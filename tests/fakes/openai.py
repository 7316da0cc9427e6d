"""A scriptable OpenAI server on a real socket. How to use it: `tests.fakes.server`. Standalone:

    python -m tests.fakes.openai --port 8001 --text "Hello"

Steps: `Answer` (below); `Status`, `Silence`, `Reset`, `Stream`, `Raw` (re-exported from `tests.fakes.server`).
`Answer` is a whole completion, or a stream of it where the request says `"stream": true`. In a `Stream`, a str chunk is
a content delta and a dict is a whole chunk document. `stream_options.include_usage` is honoured by both. Requests to
`…/embeddings` get vectors `[0.25] * 4` whatever the `Answer`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.server import Fake, Raw, Request, Reset, Silence, Status, Stream

__all__ = ["Answer", "FakeOpenAI", "Raw", "Request", "Reset", "Silence", "Status", "Stream", "tool"]

USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 7,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 4},
}


def tool(name: str, arguments: Any = None, id: str = "") -> dict[str, Any]:
    """A tool call as it stands in a message. `arguments`: a JSON text, or anything that becomes one."""
    text = arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments)
    return {"id": id or f"call_{name}", "type": "function", "function": {"name": name, "arguments": text}}


@dataclass(frozen=True)
class Answer:
    """A good answer. `extra` joins the document (and every chunk), `message` the message (and the first delta)."""

    text: str | None = "Hello world"
    tools: Sequence[Mapping[str, Any]] = ()
    finish: str | None = None
    usage: Mapping[str, Any] | None = field(default_factory=lambda: dict(USAGE))
    extra: Mapping[str, Any] = field(default_factory=dict)
    message: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0

    @property
    def finish_reason(self) -> str:
        return self.finish or ("tool_calls" if self.tools else "stop")


class FakeOpenAI(Fake):
    """See the module. `fake.url` is the base URL."""

    def default_step(self) -> Answer:
        return Answer()

    def error_body(self, status: int, message: str) -> bytes:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}}).encode()

    async def answer(self, step: Answer, request: Request, http: web.Request) -> web.StreamResponse:
        if step.delay:
            await asyncio.sleep(step.delay)
        if request.path.endswith("/embeddings"):
            return web.json_response(_embeddings(request.json or {}), headers=dict(step.headers))
        if (request.json or {}).get("stream"):
            chunks = _chunks_of(step, request)
            return await self._stream(Stream(chunks, headers=step.headers), request, http)
        return web.json_response(_completion(step, request), headers=dict(step.headers))

    def frames(self, step: Stream, request: Request) -> tuple[list[bytes], list[bytes], list[bytes]]:
        written = all(not isinstance(chunk, str) for chunk in step.chunks)
        before = [] if written else [_frame(_chunk(request, {"role": "assistant", "content": ""}))]
        chunks = [_encode(chunk, request) for chunk in step.chunks]
        after = [] if written else [_frame(_chunk(request, {}, "stop")), *_usage_frame(request)]
        return before, chunks, [*after, b"data: [DONE]\n\n"]


def _encode(chunk: str | Mapping[str, Any] | bytes, request: Request) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, str):
        return _frame(_chunk(request, {"content": chunk}))
    return _frame(chunk)


def _frame(document: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _model(request: Request) -> str:
    return str((request.json or {}).get("model", "fake"))


def _chunk(request: Request, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": _model(request),
        "choices": [{"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}],
    }


def _usage_frame(request: Request, usage: Mapping[str, Any] | None = None) -> list[bytes]:
    options = (request.json or {}).get("stream_options") or {}
    if not options.get("include_usage"):
        return []
    return [_frame({**_chunk(request, {}), "choices": [], "usage": dict(usage or USAGE)})]


def _chunks_of(step: Answer, request: Request) -> list[Mapping[str, Any] | bytes]:
    """The answer in the pieces that the real API sends: role, words, calls with split arguments, finish, usage."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "" if step.text else None, **step.message}]
    words = (step.text or "").split(" ")
    deltas += [{"content": word if index == 0 else f" {word}"} for index, word in enumerate(words) if step.text]
    for index, call in enumerate(step.tools):
        function = dict(call["function"])
        arguments = function.pop("arguments")
        middle = len(arguments) // 2
        deltas.append({"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
        for part in (arguments[:middle], arguments[middle:]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    chunks: list[Mapping[str, Any] | bytes] = [{**_chunk(request, delta), **step.extra} for delta in deltas]
    chunks.append({**_chunk(request, {}, step.finish_reason), **step.extra})
    return chunks + (list(_usage_frame(request, step.usage)) if step.usage is not None else [])


def _completion(step: Answer, request: Request) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": step.text, "refusal": None, **step.message}
    if step.tools:
        message["tool_calls"] = [dict(call) for call in step.tools]
        message["content"] = step.text if step.text != "Hello world" else None
    count = (request.json or {}).get("n") or 1
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": step.finish_reason}
        for index in range(count)
    ]
    document: dict[str, Any] = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1700000000,
        "model": _model(request),
        "choices": choices,
    }
    if step.usage is not None:
        document["usage"] = dict(step.usage)
    return {**document, **step.extra}


def _embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    given = body.get("input")
    count = len(given) if isinstance(given, list) else 1
    data = [{"object": "embedding", "index": index, "embedding": [0.25] * 4} for index in range(count)]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--text", default="Hello world")
    options = parser.parse_args()
    fake = FakeOpenAI(Answer(options.text), port=options.port)
    await fake.start()
    print(f"OpenAI fake on {fake.url}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
