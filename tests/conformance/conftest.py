"""A router with both dialects behind it, and OpenAI's official clients in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from tests.conformance.kit import MODES, Ask, asker
from tests.conftest import Running, Start, tier_env
from tests.fakes import anthropic as claude
from tests.fakes.openai import FakeOpenAI


@pytest.fixture
async def claude_fake() -> AsyncIterator[claude.FakeAnthropic]:
    """A test that makes the router send what Anthropic would refuse has failed."""
    async with claude.FakeAnthropic() as server:
        yield server
    assert server.refused == []


def claude_env(tier: str, fake: claude.FakeAnthropic, model: str, **settings: str) -> dict[str, str]:
    return tier_env(tier, fake, "anthropic", API_KEY=claude.KEY, MODEL=model, **settings)


@pytest.fixture
async def router(start_router: Start, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic) -> Running:
    """`simple`: any OpenAI-compatible model; `medium`: OpenAI's gpt-5-mini; `complex` and `reasoning`: Claude 4.5, 5.5."""
    return await start_router(
        {
            **tier_env("simple", fake),
            **tier_env("medium", fake, "openai", MODEL="gpt-5-mini"),
            **claude_env("complex", claude_fake, "claude-sonnet-4-5"),
            **claude_env("reasoning", claude_fake, "claude-sonnet-5-5"),
            "RETRIES": "0",
            "COOLDOWN_FAILURES": "1000",
        }
    )


@pytest.fixture(scope="session")
def any_sync() -> Iterator[openai.OpenAI]:
    """One connection pool for all; `with_options(base_url=…)` points it somewhere."""
    with openai.OpenAI(base_url="http://nowhere.invalid", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture
def sync(router: Running, any_sync: openai.OpenAI) -> openai.OpenAI:
    return any_sync.with_options(base_url=router.url + "/v1")


@pytest.fixture
async def client(router: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    http = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=router.url + "/v1", api_key="none", max_retries=0, http_client=http
    ) as opened:
        yield opened


@pytest.fixture(params=MODES)
def ask(request: pytest.FixtureRequest, client: openai.AsyncOpenAI, sync: openai.OpenAI) -> Ask:
    """The same question in every way that the SDK can ask it."""
    return asker(request.param, client, sync)
