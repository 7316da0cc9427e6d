"""What upstreams do wrong, each on a real socket: sixteen faults, and what the client gets."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from router import dispatch
from tests.conftest import Running, Start, tier_env
from tests.fakes.openai import Answer, FakeOpenAI, Raw, Reset, Silence, Status, Stream
from tests.integration.conftest import pair_env


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BACKOFF_BASE", 0.01)


def events(text: str) -> list[Any]:
    """The data of a stream's events; comments left out."""
    data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}


def said(text: str) -> str:
    chunks = [event for event in events(text) if event != "[DONE]" and event.get("choices")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


async def test_429_with_retry_after_is_waited_for_every_time(pair: Running, fake: FakeOpenAI) -> None:
    limited = Status(429, headers={"retry-after-ms": "150"})
    fake.script(limited, limited, Answer("at last"))
    began = time.perf_counter()
    status, body = await pair.chat()
    assert time.perf_counter() - began >= 0.3
    assert (status, body["choices"][0]["message"]["content"]) == (200, "at last")
    assert body["_virtusoul"]["attempts"] == 3


async def test_429_for_ever_falls_back(pair: Running, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    fake.script(Status(429))
    status, body = await pair.chat()
    assert status == 200
    assert (body["_virtusoul"]["tier"], body["_virtusoul"]["requested_tier"]) == ("complex", "simple")
    assert body["_virtusoul"]["attempts"] == 4
    assert (len(fake.requests), len(other.requests)) == (3, 1)
    assert other.last.json["model"] == "complex-model"


async def test_the_log_says_why_a_provider_could_not_be_reached(
    start_router: Start, fake: FakeOpenAI, capfd: pytest.CaptureFixture[str]
) -> None:
    async with FakeOpenAI() as gone:
        env = tier_env("simple", gone)
    router = await start_router({**env, "RETRIES": "0"})
    assert (await router.chat())[0] == 502
    router.service.request_log.flush()
    assert "error=connect cause=ConnectionRefusedError" in capfd.readouterr().err


async def test_429_for_ever_without_fallback_stays_429(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "RETRIES": "0"})
    fake.script(Status(429, headers={"retry-after": "7"}))
    async with router.post({"model": "simple", "messages": [{"role": "user", "content": "x"}]}) as response:
        assert response.status == 429
        assert response.headers["retry-after"] == "7"
        assert (await response.json())["error"]["type"]


async def test_429_stays_429_when_the_fallback_fails_too(pair: Running, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    fake.script(Status(429))
    other.script(Status(500))
    assert (await pair.chat())[0] == 429


@pytest.mark.parametrize(("status", "logged"), [(401, "key was refused"), (403, "key was refused"), (404, "404")])
async def test_429_stays_429_when_the_fallback_is_set_up_wrong(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, caplog: pytest.LogCaptureFixture, status: int, logged: str
) -> None:
    router = await start_router(pair_env(fake, other, RETRIES="0"))
    fake.script(Status(429, headers={"retry-after": "9"}))
    other.script(Status(status))
    async with router.post({"model": "simple", "messages": [{"role": "user", "content": "x"}]}) as response:
        assert (response.status, response.headers.get("retry-after")) == (429, "9")
    (warned,) = [line.getMessage() for line in caplog.records if line.name == "router.dispatch"]
    assert "'complex'" in warned and logged in warned


@pytest.mark.parametrize("refused", [Status(400), Status(422), Status(400, {"error": {"message": "content_policy"}})])
async def test_a_fallback_that_refuses_the_request_itself_is_heard_after_a_429(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, refused: Status
) -> None:
    router = await start_router(pair_env(fake, other, RETRIES="0"))
    fake.script(Status(429))
    other.script(refused)
    assert (await router.chat())[0] == refused.code


async def test_500_once_is_retried(pair: Running, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    fake.script(Status(500), Answer())
    status, body = await pair.chat()
    assert (status, body["_virtusoul"]["attempts"], len(other.requests)) == (200, 2, 0)


async def test_503_for_ever_falls_back(pair: Running, fake: FakeOpenAI) -> None:
    fake.script(Status(503))
    status, body = await pair.chat()
    assert (status, body["_virtusoul"]["tier"]) == (200, "complex")
    assert len(fake.requests) == 3


async def test_503_for_ever_without_fallback_is_502(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router(tier_env("simple", fake))
    fake.script(Status(503, body={"error": {"message": "down for repairs"}}))
    status, body = await router.chat()
    assert status == 502
    assert "503" in body["error"]["message"] and "down for repairs" in body["error"]["message"]


async def test_a_reset_before_headers_is_retried(pair: Running, fake: FakeOpenAI) -> None:
    fake.script(Reset(), Answer())
    status, body = await pair.chat()
    assert (status, body["_virtusoul"]["attempts"]) == (200, 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_silence_is_never_asked_again(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, stream: bool
) -> None:
    router = await start_router(pair_env(fake, other, ATTEMPT_TIMEOUT="0.3"))
    fake.script(Silence())
    began = time.perf_counter()
    if stream:
        status, text = await router.stream()
        assert said(text) == "Hello world"
    else:
        status, _ = await router.chat()
    assert status == 200
    assert 0.25 < time.perf_counter() - began < 1.0
    assert (len(fake.requests), len(other.requests)) == (1, 1)


async def test_silence_everywhere_is_504(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "ATTEMPT_TIMEOUT": "0.2"})
    fake.script(Silence())
    status, body = await router.chat()
    assert (status, len(fake.requests)) == (504, 1)
    assert body["error"]["code"] == "upstream_timeout"


async def test_one_deadline_over_all_attempts(start_router: Start, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    router = await start_router(pair_env(fake, other, TIMEOUT="0.5", ATTEMPT_TIMEOUT="0.4"))
    fake.script(Silence())
    other.script(Silence())
    began = time.perf_counter()
    status, _ = await router.chat()
    assert status == 504
    assert time.perf_counter() - began < 0.9


async def test_a_late_first_token_falls_back(start_router: Start, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    router = await start_router(pair_env(fake, other, FIRST_TOKEN_TIMEOUT="0.3"))
    fake.script(Stream(["too late"], first_delay=5))
    status, text = await router.stream()
    assert (status, said(text)) == (200, "Hello world")
    assert events(text)[0]["_virtusoul"]["requested_tier"] == "simple"
    assert (len(fake.requests), events(text)[-1]) == (1, "[DONE]")


@pytest.mark.parametrize(
    "fault", [Stream(["one ", "two ", "three"], cut_after=2), Stream(["one ", "two "], stall_after=2)]
)
async def test_a_broken_stream_ends_in_one_error_event(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, fault: Stream
) -> None:
    router = await start_router(pair_env(fake, other, STREAM_IDLE_TIMEOUT="0.3"))
    fake.script(fault)
    status, text = await router.stream()
    got = events(text)
    assert status == 200
    assert said("\n".join(line for line in text.splitlines() if "error" not in line)) == "one two "
    assert "error" in got[-1] and got[-1]["error"]["message"]
    assert sum(1 for event in got if "error" in event) == 1
    assert "[DONE]" not in got
    assert other.requests == []


@pytest.mark.parametrize("fault", [Stream(["one ", "two "], cut_after=1), Stream(["one ", "two "], stall_after=1)])
async def test_a_buffered_stream_comes_whole_from_the_fallback(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, fault: Stream
) -> None:
    router = await start_router(pair_env(fake, other, STREAM_IDLE_TIMEOUT="0.3", STREAM_RECOVERY="buffer"))
    fake.script(fault)
    status, text = await router.stream()
    assert (status, said(text), events(text)[-1]) == (200, "Hello world", "[DONE]")
    assert events(text)[0]["_virtusoul"]["tier"] == "complex"


async def test_a_malformed_event_is_skipped(pair: Running, fake: FakeOpenAI) -> None:
    fake.script(Stream(["one ", "two ", "three"], malformed_at=1))
    _, text = await pair.stream()
    assert (said(text), events(text)[-1]) == ("one two three", "[DONE]")


@pytest.mark.parametrize("keep_open", [False, True])
async def test_a_stream_without_done_is_finished(pair: Running, fake: FakeOpenAI, keep_open: bool) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
    chunks = [chunk({"content": "Hello"}), chunk({"content": " world"}), chunk({}, "stop")]
    fake.script(Stream([*chunks, {"choices": [], "usage": usage}], done=False, keep_open=keep_open))
    began = time.perf_counter()
    _, text = await pair.stream(stream_options={"include_usage": True})
    assert time.perf_counter() - began < 3
    got = events(text)
    assert (said(text), got[-1], got[-2]["usage"]["total_tokens"]) == ("Hello world", "[DONE]", 19)


CONTEXT = Status(
    400, body={"error": {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded"}}
)


@pytest.mark.parametrize(
    ("windows", "served"), [(("10", "100000"), True), ((None, None), True), (("90000", "80000"), False)]
)
async def test_context_length_moves_to_a_larger_window_only(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, windows: tuple[str | None, str | None], served: bool
) -> None:
    env = pair_env(fake, other)
    for tier, window in zip(("SIMPLE", "COMPLEX"), windows, strict=True):
        if window is not None:
            env[f"{tier}_CONTEXT_WINDOW"] = "90000" if window == "10" else window
    router = await start_router(env)
    fake.script(CONTEXT)
    status, body = await router.chat()
    assert len(fake.requests) == 1
    assert status == (200 if served else 400)
    if not served:
        assert body["error"]["code"] == "context_length_exceeded"
        assert other.requests == []


@pytest.mark.parametrize("status", [404, 413, 422])
async def test_a_refusal_of_length_keeps_its_status_and_its_way_out(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, status: int
) -> None:
    fake.script(Status(status, CONTEXT.body))
    alone = await start_router(tier_env("simple", fake))
    answered, body = await alone.chat()
    assert (answered, body["error"]["code"]) == (status, "context_length_exceeded")
    pair = await start_router(pair_env(fake, other))
    answered, body = await pair.chat()
    assert (answered, body["_virtusoul"]["tier"]) == (200, "complex")


async def test_a_content_filter_is_never_shopped_around(pair: Running, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    fake.script(Status(400, body={"error": {"message": "flagged: violence", "code": "content_filter", "type": "x"}}))
    status, body = await pair.chat()
    assert (status, body["error"]["code"], len(fake.requests), len(other.requests)) == (400, "content_filter", 1, 0)
    assert "violence" in body["error"]["message"]


async def test_a_fallback_that_takes_no_assistant_message_at_the_end(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI
) -> None:
    async with FakeOpenAI() as third:
        env = {**pair_env(fake, other), **tier_env("reasoning", third)}
        env["SIMPLE_FALLBACKS"] = "complex,reasoning"
        router = await start_router(env)
        fake.script(Status(503))
        refusal = (
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
        other.script(Status(400, body={"error": {"message": refusal}}))
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "Sure, "}]
        status, body = await router.chat(messages=messages)
        assert (status, body["_virtusoul"]["tier"]) == (200, "reasoning")
        third.script(Status(400, body={"error": {"message": refusal}}))
        status, body = await router.chat(messages=messages)
        assert status == 502, "the failure of the tier that was asked for, not of the one that could not stand in"


async def test_a_client_error_stops(pair: Running, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    for code in (400, 404, 413, 422):
        fake.script(Status(code, body={"error": {"message": "no such parameter", "param": "foo"}}))
        status, body = await pair.chat()
        assert (status, body["error"]["param"]) == (code, "foo")
    assert other.requests == []


@pytest.mark.parametrize("code", [401, 403])
async def test_a_refused_key_names_the_tier_and_hides_the_key(
    pair: Running, fake: FakeOpenAI, other: FakeOpenAI, code: int
) -> None:
    fake.script(Status(code, body={"error": {"message": "Incorrect API key provided: sk-simple-secret-key"}}))
    status, body = await pair.chat()
    assert status == 502
    assert "'simple'" in body["error"]["message"]
    assert "sk-simple" not in json.dumps(body)
    assert other.requests == []


async def test_html_from_a_proxy_is_a_clean_502(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "RETRIES": "0"})
    page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    for answer in (
        Status(502, body=page, headers={"content-type": "text/html"}),
        Status(200, body=page, headers={"content-type": "text/html"}),
    ):
        fake.script(answer)
        status, body = await router.chat()
        assert status == 502
        assert "<html" not in body["error"]["message"]
        assert (await router.stream())[0] == 502


async def test_redirects_are_not_followed(start_router: Start, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "RETRIES": "0"})
    fake.script(Status(307, headers={"location": other.url + "/chat/completions"}))
    assert (await router.chat())[0] == 502
    assert other.requests == []


async def test_a_truncated_body_is_no_answer(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "RETRIES": "0"})
    fake.script(Raw(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{"choices": ['))
    assert (await router.chat())[0] == 502


async def test_an_unreachable_upstream_falls_back(start_router: Start, fake: FakeOpenAI) -> None:
    async with FakeOpenAI() as gone:
        env = pair_env(gone, fake)
    router = await start_router(env)
    status, body = await router.chat()
    assert (status, body["_virtusoul"]["tier"]) == (200, "complex")


async def test_a_primary_that_flaps_is_rested_probed_and_taken_back(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI
) -> None:
    env = pair_env(fake, other, COOLDOWN_FAILURES="3", COOLDOWN="0.3", RETRIES="0")
    router = await start_router(env)
    fake.script(Status(503))
    for _ in range(30):
        status, body = await router.chat()
        assert (status, body["_virtusoul"]["tier"]) == (200, "complex")
        await asyncio.sleep(0.02)
    assert await router.metric('virtusoul_circuit_open{tier="simple"}') == 1
    # Three to open it, then one probe per cooldown.
    assert 3 <= len(fake.requests) <= 6
    fake.script(Answer())
    recovered = time.perf_counter()
    while (await router.chat())[1]["_virtusoul"]["tier"] != "simple":
        assert time.perf_counter() - recovered < 1
        await asyncio.sleep(0.01)
    assert await router.metric('virtusoul_circuit_open{tier="simple"}') == 0


async def test_half_open_probes_never_storm(start_router: Start, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    env = pair_env(fake, other, COOLDOWN_FAILURES="1", COOLDOWN="0.2", RETRIES="0")
    router = await start_router(env)
    fake.script(Status(503), Silence())
    await router.chat()
    await asyncio.sleep(0.25)
    waiting = [asyncio.create_task(router.chat()) for _ in range(20)]
    await asyncio.wait(waiting, timeout=0.5)
    assert len(fake.requests) == 2
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_accounting_after_a_fallback_names_the_fallback(pair: Running, fake: FakeOpenAI) -> None:
    fake.script(Status(500))
    tokens = 'virtusoul_tokens_total{kind="prompt",tier="complex"}'
    before = await pair.metric(tokens)
    sample = 'virtusoul_fallbacks_total{from="simple",reason="server_error",to="complex"}'
    fallbacks = await pair.metric(sample)
    _, body = await pair.chat()
    assert body["model"] == "complex-model"
    assert body["_virtusoul"]["routed_to"] == "custom/complex-model"
    assert await pair.metric(tokens) - before == body["usage"]["prompt_tokens"]
    assert await pair.metric(sample) - fallbacks == 1


async def test_an_error_event_before_content_is_an_error(pair: Running, fake: FakeOpenAI) -> None:
    fake.script(Stream([{"error": {"message": "overloaded", "code": 503}}], done=False))
    _, text = await pair.stream()
    assert said(text) == "Hello world", "nothing was committed, so the fallback served"


async def test_an_error_event_after_content_ends_the_stream(pair: Running, fake: FakeOpenAI) -> None:
    fake.script(Stream([chunk({"content": "a"}), {"error": {"message": "overloaded"}}], done=False, delay=0.05))
    _, text = await pair.stream()
    assert events(text)[-1]["error"]["message"]
    assert "[DONE]" not in events(text)
