"""The table of what models and vendors refuse: nothing else changes, and what changes is named."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from router.providers import dialect_for
from tests.providers.kit import chat, send, target

TOOLS = [{"type": "function", "function": {"name": "f"}}]
HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("vendor", "model"),
    [("openai", "gpt-4.1"), ("openai", "my-finetune"), ("custom", "o3"), ("openrouter", "meta/llama-4"),
     ("groq", "llama-4"), ("together", "qwen"), ("deepseek", "deepseek-chat"), ("google", "gemini-3-pro"),
     ("ollama", "gemma"), ("mistral", "mistral-large-latest")],
)  # fmt: skip
def test_what_no_rule_speaks_of_passes_byte_for_byte(vendor: str, model: str) -> None:
    raw = b'{ "model":"simple", "messages": [{"role":"user","content":"\\u00fc"}], "max_tokens": 5, "new": [1.0] }'
    asked = chat()
    asked = type(asked).parse(raw)
    outgoing = dialect_for("openai").request(asked, target(model, vendor))
    assert outgoing.body == raw.replace(b'"simple"', orjson.dumps(model)) and outgoing.dropped == ()
    assert outgoing.path == "/chat/completions"


@pytest.mark.parametrize("model", ["o1", "o3-mini", "o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.2", "gpt-6-astra"])
def test_reasoning_models(model: str) -> None:
    given = {"max_tokens": 9, "temperature": 0.2, "presence_penalty": 0.1, "reasoning_effort": "low"}
    wire, dropped = send(model, "openai", **given)
    assert wire["max_completion_tokens"] == 9 and wire["reasoning_effort"] == "low"
    assert not wire.keys() & {"max_tokens", "temperature", "presence_penalty"}
    assert dropped == {"temperature", "presence_penalty"}


@pytest.mark.parametrize(
    ("vendor", "model", "given", "sent", "lost"),
    [
        ("openai", "gpt-5.1", {"temperature": 0.2}, {"temperature": 0.2}, set()),
        ("openai", "gpt-5.2", {"temperature": 0.2, "reasoning_effort": "high"}, {"reasoning_effort": "high"}, {"temperature"}),
        ("openai", "gpt-5.4-mini", {"top_p": 0.2, "reasoning_effort": "none"}, {"top_p": 0.2, "reasoning_effort": "none"}, set()),
        ("openai", "gpt-5-chat-latest", {"temperature": 0.2, "max_tokens": 3}, {"temperature": 0.2, "max_completion_tokens": 3}, set()),
        ("openai", "gpt-5-chat-latest", {"reasoning_effort": "low"}, {}, {"reasoning_effort"}),
        ("openai", "gpt-4o-mini", {"reasoning_effort": "low", "temperature": 0.2}, {"temperature": 0.2}, {"reasoning_effort"}),
        ("openai", "gpt-5.1", {"reasoning_effort": "minimal"}, {"reasoning_effort": "none"}, {"reasoning_effort"}),
        ("openai", "gpt-5", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}, {"reasoning_effort"}),
        ("openai", "o3", {"reasoning_effort": "none"}, {"reasoning_effort": "low"}, {"reasoning_effort"}),
        ("openai", "gpt-5", {"temperature": 1}, {}, set()),
        ("openai", "o4-mini", {"stop": "x", "parallel_tool_calls": True, "tools": TOOLS}, {"tools": TOOLS}, {"stop", "parallel_tool_calls"}),
        ("openai", "o1", {"stop": "x"}, {"stop": "x"}, set()),
        ("openai", "gpt-5", {"max_tokens": 3, "max_completion_tokens": 4}, {"max_completion_tokens": 4}, set()),
        ("openrouter", "openai/o3", {"max_tokens": 3}, {"max_completion_tokens": 3}, set()),
        ("mistral", "m", {"max_completion_tokens": 3, "seed": 4}, {"max_tokens": 3, "random_seed": 4}, set()),
        ("mistral", "m", {"user": "u", "logprobs": True, "n": 2}, {"n": 2}, {"user", "logprobs"}),
        ("groq", "m", {"n": 2, "logit_bias": {"1": 2}, "seed": 4}, {"n": 1, "seed": 4}, {"n", "logit_bias"}),
        ("deepseek", "m", {"max_completion_tokens": 3}, {"max_tokens": 3}, set()),
        ("ollama", "m", {"max_completion_tokens": 3}, {"max_tokens": 3}, set()),
        ("google", "m", {"frequency_penalty": 0.5, "seed": 1, "temperature": 0.1}, {"temperature": 0.1}, {"frequency_penalty", "seed"}),
        ("google", "m", {"store": False, "prompt_cache_key": "k", "user": "u"}, {"user": "u"}, {"prompt_cache_key"}),
        ("groq", "m", {"prompt_cache_key": "k", "safety_identifier": "s", "verbosity": "medium"}, {}, {"prompt_cache_key", "safety_identifier"}),
        ("mistral", "m", {"prompt_cache_key": "k", "prompt_cache_retention": "24h"}, {"prompt_cache_key": "k"}, {"prompt_cache_retention"}),
        ("openai", "gpt-4o", {"verbosity": "low"}, {}, {"verbosity"}),
        ("mistral", "mistral-small-latest", {"reasoning_effort": "medium"}, {"reasoning_effort": "high"}, {"reasoning_effort"}),
        ("mistral", "mistral-medium-3.5", {"reasoning_effort": "low"}, {}, {"reasoning_effort"}),
        ("mistral", "mistral-medium-3.5", {"reasoning_effort": "minimal"}, {"reasoning_effort": "none"}, {"reasoning_effort"}),
        ("mistral", "zai-glm-5-3", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}, set()),
        ("mistral", "codestral-latest", {"reasoning_effort": "high"}, {}, {"reasoning_effort"}),
        ("groq", "llama-3.3-70b-versatile", {"reasoning_effort": "high"}, {}, {"reasoning_effort"}),
        ("groq", "openai/gpt-oss-120b", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}, {"reasoning_effort"}),
        ("groq", "qwen/qwen3-32b", {"reasoning_effort": "high"}, {}, {"reasoning_effort"}),
        ("groq", "qwen/qwen3-32b", {"reasoning_effort": "none"}, {"reasoning_effort": "none"}, set()),
        ("ollama", "llama3.2:3b", {"reasoning_effort": "high", "max_completion_tokens": 3}, {"max_tokens": 3}, {"reasoning_effort"}),
        ("ollama", "qwen3:8b", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, set()),
        ("ollama", "gemma4:31b", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, set()),
    ],
)  # fmt: skip
def test_rules(vendor: str, model: str, given: dict[str, Any], sent: dict[str, Any], lost: set[str]) -> None:
    wire, dropped = send(model, vendor, **given)
    assert {name: value for name, value in wire.items() if name not in ("model", "messages")} == sent
    assert dropped == lost and wire["model"] == model


def test_another_providers_thinking_is_taken_off_the_history() -> None:
    answer = {"role": "assistant", "content": "x", "reasoning_content": "t", "thinking_blocks": [{"signature": "s"}]}
    for vendor in ("openai", "mistral", "groq", "deepseek", "google", "together", "ollama"):
        wire, dropped = send("m", vendor, messages=[HI, answer, HI])
        assert wire["messages"][1] == {"role": "assistant", "content": "x"}
        assert dropped == {"messages.thinking_blocks", "messages.reasoning_content"}
    wire, dropped = send("m", "custom", messages=[HI, answer, HI])
    assert wire["messages"][1] == answer and not dropped


def test_reasoning_of_the_vendors_own_stays() -> None:
    answer = {"role": "assistant", "content": "x", "reasoning_content": "t"}
    for vendor in ("deepseek", "openai", "openrouter", "custom"):
        wire, dropped = send("m", vendor, messages=[HI, answer, HI])
        assert wire["messages"][1] == answer and not dropped


def test_names_of_tool_results_stay_where_those_of_people_go() -> None:
    named = [{**HI, "name": "ada"}, {"role": "tool", "tool_call_id": "1", "name": "f", "content": "r"}]
    wire, dropped = send("m", "groq", messages=named)
    assert wire["messages"] == [HI, named[1]] and dropped == {"messages.name"}
