"""Anthropic request → hub. API: https://platform.claude.com/docs/en/api/messages/create"""

from __future__ import annotations

import hashlib
from typing import Any

from router.chat import encode, parse_object
from router.doors import checks
from router.doors.messages.blocks import blocks_of, part_of, parts_of
from router.doors.messages.thinking import is_unsigned, without_unsigned
from router.doors.messages.tools import add_tools, fits_strict_mode
from router.doors.sealed import unseal, unseal_details
from router.doors.transcript import Part, Transcript
from router.doors.translated import TranslatedChat

Json = dict[str, Any]

# OpenAI refuses a longer `user` (and vendors one of other characters); agents put JSON of 150 characters there.
MAX_USER_CHARS = 64
# A thinking budget in tokens → the effort that spends about as much.
_EFFORT_BELOW = ((4096, "low"), (16_384, "medium"))
# Anthropic's efforts → those that every reasoning model takes.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}

_AS_THEY_ARE = ("temperature", "top_p")
_TRANSLATED = frozenset(
    {
        "model", "messages", "system", "max_tokens", "stream", "stop_sequences", "metadata", "tools", "tool_choice",
        "thinking", "output_config", "output_format", *_AS_THEY_ARE,
    }
)  # fmt: skip


def parse(raw: bytes, *, counting: bool = False) -> TranslatedChat:
    """Client bytes → hub chat with the original beside it. `counting`: `count_tokens`, which takes no `max_tokens`."""
    body = parse_object(raw)
    lost = [name for name in body if name not in _TRANSLATED and body[name] is not None]
    hub: Json = {"model": body.get("model"), "messages": _messages(body, lost)}
    _add_limits(body, hub, counting)
    add_tools(body, hub, lost)
    _add_effort(body, hub, lost)
    _add_format(body, hub, lost)
    if checks.optional_flag(body, "stream"):
        hub["stream"] = True
        hub["stream_options"] = {"include_usage": True}
    native = ("anthropic", without_unsigned(raw, body))
    return TranslatedChat(hub, body, tuple(dict.fromkeys(lost)), native)


def _messages(body: Json, lost: list[str]) -> list[Json]:
    transcript = Transcript()
    if (system := parts_of(body.get("system"), "system", lost)) and any(part.get("text") for part in system):
        transcript.system(system)
    if body.get("messages") is None:
        checks.missing("messages")
    messages = checks.objects(body["messages"], "messages")
    if not messages:
        checks.refuse("'messages' must not be empty.", "messages", "empty_array")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = checks.text(message, "role", where)
        blocks = blocks_of(message.get("content"), f"{where}.content")
        if role == "user":
            _add_user(transcript, blocks, f"{where}.content", lost)
        elif role == "assistant":
            _add_assistant(transcript, blocks, f"{where}.content", lost)
        elif role == "system":
            transcript.system(parts_of(blocks, f"{where}.content", lost))
        else:
            checks.refuse(f"'{where}.role' must be user, assistant or system.", f"{where}.role", "invalid_value")
    return transcript.done()


def _add_user(transcript: Transcript, blocks: list[Json], where: str, lost: list[str]) -> None:
    """One user turn: its tool results, each a message of its own, then what the person wrote."""
    parts: list[Part] = []
    results = 0
    for index, block in enumerate(blocks):
        here = f"{where}[{index}]"
        if block["type"] == "tool_result":
            results += 1
            transcript.tool(
                checks.text(block, "tool_use_id", here),
                parts_of(block.get("content"), f"{here}.content", lost),
                failed=bool(checks.optional_flag(block, "is_error", here)),
            )
        else:
            parts += part_of(block, here, lost)
    if parts or not results:
        transcript.user(parts)


