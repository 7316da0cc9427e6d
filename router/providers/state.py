"""Which dialect a conversation belongs to, where it carries what only one provider can read.

A Claude model signs its thinking; another provider can do nothing with the signature, and Claude refuses a signature
that is not its own (https://platform.claude.com/docs/en/build-with-claude/thinking#thinking-encryption). Gemini signs
its calls (https://ai.google.dev/gemini-api/docs/thought-signatures) and refuses to go on without.
"""

from __future__ import annotations

from typing import Any

from router.chat import Chat

# Every form of provider state has one of these in its bytes: what has none needs no look at its messages.
_MARKS = (b"thinking", b"thought_signature", b"reasoning_details")


def pinned_dialect(chat: Chat) -> str | None:
    """The dialect that the conversation must stay with; None where any can go on with it."""
    if not _is_marked(chat.raw) and not (chat.native is not None and _is_marked(chat.native[1])):
        return None
    for message in reversed(chat.messages):
        if message.get("role") == "assistant" and (pin := _pin(message)) is not None:
            return pin
    return None


def _is_marked(raw: bytes) -> bool:
    thinking, signature, details = _MARKS
    return thinking in raw or signature in raw or details in raw


def _pin(message: dict[str, Any]) -> str | None:
    content = message.get("content")
    for entries in (message.get("thinking_blocks"), message.get("reasoning_details"), content):
        if isinstance(entries, list) and any(_is_claudes(entry) for entry in entries):
            return "anthropic"
    calls = message.get("tool_calls")
    if isinstance(calls, list) and any(_is_geminis(call) for call in calls):
        return "openai"  # Gemini is spoken to in OpenAI's dialect
    return None


def _is_claudes(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    if str(entry.get("format", "")).startswith("anthropic"):
        return bool(entry.get("signature") or entry.get("data"))
    kind = entry.get("type")
    return (kind == "thinking" and bool(entry.get("signature"))) or kind == "redacted_thinking"


def _is_geminis(call: Any) -> bool:
    extra = call.get("extra_content") if isinstance(call, dict) else None
    google = extra.get("google") if isinstance(extra, dict) else None
    return isinstance(google, dict) and bool(google.get("thought_signature"))
