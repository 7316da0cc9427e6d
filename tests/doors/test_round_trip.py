"""A conversation that comes through a door and leaves through the Anthropic provider is still the same conversation."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from router.chat import Chat
from router.config import load
from router.doors import messages, responses
from router.providers.anthropic import DIALECT

Json = dict[str, Any]
TARGET = load(
    {"SIMPLE_PROVIDER": "anthropic", "SIMPLE_MODEL": "claude-sonnet-4-5", "SIMPLE_API_KEY": "sk-ant-test"}
).targets["simple"]

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).map(
    lambda text: (
        f"w{text}w"
    )  # neither blank nor ending in blanks, which the API refuses and the provider therefore trims
)
INPUT = st.dictionaries(WORDS, WORDS | st.integers(-9, 9) | st.lists(WORDS, max_size=2), max_size=3)


@st.composite
def rounds(draw: st.DrawFn) -> list[tuple[str, str, list[tuple[str, Json, str]]]]:
    """Rounds of: what the user says, what the assistant says, and its calls with input and result."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        calls = draw(st.lists(st.tuples(WORDS.map(lambda _: "f"), INPUT, WORDS), max_size=3))
        calls = [(f"toolu_{number}_{index}", given, result) for index, (_, given, result) in enumerate(calls)]
        found.append((draw(WORDS), draw(WORDS), calls))
    return found


def wire(hub: Chat) -> Json:
    """What the Anthropic provider makes of the hub form alone."""
    body: Json = orjson.loads(DIALECT.request(Chat(hub.raw, hub.body), TARGET).body)
    return body


def said(turns: list[Json]) -> list[tuple[Any, ...]]:
    """Everything in the turns, flat, in order."""
    found: list[tuple[Any, ...]] = []
    for turn in turns:
        content = turn["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if block["type"] == "text":
                found.append((turn["role"], "text", block["text"]))
            elif block["type"] == "tool_use":
                found.append((turn["role"], "call", block["id"], block["name"], block["input"]))
            elif block["type"] == "tool_result":
                inside = block["content"]
                text = inside if isinstance(inside, str) else "".join(part["text"] for part in inside)
                found.append((turn["role"], "result", block["tool_use_id"], text))
    return found


@given(rounds(), st.booleans())
@settings(deadline=None)
def test_messages_to_hub_to_anthropic(conversation: list[Any], as_blocks: bool) -> None:
    turns: list[Json] = []
    for asked, answered, calls in conversation:
        turns.append({"role": "user", "content": [{"type": "text", "text": asked}] if as_blocks else asked})
        uses = [{"type": "tool_use", "id": id, "name": "f", "input": given} for id, given, _ in calls]
        turns.append({"role": "assistant", "content": [{"type": "text", "text": answered}, *uses]})
        if calls:
            results = [{"type": "tool_result", "tool_use_id": id, "content": result} for id, _, result in calls]
            turns.append({"role": "user", "content": results})
    body = {"model": "simple", "max_tokens": 9, "system": "Be brief.", "messages": turns, "tools": [{"name": "f"}]}
    sent = wire(messages.DOOR.parse(orjson.dumps(body)))
    assert said(sent["messages"]) == said(turns)
    assert (sent["system"], sent["max_tokens"]) == ("Be brief.", 9)
    assert [tool["name"] for tool in sent["tools"]] == ["f"]


@given(rounds())
@settings(deadline=None)
def test_responses_to_hub_to_anthropic(conversation: list[Any]) -> None:
    items: list[Json] = []
    expected: list[tuple[Any, ...]] = []
    for asked, answered, calls in conversation:
        items += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        expected += [("user", "text", asked), ("assistant", "text", answered)]
        for id, given_input, _ in calls:
            arguments = orjson.dumps(given_input).decode()
            items.append({"type": "function_call", "call_id": id, "name": "f", "arguments": arguments})
            expected.append(("assistant", "call", id, "f", given_input))
        for id, _, result in calls:
            items.append({"type": "function_call_output", "call_id": id, "output": result})
            expected.append(("user", "result", id, result))
    assert said(wire(responses.DOOR.parse(orjson.dumps({"model": "simple", "input": items})))["messages"]) == expected


def test_images_files_and_choices_arrive() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    pdf = {
        "type": "document",
        "title": "a.pdf",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
    }
    url = {"type": "document", "source": {"type": "url", "url": "https://example.org/b.pdf"}}
    body = {
        "model": "simple",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "See"}, image, pdf, url]}],
        "tools": [{"name": "f", "description": "F.", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
    }
    sent = wire(messages.DOOR.parse(orjson.dumps(body)))
    assert sent["messages"][0]["content"][:3] == [{"type": "text", "text": "See"}, image, pdf]
    assert sent["messages"][0]["content"][3]["source"] == url["source"]
    for name in ("tools", "tool_choice", "stop_sequences", "metadata"):
        assert sent[name] == body[name]