def _add_assistant(transcript: Transcript, blocks: list[Json], where: str, lost: list[str]) -> None:
    texts: list[str] = []
    calls: list[Json] = []
    reasoning: list[str] = []
    signed: list[Json] = []
    extras: Json = {}
    details: list[Json] = []
    for index, block in enumerate(blocks):
        here, kind = f"{where}[{index}]", block["type"]
        if kind == "text":
            texts.append(checks.text(block, "text", here))
        elif kind == "tool_use":
            calls.append(_call(block, here))
        elif is_unsigned(block):
            extras |= unseal(block.get("signature"))[1]
            details += unseal_details(block.get("signature"))
            reasoning.append(checks.optional_text(block, "thinking", here) or "")
        elif kind in ("thinking", "redacted_thinking"):
            signed.append(block)
        else:
            lost.append(f"content.{kind}")
    for call in calls:
        if isinstance(extra := extras.get(call["id"]), dict):
            call["extra_content"] = extra
    # Citations cut one text into many blocks in the middle of sentences: nothing goes between them.
    text = "".join(texts) if texts else None
    transcript.assistant(text, calls, reasoning="".join(reasoning), thinking_blocks=signed, details=details)


def _call(block: Json, where: str) -> Json:
    given = block.get("input")
    if given is not None and not isinstance(given, dict):
        checks.wrong_type(f"{where}.input", "an object")
    function = {"name": checks.text(block, "name", where), "arguments": encode(given or {}).decode()}
    return {"id": checks.text(block, "id", where), "type": "function", "function": function}


def _add_limits(body: Json, hub: Json, counting: bool) -> None:
    limit = body.get("max_tokens")
    if limit is None and not counting:
        checks.missing("max_tokens")
    if limit is not None:
        # 0 fills Anthropic's prompt cache and says nothing; another provider gets it as sent and says what it is there.
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            checks.refuse("'max_tokens' must be a whole number, 0 or more.", "max_tokens", "invalid_value")
        hub["max_tokens"] = limit
    for name in _AS_THEY_ARE:
        if body.get(name) is not None:
            hub[name] = body[name]
    stops = body.get("stop_sequences")
    if stops is not None:
        if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
            checks.wrong_type("stop_sequences", "an array of strings")
        if stops:
            hub["stop"] = stops
    metadata = checks.optional_object(body, "metadata")
    if metadata and (user := checks.optional_text(metadata, "user_id", "metadata")):
        # A digest keeps what the field is for: telling one user from another.
        hub["user"] = user if len(user) <= MAX_USER_CHARS else hashlib.sha256(user.encode()).hexdigest()


def _add_effort(body: Json, hub: Json, lost: list[str]) -> None:
    """`output_config.effort` and `thinking` → `reasoning_effort`; nothing where the client left it to the model."""
    thinking = checks.optional_object(body, "thinking") or {}
    config = checks.optional_object(body, "output_config") or {}
    kind = checks.optional_text(thinking, "type", "thinking")
    effort = checks.optional_text(config, "effort", "output_config")
    budget = thinking.get("budget_tokens")
    if kind == "disabled":
        if effort is not None:  # how much to write without thinking: the hub has no word for that
            lost.append("output_config.effort")
        return
    if effort is not None:
        if effort not in _EFFORTS:
            choices = ", ".join(_EFFORTS)
            checks.refuse(f"'output_config.effort' must be one of {choices}.", "output_config.effort", "invalid_value")
        hub["reasoning_effort"] = _EFFORTS[effort]
        if _EFFORTS[effort] != effort:
            lost.append("output_config.effort")
    elif kind == "enabled":
        if not isinstance(budget, int):
            checks.wrong_type("thinking.budget_tokens", "an integer")
        hub["reasoning_effort"] = next((name for limit, name in _EFFORT_BELOW if budget < limit), "high")


def _add_format(body: Json, hub: Json, lost: list[str]) -> None:
    """`output_config.format` (earlier: `output_format`) → `response_format`."""
    config = checks.optional_object(body, "output_config") or {}
    where = "output_config.format" if config.get("format") is not None else "output_format"
    given = checks.optional_object(config, "format", "output_config") or checks.optional_object(body, "output_format")
    if given is None:
        return
    if checks.text(given, "type", where) != "json_schema":
        checks.refuse(f"'{where}.type' must be json_schema.", f"{where}.type", "invalid_value")
    schema = checks.optional_object(given, "schema", where)
    if schema is None:
        checks.missing(f"{where}.schema")
    strict = fits_strict_mode(schema)
    if not strict:  # Anthropic binds the answer to it all the same; elsewhere it is only a wish now
        lost.append(where)
    named = {"name": "output", "schema": schema, "strict": strict}
    hub["response_format"] = {"type": "json_schema", "json_schema": named}
