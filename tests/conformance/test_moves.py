"""Requests that their tier cannot serve are moved to one that can, and the answer says why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import claude_env
from tests.conformance.kit import HI, LOOK, PIXEL, Ask, Json, asker, message_of
from tests.conftest import Running, Start, tier_env
from tests.fakes import anthropic as claude
from tests.fakes.openai import FakeOpenAI

PICTURE: list[Any] = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]}
]
SCHEMA: Json = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}}


@pytest.fixture
async def router(start_router: Start, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic) -> Running:
    """Each tier can a little more than the one before it; only the two Claudes see."""
    return await start_router(
        {
            **tier_env("simple", fake, CAPABILITIES="json", CONTEXT_WINDOW="200"),
            **tier_env("medium", fake, CAPABILITIES="tools", CONTEXT_WINDOW="2000"),
            **claude_env("complex", claude_fake, "claude-sonnet-4-5", CAPABILITIES="tools,vision", CONTEXT_WINDOW="20000"),
            **claude_env("reasoning", claude_fake, "claude-opus-4-5"),
            "RETRIES": "0",
        }
    )  # fmt: skip


@pytest.mark.parametrize("model", ["virtusoul-v1", "simple"])
@pytest.mark.parametrize(
    ("fields", "tier", "mechanism", "reason"),
    [
        ({}, "simple", None, None),
        ({"tools": [LOOK]}, "medium", "capability", "tools"),
        ({"messages": PICTURE}, "complex", "capability", "vision"),
        ({"messages": PICTURE, "tools": [LOOK]}, "complex", "capability", "vision"),
        ({"response_format": SCHEMA}, "simple", None, None),
        ({"response_format": SCHEMA, "tools": [LOOK]}, "reasoning", "capability", "tools"),
        ({"messages": [{"role": "user", "content": "word " * 800}]}, "medium", "context", "window"),
        ({"messages": [{"role": "user", "content": "word " * 8000}]}, "complex", "context", "window"),
        ({"messages": [{"role": "user", "content": "word " * 40000}]}, "reasoning", "context", "window"),
    ],
)
async def test_needs_and_windows(
    ask: Ask, model: str, fields: Json, tier: str, mechanism: str | None, reason: str | None
) -> None:
    completion = await ask(model=model, **fields)
    meta = completion.model_extra["_virtusoul"]
    assert meta["tier"] == tier
    if mechanism is None:
        assert meta["mechanism"] == ("direct" if model == "simple" else "classified")
        return
    assert meta["mechanism"] == mechanism
    assert reason in meta["reason"]
    assert meta["requested_tier"] == "simple"


async def test_a_refused_length_moves_on_to_a_larger_window(
    start_router: Start, client: Any, sync: Any, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic
) -> None:
    """Where the estimate was too hopeful, the provider's own refusal is what moves the request."""
    router = await start_router(
        {
            **tier_env("simple", fake, FALLBACKS="complex", CONTEXT_WINDOW="8000"),
            **claude_env("complex", claude_fake, "claude-sonnet-4-5", CONTEXT_WINDOW="200000"),
        }
    )
    message = "This model's maximum context length is 8000 tokens."
    fake.script(claude.Status(400, {"error": {"message": message, "code": "context_length_exceeded"}}))
    there = {"base_url": router.url + "/v1"}
    for mode in ("create", "stream_sync"):
        ask = asker(mode, client.with_options(**there), sync.with_options(**there))
        completion = await ask(model="simple", messages=HI)
        assert message_of(completion).content == "Hello world"
        meta = completion.model_extra["_virtusoul"]
        assert (meta["tier"], meta["requested_tier"], meta["attempts"]) == ("complex", "simple", 2)
