"""What upstream and client agree on: the text that belongs to a request, so that a truncated one cannot pass."""

from __future__ import annotations

import re
import zlib

_TAG = re.compile(rb"\[soak (\d+)\]")
_SHORTEST, _SPREAD = 5, 40


def prompt(number: int, text: str) -> str:
    """A prompt that carries the request's number through any router."""
    return f"{text} [soak {number}]"


def number_in(body: bytes) -> int | None:
    """The number of a request, from its body."""
    found = _TAG.search(body)
    return int(found[1]) if found else None


def words(number: int) -> list[str]:
    """The answer in the pieces that a stream sends; the last one is the checksum of those before."""
    count = _SHORTEST + number % _SPREAD
    text = [f"{'' if index == 0 else ' '}w{(number * 31 + index * 7) % 9973}" for index in range(count)]
    return [*text, f" #{zlib.crc32(''.join(text).encode()):08x}"]


def text(number: int) -> str:
    return "".join(words(number))
