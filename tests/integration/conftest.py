"""A router with both dialects behind it, and OpenAI's official client in front."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest

from tests.conftest import Running, Start, tier_env
from tests.fakes import anthropic as claude
from tests.fakes.openai import FakeOpenAI


@pytest.fixture
async def claude_fake() -> AsyncIterator[claude.FakeAnthropic]:
    async with claude.FakeAnthropic() as server:
        yield server


@pytest.fixture
async def both(start_router: Start, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic) -> Running:
    """`simple` speaks OpenAI's dialect, `complex` Anthropic's."""
    key = {"API_KEY": claude.KEY}
    model = {"MODEL": "claude-sonnet-4-5"}
    return await start_router(
        {**tier_env("simple", fake), **tier_env("complex", claude_fake, "anthropic", **key, **model), "RETRIES": "0"}
    )


@pytest.fixture
async def pair(start_router: Start, fake: FakeOpenAI, other: FakeOpenAI) -> Running:
    """`simple` on `fake`, falling back to `complex` on `other`."""
    return await start_router(pair_env(fake, other))


def pair_env(fake: FakeOpenAI, other: FakeOpenAI, **settings: str) -> dict[str, str]:
    env = {**tier_env("simple", fake, FALLBACKS="complex"), **tier_env("complex", other)}
    return {**env, "COOLDOWN_FAILURES": "50", **settings}


@pytest.fixture
async def client(both: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=both.url + "/v1", api_key="none", max_retries=0) as opened:
        yield opened
