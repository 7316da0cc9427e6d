"""OpenAI messages → Anthropic's `system` and `messages`.

What the API demands (https://platform.claude.com/docs/en/api/messages/create and …/build-with-claude/working-with-
messages): user and assistant take turns and the user begins; no empty content and no blank text; a turn's tool results
stand first in the very next user turn; ids are unique and of `[a-zA-Z0-9_-]`; signed thinking blocks come back as they
were, where they were; a final assistant text does not end in whitespace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from router.errors import BadRequest
from router.providers.anthropic.models import Model
from router.providers.anthropic.parts import Block, text_of, to_block
from router.providers.dialect import parse

# Said by nobody; stands where the API demands a user turn and the conversation has none.
OPENING = "Begin."
CONTINUE = "Continue."

_BAD_ID_CHARACTERS = re.compile(r"[^a-zA-Z0-9_-]")


def convert(
    messages: Sequence[dict[str, Any]], model: Model, dropped: dict[str, None]
) -> tuple[list[Block], list[Block]]:
    """System blocks and turns. Raises `BadRequest` for what cannot be said; names what got lost in `dropped`."""
    conversation = _Conversation(model, dropped)
    for index, message in enumerate(messages):
        conversation.add(index, message)
    return conversation.finish(messages)


def has_tool_use(turns: Sequence[Block]) -> dict[str, None]:
    """Names of the tools that the turns call, in order."""
    return {
        block["name"]: None
        for turn in turns
        if turn["role"] == "assistant" and isinstance(turn["content"], list)
        for block in turn["content"]
        if block["type"] == "tool_use"
    }


class _Conversation:
    """Builds the turns; ids of tool calls are mapped as they come by."""

    def __init__(self, model: Model, dropped: dict[str, None]) -> None:
        self._model = model
        self._dropped = dropped
        self._system: list[Block] = []
        self._turns: list[Block] = []
        self._late: list[Block] = []  # system blocks that wait for the end of a user turn
        self._signed = False  # a signed thinking block went by
        self._ids: dict[str, str] = {}  # the client's id → ours, as of the latest call with it
        self._used: set[str] = set()
        self._functions: dict[str, str] = {}  # legacy calls: name → id

    def add(self, index: int, message: dict[str, Any]) -> None:
        role = message["role"]
        if message.get("name") is not None and role in ("user", "assistant", "system", "developer"):
            self._dropped["messages.name"] = None
        if role == "user":
            self._append("user", self._blocks(message, index))
        elif role == "assistant":
            self._assistant(message, index)
        elif role == "tool":
            self._result(message, index, self._known_id(message.get("tool_call_id")))
        elif role == "function":
            name = str(message.get("name"))
            self._result(message, index, self._functions.get(name) or self._new_id(f"call_{name}"))
        elif role in ("system", "developer"):
            self._instruct(message, index)
        else:
            where = f"messages[{index}].role"
            raise BadRequest(f"'{where}': unknown role {role[:40]!r}.", param=where, code="invalid_value")

    def finish(self, messages: Sequence[dict[str, Any]]) -> tuple[list[Block], list[Block]]:
        self._flush_late()
        turns = self._turns
        _trim_last(turns)
        if not turns or turns[0]["role"] == "assistant":
            turns.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
        spoken = [message["role"] for message in messages if message["role"] not in ("system", "developer")]
        if turns[-1]["role"] == "assistant" and spoken and spoken[-1] != "assistant":
            # The last word was a blank one of the user's; without it the assistant's turn would be continued.
            turns.append({"role": "user", "content": [{"type": "text", "text": CONTINUE}]})
        for turn in turns:
            content = turn["content"]
            if len(content) == 1 and content[0]["type"] == "text" and len(content[0]) == 2:
                turn["content"] = content[0]["text"]
        return self._system, turns

    # --- turns ---

    def _append(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self._late and role == "assistant":
            self._flush_late()
        turns = self._turns
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})

    def _instruct(self, message: dict[str, Any], index: int) -> None:
        """A system or developer message: joins `system`, wherever it stands.

        Except behind thinking that is bound to all that came before it, `system` included: there it stays in place.
        https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages
        """
        given = self._blocks(message, index)
        blocks = [block for block in given if block["type"] == "text"]
        if len(blocks) < len(given):  # images and files cannot stand in `system`
            self._dropped["messages.content"] = None
        if self._signed and self._model.bound:
            self._late += blocks
        else:
            self._system += blocks

    def _flush_late(self) -> None:
        """Late instructions follow the user turn they stand in or before; the API takes them nowhere else."""
        if self._late:
            late, self._late = self._late, []
            role = "system" if self._turns and self._turns[-1]["role"] == "user" else "user"
            self._turns.append({"role": role, "content": late})

    def _blocks(self, message: dict[str, Any], index: int) -> list[Block]:
        content = message.get("content")
        if isinstance(content, str):
            blocks: list[Block] = [{"type": "text", "text": content}] if content and not content.isspace() else []
        elif content:
            where = f"messages[{index}].content"
            found = (to_block(part, f"{where}[{at}]", self._dropped) for at, part in enumerate(content))
            blocks = [block for block in found if block is not None]
        else:
            return []
        if blocks and message.get("cache_control") is not None:
            blocks[-1].setdefault("cache_control", message["cache_control"])
        return blocks

    # --- the assistant ---

    def _assistant(self, message: dict[str, Any], index: int) -> None:
        thinking = self._thinking(message)
        content = message.get("content")
        if isinstance(content, list):
            content = [part for part in content if part.get("type") not in ("thinking", "redacted_thinking")]
            texts = [text_of(part) for part in content]
            if any(text is None for text in texts):  # images and files cannot stand in an assistant's turn
                content = [part for part, text in zip(content, texts, strict=True) if text is not None]
                self._dropped["messages.content"] = None
        if not content and isinstance(message.get("refusal"), str):
            content = message["refusal"]
        calls = self._calls(message, index)
        if any(at != (0, 0) for at, _ in thinking):
            blocks = _interleave(thinking, content, calls)
        else:
            blocks = [block for _, block in thinking]
            blocks += self._blocks({**message, "content": content}, index)
            blocks += calls
        if thinking:
            self._signed = True
        self._append("assistant", blocks)

    def _thinking(self, message: dict[str, Any]) -> list[tuple[tuple[int, int], Block]]:
        """Signed blocks, each with its place: characters of text and number of calls before it."""
        given = message.get("thinking_blocks") or message.get("reasoning_details")
        content = message.get("content")
        if not given and isinstance(content, list):
            given = [part for part in content if part.get("type") in ("thinking", "redacted_thinking")]
        if not isinstance(given, list) or not given:
            return []
        found = []
        for entry in given:
            block = _signed(entry) if isinstance(entry, dict) else None
            if block is None or not self._model.can_think:
                self._dropped["thinking_blocks"] = None
                continue
            found.append((_place(entry.get("at")), block))
        return found

    def _calls(self, message: dict[str, Any], index: int) -> list[Block]:
        blocks: list[Block] = []
        calls = message.get("tool_calls")
        if calls is not None and not isinstance(calls, list):
            where = f"messages[{index}].tool_calls"
            raise BadRequest(f"'{where}' must be an array.", param=where, code="invalid_type")
        for call in calls or ():
            function = call.get("function") or call.get("custom") if isinstance(call, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                where = f"messages[{index}].tool_calls"
                raise BadRequest(f"'{where}' must hold calls of functions.", param=where, code="invalid_type")
            if call.get("extra_content") is not None:  # Gemini's signature
                self._dropped["messages.tool_calls.extra_content"] = None
            raw = str(call.get("id") or "")
            self._ids[raw] = identifier = self._new_id(raw)
            given = function.get("arguments") if "input" not in function else {"input": function["input"]}
            block: Block = {"type": "tool_use", "id": identifier, "name": function["name"], "input": _input(given)}
            if call.get("cache_control") is not None:
                block["cache_control"] = call["cache_control"]
            blocks.append(block)
        legacy = message.get("function_call")
        if isinstance(legacy, dict) and isinstance(legacy.get("name"), str):
            name = legacy["name"]
            self._functions[name] = identifier = self._new_id(f"call_{index}")
            arguments = _input(legacy.get("arguments"))
            blocks.append({"type": "tool_use", "id": identifier, "name": name, "input": arguments})
        return blocks

    # --- tool results ---

    def _result(self, message: dict[str, Any], index: int, identifier: str) -> None:
        block: Block = {"type": "tool_result", "tool_use_id": identifier}
        content = message.get("content")
        if isinstance(content, str):
            if content and not content.isspace():
                block["content"] = content
        elif blocks := self._blocks({"content": content}, index):
            block["content"] = blocks
        if message.get("is_error") is True:
            block["is_error"] = True
        if message.get("cache_control") is not None:
            block["cache_control"] = message["cache_control"]
        turns = self._turns
        if turns and turns[-1]["role"] == "user":  # results stand before whatever else the turn says
            content = turns[-1]["content"]
            at = next((i for i, other in enumerate(content) if other["type"] != "tool_result"), len(content))
            content.insert(at, block)
        else:
            self._append("user", [block])

    def _known_id(self, raw: Any) -> str:
        raw = str(raw or "")
        return self._ids.get(raw) or self._new_id(raw)

    def _new_id(self, raw: str) -> str:
        """`raw` as the API takes it: its alphabet, and never used before (weak models count from zero each turn)."""
        base = raw if raw and not _BAD_ID_CHARACTERS.search(raw) else _BAD_ID_CHARACTERS.sub("_", raw) or "call"
        candidate, number = base, 2
        while candidate in self._used:
            candidate, number = f"{base}_{number}", number + 1
        self._used.add(candidate)
        return candidate


def _signed(entry: dict[str, Any]) -> Block | None:
    """A thinking block as the API gave it; None where its signature is missing, for the API would refuse it."""
    kind = entry.get("type")
    signature, data = entry.get("signature"), entry.get("data")
    if kind == "thinking" and isinstance(signature, str) and signature:
        return {"type": "thinking", "thinking": str(entry.get("thinking") or ""), "signature": signature}
    if kind == "redacted_thinking" and isinstance(data, str) and data:
        return {"type": "redacted_thinking", "data": data}
    if str(entry.get("format", "")).startswith("anthropic"):  # OpenRouter's form of the same
        if kind == "reasoning.text" and isinstance(signature, str) and signature:
            return {"type": "thinking", "thinking": str(entry.get("text") or ""), "signature": signature}
        if kind == "reasoning.encrypted" and isinstance(data, str) and data:
            return {"type": "redacted_thinking", "data": data}
    return None


def _place(at: Any) -> tuple[int, int]:
    if isinstance(at, list) and len(at) == 2 and all(isinstance(n, int) and n >= 0 for n in at):
        return at[0], at[1]
    return 0, 0


def _interleave(thinking: list[tuple[tuple[int, int], Block]], content: Any, calls: list[Block]) -> list[Block]:
    """Thinking between texts and calls, where it was: a block is bound to what stood before it."""
    text = content if isinstance(content, str) else "".join(text_of(part) or "" for part in content or ())
    blocks: list[Block] = []
    chars = done = 0

    def say(until_chars: int, until_calls: int) -> None:
        nonlocal chars, done
        segment = text[chars:until_chars]
        if segment.strip():
            blocks.append({"type": "text", "text": segment})
        blocks.extend(calls[done:until_calls])
        chars, done = max(chars, until_chars), max(done, until_calls)

    for (until_chars, until_calls), block in thinking:
        say(until_chars, until_calls)
        blocks.append(block)
    say(max(chars, len(text)), max(done, len(calls)))
    return blocks


def _input(arguments: Any) -> dict[str, Any]:
    """A call's arguments as an object, which is all the API takes; what is none is kept under `_raw`, not lost."""
    if isinstance(arguments, dict):
        return arguments
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return {}
    if isinstance(arguments, str):
        try:
            parsed = parse(arguments.encode())
        except orjson.JSONDecodeError:
            return {"_raw": arguments}
        if isinstance(parsed, dict):
            return parsed
        return {} if parsed is None else {"_raw": parsed}
    return {"_raw": arguments}


def _trim_last(turns: list[Block]) -> None:
    """A final assistant text (which the model continues) must not end in whitespace, nor be empty."""
    if not turns or turns[-1]["role"] != "assistant":
        return
    content = turns[-1]["content"]
    last = content[-1]
    if last["type"] == "text":
        trimmed = last["text"].rstrip()
        if trimmed != last["text"]:
            content[-1] = {**last, "text": trimmed}
