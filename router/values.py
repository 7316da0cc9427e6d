"""One setting's text → its value. Each parser raises `ValueError` with what was expected."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

CAPABILITIES = frozenset({"tools", "vision", "json"})
_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def text(raw: str) -> str:
    return raw


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", raw) or not low <= int(raw) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(raw)

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    def parse(raw: str) -> float:
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return parse


def flag(raw: str) -> bool:
    if raw.lower() not in _FLAGS:
        raise ValueError("1 or 0")
    return _FLAGS[raw.lower()]


def one_of(*choices: str, upper: bool = False) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        value = raw.upper() if upper else raw.lower()
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value

    return parse


def names(raw: str) -> tuple[str, ...]:
    return tuple(name for part in raw.split(",") if (name := part.strip()))


def capabilities(raw: str) -> frozenset[str]:
    given = frozenset(name.lower() for name in names(raw))
    if given - CAPABILITIES - {"none"}:
        raise ValueError("any of tools, vision, json, comma-separated (or none)")
    return given - {"none"}


def header_safe(raw: str) -> str:
    if not raw.isprintable() or not raw.isascii():
        raise ValueError("printable ASCII, as it travels in a header")
    return raw


def keys(raw: str) -> tuple[str, ...]:
    given = names(header_safe(raw))
    if not given:  # a lone comma: the router would be open although a key seems to be set
        raise ValueError("one key or several, comma-separated")
    return given


def url(raw: str) -> str:
    try:
        parts = urlsplit(raw)
        _ = parts.port
    except ValueError:  # a bracket left open, a port beyond 65535
        raise ValueError("a URL with a valid host and port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an http:// or https:// URL without query or fragment")
    if parts.username or parts.password:
        raise ValueError("a URL without user and password in it; the key has a variable of its own")
    try:
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValueError("a URL whose host can be a host's name") from None
    return raw.rstrip("/")


def file(raw: str) -> Path:
    """A file, there already or not. A device may have no end and a pipe no writer: reading one never returns."""
    path = Path(raw)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError):  # a name too long, a folder that may not be entered
        raise ValueError("a path that can be looked at") from None
    if not stat.S_ISREG(mode):
        raise ValueError("a file, not a folder, a pipe or a device")
    return path
