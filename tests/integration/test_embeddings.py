"""`POST /v1/embeddings` to a tier is routed as a chat is: retries, timeouts, headers, record; but no fallback and no circuit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from router import dispatch
from tests.conftest import Running, Start, tier_env
from tests.fakes.openai import Answer, FakeOpenAI, Raw, Silence, Status

PATH = "/v1/embeddings"


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BACKOFF_BASE", 0.01)


async def ask(router: Running, model: str = "simple") -> tuple[int, dict[str, Any], Any]:
    """Status, body and headers."""
    async with router.post({"model": model, "input": ["a", "b"]}, PATH, headers={"x-request-id": "mine"}) as response:
        return response.status, await response.json(), response.headers


def counted(tier: str, status: int, mechanism: str = "direct", provider: str = "custom") -> str:
    labels = f'mechanism="{mechanism}",provider="{provider}",status="{status}",tier="{tier}"'
    return f"virtusoul_requests_total{{{labels}}}"


async def test_an_answer_says_who_gave_it(router: Running, capfd: pytest.CaptureFixture[str]) -> None:
    tokens = 'virtusoul_tokens_total{kind="prompt",tier="simple"}'
    before, tokens_before = await router.metric(counted("simple", 200)), await router.metric(tokens)
    status, body, headers = await ask(router)
    assert status == 200 and len(body["data"]) == 2
    meta = body["_virtusoul"]
    assert (meta["routed_to"], meta["tier"], meta["confidence"]) == ("custom/simple-model", "simple", None)
    assert (meta["attempts"], meta["mechanism"]) == (1, "direct") and meta["latency_ms"] > 0
    assert (headers["x-request-id"], headers["x-virtusoul-tier"]) == ("mine", "simple")
    assert headers["x-virtusoul-routed-to"] == "custom/simple-model"
    assert headers["x-virtusoul-attempts"] == "1" and float(headers["x-virtusoul-latency-ms"]) > 0
    assert await router.metric(counted("simple", 200)) - before == 1
    assert await router.metric(tokens) - tokens_before == 2
    router.service.request_log.flush()
    assert "endpoint=/v1/embeddings status=200" in capfd.readouterr().err


async def test_a_passing_failure_is_retried(router: Running, fake: FakeOpenAI) -> None:
    fake.script(Status(503), Answer())
    retries = 'virtusoul_retries_total{reason="server_error",tier="simple"}'
    before = await router.metric(retries)
    status, body, headers = await ask(router)
    assert (status, body["_virtusoul"]["attempts"], headers["x-virtusoul-attempts"]) == (200, 2, "2")
    assert await router.metric(retries) - before == 1


@pytest.mark.parametrize("step", [Status(401), Status(422)])
async def test_what_no_retry_mends_is_not_retried(router: Running, fake: FakeOpenAI, step: Status) -> None:
    fake.script(step)
    status, body, headers = await ask(router)
    assert status == (502 if step.code == 401 else 422)
    assert body["error"]["message"] and headers["x-virtusoul-attempts"] == "1"
    assert len(fake.requests) == 1


async def test_another_tier_never_makes_the_vectors(start_router: Start, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    """They would not compare with those that the client has already."""
    env = {**tier_env("simple", fake, FALLBACKS="complex"), **tier_env("complex", other), "RETRIES": "1"}
    router = await start_router(env)
    fake.script(Status(500))
    assert (await ask(router))[0] == 502
    assert (len(fake.requests), len(other.requests)) == (2, 0)


async def test_failures_here_say_nothing_about_the_tiers_chats(start_router: Start, fake: FakeOpenAI) -> None:
    """A provider that makes no embeddings may answer 500 to every try: chats go on, and count for themselves."""
    env = {**tier_env("simple", fake), "RETRIES": "0", "COOLDOWN_FAILURES": "2", "COOLDOWN": "30"}
    router = await start_router(env)
    fake.script(Status(500), Status(500), Status(500), Answer())
    for _ in range(3):
        status, body, _ = await ask(router)
        assert (status, body["error"]["code"]) != (502, "circuit_open")
    assert len(fake.requests) == 3 and (await router.chat())[0] == 200
    fake.script(Status(500), Answer(), Status(500), Answer())
    assert (await router.chat())[0] == 502
    assert (await ask(router))[0] == 200  # and its success hides no failure of theirs
    assert (await router.chat())[0] == 502
    assert (await router.chat())[1]["error"]["code"] == "circuit_open"


async def test_an_error_inside_a_200_is_what_it_says(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "RETRIES": "2"})
    answer = b'{"error": {"message": "input too odd", "type": "invalid_request_error", "param": "input"}}'
    fake.script(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer)))
    status, body, _ = await ask(router)
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "invalid_request_error", "input")
    assert len(fake.requests) == 1


async def test_silence_is_not_waited_for_longer_than_an_attempt(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake, ATTEMPT_TIMEOUT="0.2"), "TIMEOUT": "30"})
    fake.script(Silence())
    status, body, _ = await asyncio.wait_for(ask(router), 5)
    assert (status, body["error"]["code"], len(fake.requests)) == (504, "upstream_timeout", 1)


@pytest.mark.parametrize(
    "answer", [b"[1, 2]", b"<html>", b'{"data": [', b'{"error": {"message": "no such engine", "type": "x"}}']
)
async def test_an_answer_without_vectors_is_a_502(start_router: Start, fake: FakeOpenAI, answer: bytes) -> None:
    router = await start_router({**tier_env("simple", fake), "RETRIES": "0"})
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
    fake.script(Raw(head + answer))
    status, body, _ = await ask(router)
    assert status == 502 and "simple" in body["error"]["message"]


async def test_a_client_that_leaves(start_router: Start, fake: FakeOpenAI) -> None:
    """Its permit is free for the next one."""
    env = {
        **tier_env("simple", fake),
        "RETRIES": "0",
        "COOLDOWN_FAILURES": "1",
        "COOLDOWN": "0",
        "MAX_CONCURRENCY": "1",
    }
    router = await start_router(env)
    before = await router.metric(counted("simple", 499))
    fake.script(Status(500), Silence(), Answer())
    assert (await ask(router))[0] == 502
    leaving = asyncio.create_task(ask(router))
    while len(fake.requests) < 2:
        await asyncio.sleep(0.01)
    assert (await ask(router))[0] == 503  # the one permit is taken
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.wait_for(fake.requests[1].disconnected.wait(), 5)
    assert await router.metric(counted("simple", 499)) - before == 1
    assert (await ask(router))[0] == 200


async def test_an_unconfigured_tier_is_served_as_chats_are(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router(tier_env("medium", fake))
    _, body, headers = await ask(router, "complex")
    meta = body["_virtusoul"]
    assert (meta["tier"], meta["requested_tier"], meta["mechanism"]) == ("medium", "complex", "unavailable")
    assert headers["x-virtusoul-tier"] == "medium"


async def test_smart_routing_of_vectors_is_refused_with_the_choices(router: Running) -> None:
    """`/v1/models` lists the name, so it exists; but two texts could get vectors of two models."""
    status, body, headers = await ask(router, "virtusoul-v1")
    error = body["error"]
    assert (status, error["param"], headers["x-request-id"]) == (400, "model", "mine")
    assert "all-MiniLM-L6-v2, simple, medium, complex, reasoning" in error["message"]
