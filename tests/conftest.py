"""A router on a real socket, configured by a dict as by the environment, with a classifier that tests can foretell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web

from router.app import build
from router.config import load
from router.server import Runner
from router.service import SERVICE, Service
from tests.fakes.classifier import FakeClassifier
from tests.fakes.openai import FakeOpenAI

TIERS = ("simple", "medium", "complex", "reasoning")


# The loop that serving runs on: its transports are others than asyncio's own.
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


@dataclass
class Running:
    """A running router. `url` has no path; `post` sends a chat."""

    url: str
    service: Service
    classifier: FakeClassifier
    client: aiohttp.ClientSession

    def post(self, body: Any, path: str = "/v1/chat/completions", **kwargs: Any) -> Any:
        return self.client.post(self.url + path, json=body, **kwargs)

    async def chat(self, model: str = "simple", text: str = "Hi", **fields: Any) -> tuple[int, dict[str, Any]]:
        """Status and body of one chat that is not streamed."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        async with self.post(body) as response:
            return response.status, await response.json()

    async def stream(self, model: str = "simple", text: str = "Hi", **fields: Any) -> tuple[int, str]:
        """Status and raw text of one streamed chat."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **fields}
        async with self.post(body) as response:
            return response.status, await response.text()

    async def metric(self, line: str) -> float:
        """The value of one sample of `/metrics`, by its name and labels; 0 where it is absent."""
        async with self.client.get(self.url + "/metrics") as response:
            text = await response.text()
        values = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line + " ")]
        return float(values[0]) if values else 0.0


def tier_env(tier: str, fake: Any, provider: str = "custom", **settings: str) -> dict[str, str]:
    """The variables of one tier served by a fake."""
    prefix = tier.upper()
    env = {
        f"{prefix}_PROVIDER": provider,
        f"{prefix}_MODEL": f"{tier}-model",
        f"{prefix}_BASE_URL": fake.url,
        f"{prefix}_API_KEY": f"sk-{tier}-secret-key",
    }
    return {**env, **{f"{prefix}_{name}": value for name, value in settings.items()}}


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start_router() -> AsyncIterator[Start]:
    """`await start_router({...env})` → `Running`; stopped after the test."""
    runners: list[web.AppRunner] = []
    clients: list[aiohttp.ClientSession] = []

    async def start(env: Mapping[str, str], classifier: Any = None) -> Running:
        classifier = classifier or FakeClassifier()
        app = build(load(env), classifier)
        runner = Runner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        classifier.seen.clear()  # the readiness probe
        runners.append(runner)
        client = aiohttp.ClientSession()
        clients.append(client)
        return Running(f"http://127.0.0.1:{runner.addresses[0][1]}", app[SERVICE], classifier, client)

    yield start
    for client in clients:
        await client.close()
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[FakeOpenAI]:
    """A second upstream, to fall back to."""
    async with FakeOpenAI() as server:
        yield server


@pytest.fixture
async def router(start_router: Start, fake: FakeOpenAI) -> Running:
    """All four tiers on one fake."""
    env: dict[str, str] = {}
    for tier in TIERS:
        env |= tier_env(tier, fake)
    return await start_router(env)
