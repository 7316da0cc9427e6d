"""A hub chat that came through another API's door."""

from __future__ import annotations

from typing import Any

from router.chat import Chat, encode


class TranslatedChat(Chat):
    """`source`: the request in the door's own form, which the answer may have to repeat parts of.

    `lost`: names of what the client asked for and the hub form cannot say. They are lost only for a target that gets
    the hub form; one that gets `native` bytes loses nothing.
    """

    __slots__ = ("lost", "source")

    def __init__(
        self,
        hub: dict[str, Any],
        source: dict[str, Any],
        lost: tuple[str, ...] = (),
        native: tuple[str, bytes] | None = None,
    ) -> None:
        super().__init__(encode(hub), hub, native)
        self.source = source
        self.lost = lost


def source_of(chat: Chat) -> dict[str, Any]:
    """The request in the door's own form; for a chat of the hub's own door, the hub form."""
    return chat.source if isinstance(chat, TranslatedChat) else chat.body
