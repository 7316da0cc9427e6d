"""Puts a stream's pieces of tool calls together, however a provider numbers them."""

from __future__ import annotations

from router.doors.answer import Call, is_whole


class GrowingCall:
    """One call, with all of its arguments so far. `place`: where the door shows it; None = nowhere yet."""

    __slots__ = ("arguments", "extra", "id", "name", "number", "place")

    def __init__(self, piece: Call) -> None:
        self.number = piece.number
        self.id = piece.id
        self.name = piece.name
        self.arguments = ""
        self.extra = piece.extra
        self.place: int | None = None


class Calls:
    """The calls of one answer, in the order they began."""

    def __init__(self) -> None:
        self.all: list[GrowingCall] = []

    def add(self, piece: Call) -> GrowingCall:
        """The call that `piece` belongs to, grown by it."""
        call = self._find(piece)
        if call is None:
            call = GrowingCall(piece)
            self.all.append(call)
        call.id = call.id or piece.id
        call.name = call.name or piece.name
        call.arguments += piece.arguments
        call.extra = call.extra or piece.extra
        return call

    def _find(self, piece: Call) -> GrowingCall | None:
        """Most number their calls; some send every call as number 0, or without a number, but with its own id.

        And some give neither: there a name after whole arguments begins the next call.
        """
        for call in reversed(self.all):
            if piece.number is not None and call.number is not None and piece.number != call.number:
                continue
            if piece.id and call.id and piece.id != call.id:
                continue
            begins = piece.name and piece.arguments and call.name and is_whole(call.arguments)
            return None if begins and not piece.id else call
        return None
