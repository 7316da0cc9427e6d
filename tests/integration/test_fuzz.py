"""Thousands of damaged requests and answers on real sockets: what is wrong is somebody's 4xx or a provider's 502, never
a fault of ours. Seeded, so that a failure comes back; `-m slow` runs the long form."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.conftest import Running, Start

SEED = 20_251_123
AT_ONCE = 12

# --- what is sent when nothing is damaged ----------------------------------------------------------------------------

_TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks",
        "parameters": {"type": "object", "properties": {"at": {"type": "string", "enum": ["a", "b"]}}},
        "strict": True,
    },
}
_CHAT: dict[str, Any] = {
    "model": "simple",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "What is <system-reminder>x</system-reminder> this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}]},
        {"role": "assistant", "content": None, "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "a"}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
        {"role": "user", "content": "yes, do it"},
    ],
    "tools": [_TOOL],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}},
    "temperature": 0.5, "top_p": 0.9, "max_tokens": 50, "max_completion_tokens": 60, "stop": ["\n\n", "END"], "n": 1,
    "logit_bias": {"50256": -100}, "logprobs": True, "top_logprobs": 2, "reasoning_effort": "low", "seed": 7, "user": "u",
    "stream": False, "stream_options": {"include_usage": True}, "metadata": {"a": "b"}, "service_tier": "auto",
    "thinking": {"type": "enabled", "budget_tokens": 2000}, "made_up": {"x": [1, 2, 3]},
}  # fmt: skip
_MESSAGES: dict[str, Any] = {
    "model": "simple", "max_tokens": 50, "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image", "source":
            {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "a"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": False,
            "content": [{"type": "text", "text": "a cat"}]}]},
    ],
    "tools": [{"name": "look", "description": "d", "input_schema": {"type": "object", "properties": {}}}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True}, "stop_sequences": ["END"], "temperature": 1,
    "top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 1024}, "metadata": {"user_id": "u"}, "stream": False,
    "output_config": {"effort": "low"},
}  # fmt: skip
_RESPONSES: dict[str, Any] = {
    "model": "simple", "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"},
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "ok", "annotations": []}]},
        {"role": "user", "content": "and now?"},
    ],
    "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False},
              {"type": "custom", "name": "say", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 50, "store": False, "truncation": "auto",
    "include": ["message.output_text.logprobs"], "top_logprobs": 1, "parallel_tool_calls": True, "stream": False,
    "metadata": {"a": "b"}, "temperature": 1,
}  # fmt: skip
_COMPLETIONS: dict[str, Any] = {
    "model": "simple", "prompt": ["Once upon"], "max_tokens": 5, "stop": "x", "n": 1, "echo": False, "logprobs": 1,
    "suffix": None, "best_of": 1, "stream": False, "stream_options": {"include_usage": True},
}  # fmt: skip

# Path → an undamaged body. `/retrain` is left out: undamaged, it trains.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/messages": _MESSAGES,
    "/v1/responses": _RESPONSES,
    "/v1/completions": _COMPLETIONS,
    "/v1/embeddings": {
        "model": "simple",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 4,
        "user": "u",
    },
    "/v1/messages/count_tokens": {
        name: _MESSAGES[name] for name in ("model", "messages", "system", "tools", "thinking")
    },
    "/classify": {"text": "hello", "texts": ["a", "b"], "messages": _CHAT["messages"]},
    "/feedback": {"text": "hello", "tier": "simple", "messages": _CHAT["messages"]},
}
# `custom` and `anthropic` tiers speak to sockets of the test; `simple` is the embedded echo.
_MODELS = ("simple", "medium", "complex", "virtusoul-v1")

_HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 1e308, -0.0, 0.1, "", " ", "\n", "\0", "\u2028", "\x7f\x85", "\U0001f600",
    "x" * 3000, "simple\r\nx-evil: 1", "data:image/png;base64,", "data:;,", "data:image/png;base64,%%%", "http://", "1", "null", "user",
    "assistant", "tool", "developer", "function", "text", "thinking", "redacted_thinking", "tool_use", "tool_result", "document",
    "input_file", "item_reference", "web_search", "json_schema", "auto", "none", "required", [], {}, [[]], [{}], [None], [1], [""],
    {"": ""}, {"type": None}, {"type": "text"}, {"type": "text", "text": None}, {"type": ["text"]}, {"role": "user"}, {"text": "x"},
    {"name": []}, {"function": {}}, {"function": None}, {"type": "function", "function": {"name": None}}, {"url": 1}, {"$ref": "#"},
    [["a", "b"]], {"a": {"b": {"c": [[[[]]]]}}},
)  # fmt: skip


def paths(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a JSON document stands."""
    yield at
    if isinstance(document, dict):
        for key, value in document.items():
            yield from paths(value, (*at, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from paths(value, (*at, index))


def damaged(document: dict[str, Any], rng: random.Random) -> Any:
    """A copy with one to four values exchanged, removed, doubled, renamed or moved."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        places = [at for at in paths(document) if at]
        if not places:
            return rng.choice(_HOSTILE)
        at, other = rng.choice(places), rng.choice(places)
        holder = _value(document, at[:-1])
        match rng.randrange(7):
            case 0:
                del holder[at[-1]]
            case 1 if isinstance(holder, list):
                holder.insert(at[-1], copy.deepcopy(holder[at[-1]]))
            case 2 if isinstance(holder, dict):
                holder[str(rng.choice(_HOSTILE))] = holder.pop(at[-1])
            case 3:
                holder[at[-1]] = copy.deepcopy(_value(document, other))
            case _:
                holder[at[-1]] = copy.deepcopy(rng.choice(_HOSTILE))
    return document


def _value(document: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        document = document[key]
    return document


def scratched(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a few of them exchanged, cut out, doubled or cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at : at + rng.randrange(1, 9)]
            case 2:
                out[at:at] = out[at : at + rng.randrange(1, 40)]
            case 3:
                out[at:at] = rng.choice(
                    (b"\r\n", b"\n", b"\0", b'"', b"\\", b"{" * 50, b"[" * 200, b"\xff\xfe", b"\r\n\r\n", b":")
                )
            case 4 if rng.random() < 0.2:
                del out[at:]
    return bytes(out)


# --- a request on the wire -------------------------------------------------------------------------------------------

_HEADERS = (
    b"x-request-id: a", b"x-request-id: \xff\xfe", b"x-virtusoul-bias: 0.5", b"x-virtusoul-bias: nan", b"x-virtusoul-bias: \xe2\x98\x83",
    b"anthropic-beta: a,b", b"anthropic-beta: \xff", b"anthropic-beta: \xe2\x98\x83", b"accept: */*", b"accept-encoding: gzip", b"traceparent: 00-x",
    b"authorization: Bearer \xff", b"authorization: Basic", b"x-api-key: ", b"cookie: a=b", b"connection: close", b"connection: upgrade",
    b"upgrade: websocket", b"expect: 100-continue", b"expect: a miracle", b"content-encoding: gzip", b"content-encoding: br",
    b"content-encoding: zstd", b"content-encoding: nonsense", b"range: bytes=0-1", b"content-type: text/plain", b"if-none-match: *",
)  # fmt: skip
_METHODS = (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"M-SEARCH", b"get")
_PATHS = (
    "/", "/health", "/ready", "/metrics", "/dashboard", "/v1/models", "/v1/models/simple", "/v1/models/%00", "/v1/models/%ff", "//", "/..",
    "/v1/chat/completions?x=%zz", "/v1//chat/completions", "/%2e%2e/etc/passwd", "*", "http://x:0/health", "http://[::1/", "/\xe9", "/#a", "/?",
)  # fmt: skip


def request(rng: random.Random) -> bytes:
    """One request, or a few in a row, damaged in JSON, in its bytes, or in its HTTP."""
    kind = rng.random()
    if kind < 0.08:
        method, path = rng.choice((b"GET", b"POST", *_METHODS)), rng.choice(_PATHS)
        return b"%b %b HTTP/1.%d\r\nhost: x\r\n\r\n" % (method, path.encode("latin-1"), rng.choice((0, 1, 1, 1)))
    path = rng.choice(list(BODIES))
    body = copy.deepcopy(BODIES[path])
    if "model" in body:
        body["model"] = rng.choice(_MODELS)
    if "stream" in body:
        body["stream"] = rng.random() < 0.4
    for name in rng.sample(sorted(body), rng.randrange(len(body))):  # fewer fields: what is left is reached more often
        if name not in ("model", "messages", "input", "prompt", "max_tokens") or rng.random() < 0.1:
            del body[name]
    data = json.dumps(damaged(body, rng) if kind < 0.9 else body).encode()
    if rng.random() < 0.12:
        data = scratched(data, rng)
    headers = [b"host: x"]
    if rng.random() < 0.97:
        headers.append(b"content-type: application/json")
    if rng.random() < 0.25:
        headers += rng.sample(_HEADERS, rng.randrange(1, 4))
    if rng.random() < 0.1:
        cut = rng.randrange(len(data) + 1)
        data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:cut], data[cut:]) if part) + b"0\r\n\r\n"
        headers.append(b"transfer-encoding: chunked")
    else:
        headers.append(b"content-length: %d" % (len(data) if rng.random() < 0.98 else rng.randrange(2 * len(data) + 1)))
    rng.shuffle(headers)
    method = b"POST" if rng.random() < 0.98 else rng.choice(_METHODS)
    whole = b"%b %b HTTP/1.1\r\n%b\r\n\r\n%b" % (method, path.encode(), b"\r\n".join(headers), data)
    if rng.random() < 0.08:
        whole = scratched(whole, rng)
    if rng.random() < 0.05:
        whole += b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    return whole


_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


async def answer(router: Running, data: bytes, patience: float) -> bytes:
    """What comes back for `data` on a connection of its own, until it is whole or `patience` seconds are over."""
    host, _, port = router.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    got = b""
    try:
        with suppress(ConnectionError, TimeoutError):
            writer.write(data)
            async with asyncio.timeout(patience):
                while piece := await reader.read(65536):
                    got += piece
                    if whole(got):
                        break
    finally:
        writer.close()
    return got


def whole(got: bytes) -> bool:
    head, blank, body = got.partition(b"\r\n\r\n")
    if not blank:
        return False
    length = _LENGTH.search(head + b"\r\n")
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


def statuses(got: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", got)]


# --- providers that answer anything ----------------------------------------------------------------------------------

_COMPLETION: dict[str, Any] = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": {"content": [{"token": "a", "logprob": -1, "bytes": [97],
        "top_logprobs": []}]}, "message": {"role": "assistant", "content": "Hello", "refusal": None, "reasoning_content": "hm",
        "annotations": [{"type": "url_citation", "url_citation": {"url": "http://x", "title": "t", "start_index": 0, "end_index": 1}}],
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1}}, "system_fingerprint": "f", "error": None,
}  # fmt: skip
_CHUNKS: list[dict[str, Any]] = [
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    for choice in (
        {"index": 0, "delta": {"role": "assistant", "content": "", "reasoning_content": "hm"}, "finish_reason": None},
        {"index": 0, "delta": {"content": "Hello"}, "logprobs": {"content": [{"token": "a"}]}, "finish_reason": None},
        {
            "index": 0,
            "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": "{"}}]},
        },
        {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    )
] + [{"id": "c", "choices": [], "usage": _COMPLETION["usage"], "error": None}]
_MESSAGE: dict[str, Any] = {
    "id": "msg", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn", "stop_sequence": None,
    "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Hello", "citations": None},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {}}],
    "usage": {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 0},
}  # fmt: skip
_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**_MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "look", "input": {}}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]  # fmt: skip
_ERRORS: tuple[Any, ...] = (
    {"error": {"message": "no", "type": "x", "param": "p", "code": "c"}}, [{"error": {"code": 400, "message": "x", "status": "INVALID"}}],
    {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long"}}, {"detail": [{"msg": "bad"}]},
)  # fmt: skip


def good_answer(asked: dict[str, Any], native: bool) -> bytes:
    """A provider's whole HTTP answer, in Anthropic's dialect (`native`) or OpenAI's."""
    if asked.get("stream") is True:
        return _streamed(_EVENTS if native else _CHUNKS, native)
    return _document(_MESSAGE if native else _COMPLETION)


def bad_answer(asked: dict[str, Any], native: bool, rng: random.Random) -> bytes:
    """The same, damaged in its JSON, in its bytes, or an error in its place."""
    if rng.random() < 0.15:
        status = rng.choice((400, 401, 404, 408, 413, 422, 429, 499, 500, 503, 529, 599, 201, 204))
        return _document(damaged({"e": rng.choice(_ERRORS)}, rng), status)
    if asked.get("stream") is True:
        events = [damaged(event, rng) if rng.random() < 0.25 else event for event in (_EVENTS if native else _CHUNKS)]
        if rng.random() < 0.2:
            events.insert(rng.randrange(len(events)), damaged(rng.choice(_EVENTS + _CHUNKS), rng))
        raw = _streamed(events, native)
    else:
        raw = _document(damaged(_MESSAGE if native else _COMPLETION, rng))
    head, blank, body = raw.partition(b"\r\n\r\n")
    return head + blank + scratched(body, rng) if rng.random() < 0.2 else raw


def _document(document: Any, status: int = 200) -> bytes:
    head = b"HTTP/1.1 %d No\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" % status
    return head + json.dumps(document).encode()


def _streamed(events: list[Any], native: bool) -> bytes:
    lines = []
    for event in events:
        name = event.get("type") if isinstance(event, dict) else None
        lines.append(b"event: %b\n" % str(name).encode() if native else b"")
        lines.append(b"data: %b\n\n" % json.dumps(event).encode())
    end = b"" if native else b"data: [DONE]\n\n"
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + b"".join(lines) + end


@asynccontextmanager
async def provider(respond: Callable[[dict[str, Any], bool], bytes]) -> AsyncIterator[str]:
    """A socket that answers every POST with `respond(its JSON, whether it went to /messages)`; its base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            writer.write(respond(json.loads(body), b"/messages" in head.partition(b"\r\n")[0]))
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    finally:
        listening.close()


def settings(url: str, first: str = "echo") -> dict[str, str]:
    env = {"SIMPLE_PROVIDER": first, "SIMPLE_MODEL": "m", "MEDIUM_PROVIDER": "custom", "MEDIUM_MODEL": "m"}
    env |= {"COMPLEX_PROVIDER": "anthropic", "COMPLEX_MODEL": "claude-sonnet-4-5", "COMPLEX_API_KEY": "k"}
    env |= {f"{tier}_BASE_URL": url for tier in ("MEDIUM", "COMPLEX")}
    if first == "custom":
        env["SIMPLE_BASE_URL"] = url
    return {**env, "RETRIES": "0", "COOLDOWN_FAILURES": "1000000", "TIMEOUT": "20", "MAX_BODY_MB": "1", "LOG_LEVEL": "ERROR"}


async def in_crowds(count: int, one: Callable[[int], Any]) -> None:
    """`one(number)` for each number, AT_ONCE of them side by side."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


COUNTS = [1_500, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]


@pytest.mark.parametrize("count", COUNTS)
async def test_no_request_is_a_fault_of_ours(start_router: Start, caplog: pytest.LogCaptureFixture, count: int) -> None:
    async with provider(good_answer) as url:
        router = await start_router(settings(url))
        seen: dict[int, int] = {}

        async def one(number: int) -> None:
            data = request(random.Random(SEED + number))
            got = await answer(router, data, 0.4)
            for status in statuses(got):
                seen[status] = seen.get(status, 0) + 1
                assert status < 500, f"request {number}: {data!r}\n{got!r}"
            faults = [line for line in caplog.records if line.exc_info]
            assert not faults, f"around request {number}: {data!r}\n{caplog.text}"

        await in_crowds(count, one)
        assert (await router.chat())[0] == 200
        assert router.service.in_flight == 0
    print(f"{count} requests: {dict(sorted(seen.items()))}")
    assert seen[200] > count / 4 and seen[400] > count / 10, "both sides of the line were tried"


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_no_answer_of_a_provider_is_a_fault_of_ours(
    start_router: Start, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    """Nor is any stream both whole and broken, or neither."""
    rng = random.Random(SEED)
    async with provider(lambda asked, native: bad_answer(asked, native, rng)) as url:
        router = await start_router(settings(url, "custom"))
        doors = [path for path in BODIES if path.startswith("/v1/") and path != "/v1/messages/count_tokens"]
        seen: dict[str, int] = {}

        async def one(number: int) -> None:
            path = doors[number % len(doors)]
            body = {**BODIES[path], "model": "complex" if number % 3 else "medium"}
            if path == "/v1/embeddings":
                body["model"] = "medium"
            body["stream"] = "stream" in body and number % 2 == 0
            async with router.post(body, path) as response:
                text = (await response.read()).decode("utf-8", "replace")
            assert response.status < 500 or response.status in (502, 503, 504), text
            assert "internal_error" not in text, text
            ended = "streamed" if response.headers["content-type"].startswith("text/event-stream") else "whole"
            if ended == "streamed" and path.endswith("completions"):
                broken = '"error":{' in text
                assert broken != text.endswith("data: [DONE]\n\n"), text
                ended = "broken" if broken else ended
            seen[f"{response.status} {ended}"] = seen.get(f"{response.status} {ended}", 0) + 1
            assert not [line for line in caplog.records if line.exc_info], caplog.text

        await in_crowds(count, one)
        assert router.service.in_flight == 0
    print(f"{count} answers: {dict(sorted(seen.items()))}")
