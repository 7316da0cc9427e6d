"""Schemas that a tool's cannot be as they are, and answers that are no JSON object.

The answers travel through a tool, whose input always is an object, as its only member. A tool's schema must have the
type object at its root and no `anyOf`, `oneOf` or `allOf` there:
https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from router.chat import encode
from router.errors import BadRequest

MEMBER = "value"
_UNIONS = ("anyOf", "oneOf", "allOf")
_PLACE = f"#/properties/{MEMBER}"
# What speaks for a whole document, and what `$ref` finds from its root.
_OF_THE_ROOT = ("$schema", "$id", "$defs", "definitions")
_OPENING = re.compile(rf'\s*\{{\s*"{MEMBER}"\s*:\s*(?=\S)')
_INTO_THE_ROOT = re.compile(r"#/(?!\$defs/|definitions/)")
# In levels of JSON, of which a schema takes two or three for one of its own.
_MAX_DEPTH = 200
# Input that has not begun like that by here never will.
_OPENING_MAX_CHARS = 1_000


def has_unions(schema: Mapping[str, Any]) -> bool:
    return any(key in schema for key in _UNIONS)


def is_object(schema: Mapping[str, Any]) -> bool:
    """Whether the schema can be a tool's as it is, but for a missing `type`."""
    if has_unions(schema):
        return False
    for _ in range(10):
        reference = schema.get("$ref")
        if "type" in schema or not isinstance(reference, str):
            break
        kind, _, name = reference.removeprefix("#/").partition("/")
        definitions = schema.get(kind) if reference.startswith("#/") else None
        found = definitions.get(name) if isinstance(definitions, dict) else None
        if not isinstance(found, dict):
            break
        schema = {**{key: schema[key] for key in ("$defs", "definitions") if key in schema}, **found}
    return schema["type"] == "object" if "type" in schema else "properties" in schema


def without_unions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with the unions of its root told by `properties` and `required`, as far as these can.

    What the branches mean beyond that stands in the description, so that the model still reads it.
    """
    unions = {key: schema[key] for key in _UNIONS if isinstance(schema.get(key), list)}
    rest = {key: value for key, value in schema.items() if key not in _UNIONS}
    given = rest.get("properties")
    properties: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    required = _names(rest)
    offered: dict[str, list[Any]] = {}
    for key, entries in unions.items():
        branches = [_resolved(entry, schema) for entry in entries]
        for branch in branches:
            children = branch.get("properties")
            for name, child in children.items() if isinstance(children, dict) else ():
                if name not in properties and child not in offered.setdefault(name, []):
                    offered[name].append(child)
        demanded = [_names(branch) for branch in branches]
        required += [
            name
            for name in dict.fromkeys(name for names in demanded for name in names)
            if name not in required and (key == "allOf" or all(name in names for names in demanded))
        ]
    for name, children in offered.items():
        properties[name] = children[0] if len(children) == 1 else {"anyOf": children}
    note = encode(unions).decode()
    said = rest.get("description")
    rest["description"] = f"{said}\n{note}" if isinstance(said, str) and said else note
    rest["properties"] = properties
    if required:
        rest["required"] = required
    return rest


def _resolved(entry: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A branch, or the definition that it refers to."""
    if not isinstance(entry, dict):
        return {}
    reference = entry.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        kind, _, name = reference.removeprefix("#/").partition("/")
        definitions = root.get(kind)
        found = definitions.get(name) if isinstance(definitions, dict) else None
        return found if isinstance(found, dict) else {}
    return entry


def _names(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def wrap(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Raises `BadRequest` for a schema without a bottom."""
    moved: dict[str, Any] = _moved(dict(schema), 0)
    whole = {key: moved.pop(key) for key in _OF_THE_ROOT if key in moved}
    return {**whole, "type": "object", "properties": {MEMBER: moved}, "required": [MEMBER]}


def _moved(node: Any, depth: int) -> Any:
    """A part of the schema, whose references follow what has a new place; definitions keep theirs."""
    if depth > _MAX_DEPTH:
        raise BadRequest("The JSON schema is nested too deeply.", param="response_format", code="invalid_schema")
    if isinstance(node, list):
        return [_moved(entry, depth + 1) for entry in node]
    if not isinstance(node, dict):
        return node
    moved = {key: _moved(value, depth + 1) for key, value in node.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and (reference == "#" or _INTO_THE_ROOT.match(reference)):
        moved["$ref"] = _PLACE + reference[1:]
    return moved


def unwrap(given: Any) -> Any:
    """The answer in the tool's input; the input itself where the model did not keep to the schema."""
    return given[MEMBER] if isinstance(given, dict) and MEMBER in given else given


class Unwrapper:
    """`unwrap` for the input's JSON as it streams in, in pieces of any size; the answer's own text is kept as it is."""

    __slots__ = ("_depth", "_done", "_escaped", "_held", "_held_chars", "_quoted", "_started")

    def __init__(self) -> None:
        self._held: list[str] = []
        self._held_chars = 0
        self._started = False
        self._done = False
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def feed(self, text: str) -> str:
        """The part of the answer that can be passed on."""
        if self._done:
            return ""
        if self._started:
            return self._inside(text)
        self._held.append(text)
        self._held_chars += len(text)
        if self._held_chars - len(text) > _OPENING_MAX_CHARS:
            return ""  # something else came first: `end` sorts it out
        begun = "".join(self._held)
        opening = _OPENING.match(begun)
        if opening is None:
            return ""
        self._held = []
        self._started = True
        return self._inside(begun[opening.end() :])

    def end(self) -> str:
        """The answer, where nothing of it could be passed on before; nothing where the input broke off before it."""
        if self._started:
            return ""
        try:
            return orjson.dumps(unwrap(orjson.loads("".join(self._held)))).decode()
        except orjson.JSONDecodeError:
            return ""

    def _inside(self, text: str) -> str:
        for at, char in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped = char == "\\"
                self._quoted = char != '"'
            elif char == '"':
                self._quoted = True
            elif char in "[{":
                self._depth += 1
            elif self._depth == 0 and char in ",}":  # the wrapper goes on, or ends: the answer is over
                self._done = True
                return text[:at].rstrip()
            elif char in "]}":
                self._depth -= 1
        # White space behind the answer is the wrapper's.
        return text if self._depth or self._quoted else text.rstrip()
