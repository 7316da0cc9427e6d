"""Hub answer → Anthropic message, and the parts that its stream shares.

API: https://platform.claude.com/docs/en/api/messages/create (response) and …/build-with-claude/handling-stop-reasons
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from router.chat import Chat, encode
from router.doors.answer import Counts, choices_of, counts, model_of, new_id, read
from router.doors.details import Details
from router.doors.messages.thinking import (
    UNSIGNED,
    arguments_as_input,
    bare,
    details_block,
    sealed_block,
    wants_thinking,
)
from router.doors.translated import source_of
from router.providers.dialect import Reply

Json = dict[str, Any]

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "model_length": "model_context_window_exceeded",  # Mistral's word for it
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
# Anthropic takes no other character in a tool call's id when the conversation comes back.
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")


def message_of(reply: Reply, chat: Chat, meta: Mapping[str, Any]) -> bytes:
    """The body of a whole answer."""
    document, source = reply.document, source_of(chat)
    choice: Json = next(iter(choices_of(document)), {})
    said = read(choice.get("message"))
    content: list[Json] = []
    if wants_thinking(source):
        if said.thinking_blocks:
            content += [bare(block) for block in said.thinking_blocks]
        elif said.reasoning:
            content.append({"type": "thinking", "thinking": said.reasoning, "signature": UNSIGNED})
        if details := Details(said.details).take():
            content.append(details_block(details))
    if said.text or said.refusal:
        content.append({"type": "text", "text": said.text or said.refusal})
    for call in said.calls:
        block = tool_block(call.id, call.name)
        if call.extra and wants_thinking(source):
            content.append(sealed_block(block["id"], call.extra))
        content.append({**block, "input": arguments_as_input(call.arguments)})
    reason, sequence = stop_of(choice, source, called=bool(said.calls), refused=bool(said.refusal))
    message = {
        **envelope(document, chat.model),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage_of(counts(document.get("usage"), reply.usage)),
        "_virtusoul": meta,
    }
    return encode(message)


def envelope(document: Mapping[str, Any], asked: str) -> Json:
    """What a message begins with, whole or streamed."""
    given = document.get("id")
    suffix = (
        _NOT_IN_IDS.sub("_", given.removeprefix("chatcmpl-").removeprefix("msg_")) if isinstance(given, str) else ""
    )
    return {
        "id": f"msg_{suffix}" if suffix else new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model_of(document, asked),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def tool_block(call_id: str, name: str) -> Json:
    """A `tool_use` block whose input is still to come."""
    return {"type": "tool_use", "id": _NOT_IN_IDS.sub("_", call_id) or new_id("toolu_"), "name": name, "input": {}}


def stop_of(choice: Mapping[str, Any], source: Json, *, called: bool, refused: bool) -> tuple[str, str | None]:
    """`stop_reason` and `stop_sequence`. Some servers end a tool call with "stop"; some (vLLM) name the sequence."""
    if refused:
        return "refusal", None
    finish, matched = choice.get("finish_reason"), choice.get("stop_reason")
    if called and finish in ("stop", "", None):
        return "tool_use", None
    if finish == "stop" and isinstance(matched, str) and matched in (source.get("stop_sequences") or ()):
        return "stop_sequence", matched
    return (_STOP_REASONS.get(finish, "end_turn") if isinstance(finish, str) else "end_turn"), None


def usage_of(found: Counts) -> Json:
    """Anthropic counts cache reads and writes beside `input_tokens`, OpenAI inside `prompt_tokens`."""
    usage: Json = {
        "input_tokens": max(0, found.prompt - found.cached - found.written),
        "cache_creation_input_tokens": found.written,
        "cache_read_input_tokens": found.cached,
        "output_tokens": found.completion,
    }
    if found.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": found.reasoning}
    return usage
