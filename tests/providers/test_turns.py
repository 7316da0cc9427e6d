"""What vendors demand of the messages: what they would refuse is put right, and nothing that was said gets lost."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.providers.kit import send

HI = {"role": "user", "content": "Hi"}
RULES = {"role": "system", "content": "Be brief."}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for name in ("toolu_01", "aB3dE6gH9")
    ],
}
RESULTS = [{"role": "tool", "tool_call_id": name, "content": "r"} for name in ("toolu_01", "aB3dE6gH9")]
DONE = {"role": "assistant", "content": "Done."}


def sent(vendor: str, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    wire, dropped = send("m", vendor, messages=list(messages))
    assert dropped == set()
    return wire["messages"]


def roles(*messages: dict[str, Any]) -> list[str]:
    return [message["role"] for message in sent("mistral", *messages)]


@pytest.mark.parametrize("vendor", ["deepseek", "mistral", "together", "ollama", "google"])
def test_developer_is_system_where_only_that_is_known(vendor: str) -> None:
    assert sent(vendor, {**RULES, "role": "developer"}, HI) == [RULES, HI]


@pytest.mark.parametrize("vendor", ["openai", "openrouter", "groq", "custom"])
def test_developer_stays_where_it_is_known(vendor: str) -> None:
    given = [{**RULES, "role": "developer"}, HI]
    assert sent(vendor, *given) == given


def test_mistral_gets_ids_of_nine_letters_and_digits() -> None:
    _, calls, first, second, _ = sent("mistral", HI, CALLS, *RESULTS, DONE)
    ours, theirs = (call["id"] for call in calls["tool_calls"])
    assert re.fullmatch("[a-zA-Z0-9]{9}", ours) and theirs == "aB3dE6gH9"
    assert (first["tool_call_id"], second["tool_call_id"]) == (ours, theirs)
    again = sent("mistral", HI, CALLS, *RESULTS, DONE, HI)
    assert again[:5] == [HI, calls, first, second, DONE]  # the same in every turn, for the sake of the provider's cache


def test_ids_stay_as_they_are_elsewhere() -> None:
    given = [HI, CALLS, *RESULTS, DONE]
    assert sent("groq", *given) == given


def test_mistral_answers_a_result_before_the_user_goes_on() -> None:
    assert roles(HI, CALLS, *RESULTS, HI) == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert sent("mistral", HI, CALLS, *RESULTS, HI)[4]["content"]
    assert roles(HI, CALLS, *RESULTS, DONE, HI) == ["user", "assistant", "tool", "tool", "assistant", "user"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((RULES, HI, DONE, {**RULES, "content": "B"}, HI), ["Be brief.", "B", "Hi", "Done.", "Hi"]),
        ((HI, {**RULES, "content": "B"}), ["B", "Hi"]),
        ((HI, {**RULES, "content": "B"}, {**RULES, "content": "C"}), ["B", "C", "Hi"]),
        ((RULES, HI, RULES, HI), ["Be brief.", "Hi", "Be brief.", "Hi"]),
        ((RULES,), ["Be brief."]),
    ],
)
def test_mistral_gets_late_instructions_at_the_beginning(
    given: tuple[dict[str, Any], ...], expected: list[str]
) -> None:
    assert [message["content"] for message in sent("mistral", *given)] == expected


def test_instructions_behind_a_result_move_and_the_user_still_waits_for_an_answer() -> None:
    assert roles(HI, CALLS, *RESULTS, RULES, HI) == ["system", "user", "assistant", "tool", "tool", "assistant", "user"]
