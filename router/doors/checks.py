"""Checks of a client's fields, each with the message and `param` that OpenAI's API would give."""

from __future__ import annotations

from typing import Any, NoReturn

from router.errors import BadRequest

Json = dict[str, Any]


def refuse(message: str, where: str, code: str | None = None) -> NoReturn:
    """Raises `BadRequest` that points at `where`."""
    raise BadRequest(message, param=where, code=code)


def wrong_type(where: str, expected: str) -> NoReturn:
    refuse(f"'{where}' must be {expected}.", where, "invalid_type")


def missing(where: str) -> NoReturn:
    refuse(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")


def text(holder: Json, key: str, where: str = "") -> str:
    """A required string member of `holder`; `where` is the path of `holder`."""
    path = f"{where}.{key}" if where else key
    value = holder.get(key)
    if value is None:
        missing(path)
    if not isinstance(value, str):
        wrong_type(path, "a string")
    return value


def optional_text(holder: Json, key: str, where: str = "") -> str | None:
    """A string member, or None where it is absent or null."""
    return None if holder.get(key) is None else text(holder, key, where)


def optional_object(holder: Json, key: str, where: str = "") -> Json | None:
    """An object member, or None where it is absent or null."""
    value = holder.get(key)
    if value is None or isinstance(value, dict):
        return value
    wrong_type(f"{where}.{key}" if where else key, "an object")


def optional_flag(holder: Json, key: str, where: str = "") -> bool | None:
    """A boolean member, or None where it is absent or null."""
    value = holder.get(key)
    if value is None or isinstance(value, bool):
        return value
    wrong_type(f"{where}.{key}" if where else key, "a boolean")


def objects(value: Any, where: str) -> list[Json]:
    """An array of objects; absent or null counts as empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        wrong_type(where, "an array")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            wrong_type(f"{where}[{index}]", "an object")
    return value
