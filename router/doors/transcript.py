"""Builds a hub conversation that even the strictest OpenAI-compatible server takes.

Rules kept here (https://platform.openai.com/docs/api-reference/chat/create): the results of tool calls stand directly
behind the assistant message that made them; a tool message holds text only, so its images and files travel in the next
user message; text without attachments is a plain string, which vendors that know no content parts take too.
"""

from __future__ import annotations

from typing import Any

Part = dict[str, Any]

# `router.prompt` takes this block out: what a tool attached is not what the person wrote.
_ATTACHED = "<tool_result>Attached by tool call {}:</tool_result>"
_SEE_NEXT = "(The result is attached to the next message.)"
_FAILED = "Error: "


def text_part(text: str) -> Part:
    return {"type": "text", "text": text}


class Transcript:
    """Hub messages in the making."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._attached: list[Part] = []  # what tools returned beside text; owed to the next user message

    def system(self, parts: list[Part]) -> None:
        self._settle()
        self._messages.append({"role": "system", "content": _content(parts)})

    def user(self, parts: list[Part]) -> None:
        attached, self._attached = self._attached, []
        self._messages.append({"role": "user", "content": _content([*attached, *parts])})

    def assistant(
        self,
        text: str | None,
        calls: list[dict[str, Any]],
        *,
        reasoning: str = "",
        thinking_blocks: list[dict[str, Any]] | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        """`calls`: hub tool calls. `thinking_blocks`: signed blocks as Anthropic made them, for Anthropic alone.

        `details`: OpenRouter's `reasoning_details`, which hold the reasoning, too.
        """
        self._settle()
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if text is None and not calls:
            message["content"] = ""
        if calls:
            message["tool_calls"] = calls
        if details:
            message["reasoning_details"] = details
        elif reasoning:
            message["reasoning_content"] = reasoning
        if thinking_blocks:
            message["thinking_blocks"] = thinking_blocks
        self._messages.append(message)

    def tool(self, call_id: str, parts: list[Part], *, failed: bool = False) -> None:
        """The result of one call. `failed`: the hub has no field for it, so the text says so."""
        texts = [part["text"] for part in parts if part["type"] == "text"]
        others = [part for part in parts if part["type"] != "text"]
        content = "\n\n".join(texts)
        if others:
            self._attached += [text_part(_ATTACHED.format(call_id)), *others]
            content = content or _SEE_NEXT
        if failed and not content.lower().startswith("error"):
            content = _FAILED + content
        position = len(self._messages)
        while position and self._messages[position - 1]["role"] == "user":
            position -= 1  # results that a client put behind the user's words belong before them
        if not position or self._messages[position - 1]["role"] not in ("assistant", "tool"):
            position = len(self._messages)
        self._messages.insert(position, {"role": "tool", "tool_call_id": call_id, "content": content})

    def done(self) -> list[dict[str, Any]]:
        self._settle()
        return self._messages

    def _settle(self) -> None:
        if self._attached:
            self.user([])


def _content(parts: list[Part]) -> str | list[Part]:
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts
