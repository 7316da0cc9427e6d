"""Every failure raises the class that the SDK's users catch, with the provider's words in it."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.conformance.conftest import claude_env
from tests.conformance.kit import HI, Ask, Json, message_of
from tests.conftest import Running, Start, tier_env
from tests.fakes import anthropic as claude
from tests.fakes.openai import Answer, FakeOpenAI, Reset, Silence, Status

CLASSES = [
    (400, openai.BadRequestError),
    (404, openai.NotFoundError),
    (422, openai.UnprocessableEntityError),
    (429, openai.RateLimitError),
    (401, openai.InternalServerError),  # the router's key, not the client's
    (403, openai.InternalServerError),
    (500, openai.InternalServerError),
    (503, openai.InternalServerError),
]
FAKES = {"simple": "fake", "complex": "claude_fake"}


@pytest.mark.parametrize(("status", "kind"), [*CLASSES, (529, openai.InternalServerError)])
@pytest.mark.parametrize("tier", FAKES)
async def test_statuses(
    ask: Ask, request: pytest.FixtureRequest, tier: str, status: int, kind: type[openai.APIStatusError]
) -> None:
    request.getfixturevalue(FAKES[tier]).script(Status(status, headers={"retry-after": "7"}))
    with pytest.raises(kind) as caught:
        await ask(model=tier)
    error: Any = caught.value
    assert error.status_code == ({401: 502, 403: 502, 500: 502, 503: 502, 529: 503}.get(status, status))
    assert {"message", "type", "param", "code"} <= set(error.body)
    assert f"sk-{tier}" not in str(error) and claude.KEY not in str(error)
    if status in (401, 403):
        assert tier in error.message
    else:
        assert f"scripted {status}" in error.message
    assert error.request_id or error.response.headers["x-request-id"]
    assert (error.response.headers.get("retry-after") == "7") == (status in (429, 500, 503, 529))


async def test_the_fields_of_an_error_come_through(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    body = {"error": {"message": "Bad tool.", "type": "invalid_request_error", "param": "tools[0]", "code": "bad_tool"}}
    fake.script(Status(400, body))
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="simple", messages=HI)
    assert (caught.value.param, caught.value.code, caught.value.type) == (
        "tools[0]",
        "bad_tool",
        "invalid_request_error",
    )
    assert "Bad tool." in caught.value.message


@pytest.mark.parametrize(
    ("tier", "message"),
    [
        ("simple", "This model's maximum context length is 8192 tokens. Please reduce the length of the messages."),
        ("complex", "prompt is too long: 208310 tokens > 200000 maximum"),
    ],
)
async def test_too_long_a_prompt_has_openais_code(
    ask: Ask, request: pytest.FixtureRequest, tier: str, message: str
) -> None:
    error = {"type": "invalid_request_error", "message": message}
    request.getfixturevalue(FAKES[tier]).script(Status(400, {"type": "error", "error": error}))
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(model=tier)
    assert caught.value.code == "context_length_exceeded"
    assert message in caught.value.message


@pytest.mark.parametrize("tier", FAKES)
async def test_a_page_from_a_proxy_is_a_clean_502(ask: Ask, request: pytest.FixtureRequest, tier: str) -> None:
    upstream = request.getfixturevalue(FAKES[tier])
    for status in (502, 200):
        upstream.script(Status(status, "<html><body><h1>Bad gateway</h1>nginx</body></html>"))
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(model=tier)
        assert caught.value.status_code == 502
        assert "<h1>" not in caught.value.message


@pytest.mark.parametrize("tier", FAKES)
async def test_what_never_answers(ask: Ask, request: pytest.FixtureRequest, tier: str) -> None:
    request.getfixturevalue(FAKES[tier]).script(Reset())
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(model=tier)
    assert caught.value.status_code == 502


async def test_a_silent_provider_is_a_504_and_no_timeout_of_the_client(
    start_router: Start, any_sync: openai.OpenAI, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    env = {**tier_env("simple", fake), **claude_env("complex", claude_fake, "claude-sonnet-4-5"), "TIMEOUT": "0.3"}
    router = await start_router(env)
    fake.script(Silence())
    claude_fake.script(Silence())
    sync: Any = any_sync.with_options(base_url=router.url + "/v1")
    for fields in ({"model": "simple"}, {"model": "complex", "stream": True}):
        with pytest.raises(openai.InternalServerError) as caught:
            await asyncio.to_thread(sync.chat.completions.create, messages=HI, **fields)
        assert caught.value.status_code == 504
        assert "did not answer" in caught.value.message


async def test_errors_of_our_own(ask: Ask, fake: FakeOpenAI) -> None:
    cases: list[tuple[Json, type[openai.APIStatusError], str]] = [
        ({"model": "gpt-4o"}, openai.BadRequestError, "model"),
        ({"model": "simple", "messages": []}, openai.BadRequestError, "messages"),
        ({"model": "complex", "reasoning_effort": "huge"}, openai.BadRequestError, "reasoning_effort"),
        ({"model": "complex", "tools": [{"type": "function", "function": {}}]}, openai.BadRequestError, "tools[0]"),
        ({"model": "complex", "messages": [{"role": "oracle", "content": "x"}]}, openai.BadRequestError, "messages[0].role"),
    ]  # fmt: skip
    for fields, kind, param in cases:
        with pytest.raises(kind) as caught:
            await ask(**fields)
        assert caught.value.param == param, fields
    assert fake.requests == []


async def test_keys(start_router: Start, any_sync: openai.OpenAI, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "API_KEY": "secret"})
    for key in ("wrong", "secret"):
        sync: Any = any_sync.with_options(base_url=router.url + "/v1", api_key=key)
        if key == "secret":
            assert await asyncio.to_thread(sync.chat.completions.create, model="simple", messages=HI)
            continue
        for stream in (False, True):
            with pytest.raises(openai.AuthenticationError):
                await asyncio.to_thread(sync.chat.completions.create, model="simple", messages=HI, stream=stream)
        with pytest.raises(openai.AuthenticationError):
            await asyncio.to_thread(sync.models.list)
    assert fake.last.headers["authorization"] == "Bearer sk-simple-secret-key"


async def test_too_large_and_unknown_paths(start_router: Start, any_sync: openai.OpenAI, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "MAX_BODY_MB": "0.01"})
    sync: Any = any_sync.with_options(base_url=router.url + "/v1")
    long = [{"role": "user", "content": "x" * 20_000}]
    with pytest.raises(openai.APIStatusError) as caught:
        await asyncio.to_thread(sync.chat.completions.create, model="simple", messages=long)
    assert caught.value.status_code == 413
    with pytest.raises(openai.NotFoundError):
        await asyncio.to_thread(sync.files.list)


@pytest.mark.parametrize(("tier", "status"), [("simple", 429), ("complex", 529)])
async def test_the_sdk_tries_again_as_it_would_with_openai(
    client: openai.AsyncOpenAI, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tier: str, status: int
) -> None:
    patient = client.with_options(max_retries=1)
    fake.script(Status(status, headers={"retry-after": "0"}), Answer("At last"))
    claude_fake.script(Status(status, headers={"retry-after": "0"}), claude.Answer("At last"))
    assert message_of(await patient.chat.completions.create(model=tier, messages=HI)).content == "At last"


async def test_a_fallback_is_told(
    start_router: Start, any_sync: openai.OpenAI, fake: FakeOpenAI, claude_fake: Any
) -> None:
    router: Running = await start_router(
        {**tier_env("simple", fake, FALLBACKS="complex"), **claude_env("complex", claude_fake, "claude-sonnet-4-5"), "RETRIES": "0"}
    )  # fmt: skip
    fake.script(Status(500))
    sync: Any = any_sync.with_options(base_url=router.url + "/v1")
    for stream in (False, True):
        answer = await asyncio.to_thread(sync.chat.completions.create, model="simple", messages=HI, stream=stream)
        meta = (next(iter(answer)) if stream else answer).model_extra["_virtusoul"]
        assert (meta["tier"], meta["requested_tier"], meta["attempts"]) == ("complex", "simple", 2)
