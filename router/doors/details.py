"""OpenRouter's `reasoning_details`, put together from a stream's pieces.

Models behind it that sign or encrypt their reasoning (Gemini above all) refuse to go on in a tool loop without it:
https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]

# Members that grow by pieces.
_GROWING = ("text", "summary")


class Details:
    """The entries of one answer, in the order they began."""

    def __init__(self, pieces: Iterable[Json] = ()) -> None:
        self._entries: list[Json] = []
        self.add(pieces)

    def add(self, pieces: Iterable[Json]) -> None:
        for piece in pieces:
            last = self._entries[-1] if self._entries else None
            if last is None or not _continues(last, piece):
                self._entries.append(dict(piece))
                continue
            for key, value in piece.items():
                if key in _GROWING and isinstance(value, str) and isinstance(last.get(key), str):
                    last[key] += value
                elif value is not None:
                    last[key] = value

    def take(self) -> list[Json]:
        """What only its provider can read and has to have back; nothing where all of it is plain text."""
        if not any(entry.get("signature") or entry.get("data") for entry in self._entries):
            return []
        taken, self._entries = self._entries, []
        return taken


def _continues(last: Json, piece: Json) -> bool:
    kind = piece.get("type")
    same = kind == last.get("type") and piece.get("index") == last.get("index")
    return same and kind != "reasoning.encrypted" and not last.get("signature")
