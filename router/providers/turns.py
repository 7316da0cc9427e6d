"""What some OpenAI-compatible vendors demand of the messages themselves: roles, their order, the ids of calls.

Each function takes the client's messages and gives them back as the vendor takes them: the same list where nothing had
to change, else a new one; the messages in it are never mutated. Which vendor needs what stands in `model_rules`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

Message = dict[str, Any]

# Mistral's form of a call's id (its error 3280): https://docs.mistral.ai/capabilities/function_calling/
_SHORT_ID_CHARS = 9
_SHORT_ID = re.compile(rf"[a-zA-Z0-9]{{{_SHORT_ID_CHARS}}}")
# Said by nobody; stands where an answer to a tool's result has to stand, and the client went on without one.
ACKNOWLEDGED = "Understood."


def system_role(messages: list[Message]) -> list[Message]:
    """`developer`, OpenAI's newer name, becomes `system`: others refuse it, or pass over what it says."""
    if all(message.get("role") != "developer" for message in messages):
        return messages
    return [{**message, "role": "system"} if message.get("role") == "developer" else message for message in messages]


def short_ids(messages: list[Message]) -> list[Message]:
    """Ids of calls that another provider gave become nine letters and digits, the same ones in every turn."""
    fitted = [_with_short_ids(message) for message in messages]
    return messages if all(new is old for new, old in zip(fitted, messages, strict=True)) else fitted


def mistral_order(messages: list[Message]) -> list[Message]:
    """A tool's result is answered before anyone else speaks, and instructions do not follow an answer or end the chat.

    Mistral's error 3230. Instructions that stand where they may not join those at the beginning.
    """
    ordered: list[Message] = []
    moved: list[Message] = []
    for message in messages:
        role, before = message.get("role"), ordered[-1].get("role") if ordered else None
        if role == "system" and before in ("assistant", "tool"):
            moved.append(message)
            continue
        if role == "user" and before == "tool":
            ordered.append({"role": "assistant", "content": ACKNOWLEDGED})
        ordered.append(message)
    spoken = next((at for at, message in enumerate(ordered) if message.get("role") != "system"), len(ordered))
    last = len(ordered)
    while last > spoken and ordered[last - 1].get("role") == "system":
        last -= 1
    moved += ordered[last:]
    return [*ordered[:spoken], *moved, *ordered[spoken:last]] if moved or len(ordered) > len(messages) else messages


def _with_short_ids(message: Message) -> Message:
    calls = message.get("tool_calls")
    if isinstance(calls, list) and any(isinstance(call, dict) and _is_foreign(call.get("id")) for call in calls):
        fitted = [
            {**call, "id": _short(call["id"])} if isinstance(call, dict) and _is_foreign(call.get("id")) else call
            for call in calls
        ]
        message = {**message, "tool_calls": fitted}
    if _is_foreign(message.get("tool_call_id")):
        message = {**message, "tool_call_id": _short(message["tool_call_id"])}
    return message


def _is_foreign(identifier: Any) -> bool:
    return isinstance(identifier, str) and _SHORT_ID.fullmatch(identifier) is None


def _short(identifier: str) -> str:
    return hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:_SHORT_ID_CHARS]
