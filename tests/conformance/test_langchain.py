"""LangChain's `ChatOpenAI`, bound to tools, in front of a Claude."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.conformance.kit import Json
from tests.conftest import Running
from tests.fakes import anthropic as claude

# What LangChain deprecates in itself and in its own dependencies is not ours to answer for.
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


def look(q: str) -> str:
    """Looks for q."""
    return f"saw {q}"


@pytest.fixture
async def model(router: Running) -> AsyncIterator[Any]:
    from langchain_openai import ChatOpenAI

    async with openai.DefaultAsyncHttpxClient(verify=False) as http:  # plain http
        fields: Json = {"base_url": router.url + "/v1", "api_key": "none", "model": "complex", "max_retries": 0}
        yield ChatOpenAI(**fields, stream_usage=True, http_async_client=http)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop_of_two_steps(model: Any, claude_fake: claude.FakeAnthropic, streamed: bool) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    calls = [claude.tool_use("look", {"q": "ü"}, "a"), claude.tool_use("look", {"q": "dogs"}, "b")]
    claude_fake.script(
        claude.Answer([claude.text("I look."), *calls]),
        claude.Answer([claude.tool_use("look", {"q": "birds"}, "c")]),
        claude.Answer("All seen."),
    )
    bound = model.bind_tools([look])

    async def ask(history: list[Any]) -> Any:
        if not streamed:
            return await bound.ainvoke(history)
        whole = None
        async for chunk in bound.astream(history):
            whole = chunk if whole is None else whole + chunk
        return whole

    history: list[Any] = [HumanMessage("Look for all of them")]
    asked: list[list[Json]] = []
    for _ in range(3):
        answer = await ask(history)
        history.append(answer)
        asked.append([call["args"] for call in answer.tool_calls])
        history += [ToolMessage(look(**call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
    assert asked == [[{"q": "ü"}, {"q": "dogs"}], [{"q": "birds"}], []]
    assert history[-1].content == "All seen."
    usage = history[-1].usage_metadata
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (18, 7, 25)
    assert usage["input_token_details"]["cache_read"] == 5
    results = [
        block for turn in claude_fake.last.json["messages"] for block in turn["content"] if "tool_use_id" in block
    ]
    assert [(block["tool_use_id"], block["content"]) for block in results] == [
        ("a", "saw ü"), ("b", "saw dogs"), ("c", "saw birds")
    ]  # fmt: skip


async def test_structured_output(model: Any, claude_fake: claude.FakeAnthropic) -> None:
    from pydantic import BaseModel

    class Cat(BaseModel):
        name: str

    claude_fake.script(claude.Answer(json.dumps({"name": "Tom"})))
    assert await model.with_structured_output(Cat).ainvoke("Which cat?") == Cat(name="Tom")
    assert claude_fake.last.json["output_config"]["format"]["type"] == "json_schema"
