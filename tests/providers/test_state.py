"""Which conversations are pinned to a dialect."""

from __future__ import annotations

from typing import Any

import pytest

from router.providers.state import pinned_dialect
from tests.providers.kit import chat

SIGNED = {"type": "thinking", "thinking": "t", "signature": "s"}
GEMINI = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"},
          "extra_content": {"google": {"thought_signature": "s"}}}  # fmt: skip


@pytest.mark.parametrize(
    ("message", "pin"),
    [
        ({"content": "thinking about it"}, None),
        ({"content": "x", "reasoning_content": "thinking"}, None),
        ({"content": "x", "thinking_blocks": []}, None),
        ({"content": "x", "thinking_blocks": [{"type": "thinking", "thinking": "unsigned"}]}, None),
        ({"content": "x", "thinking_blocks": [SIGNED]}, "anthropic"),
        ({"content": [SIGNED, {"type": "text", "text": "x"}]}, "anthropic"),
        ({"content": "x", "thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]}, "anthropic"),
        ({"content": "x", "reasoning_details": [{"format": "anthropic-claude-v1", "signature": "s"}]}, "anthropic"),
        ({"content": "x", "reasoning_details": [{"format": "openai-responses-v1", "data": "s"}]}, None),
        ({"content": None, "tool_calls": [GEMINI]}, "openai"),
        ({"content": None, "tool_calls": "thought_signature", "thinking_blocks": 3}, None),
    ],
)
def test_pins(message: dict[str, Any], pin: str | None) -> None:
    user = {"role": "user", "content": "Hi"}
    assert pinned_dialect(chat(messages=[user, {"role": "assistant", **message}, user])) == pin


def test_a_users_words_pin_nothing() -> None:
    assert pinned_dialect(chat(messages=[{"role": "user", "content": "signature of thinking"}])) is None
