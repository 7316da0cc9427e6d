"""`response_format` → what binds a Claude model to it: structured output, a tool that it must call, or a sentence.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs lists what a schema may hold: basic types,
`enum` and `const` of plain values, `anyOf`, `allOf` (without `$ref` in it), internal `$ref`, some string formats,
`minItems` of 0 or 1, and `additionalProperties: false` on every object; no recursion. What goes beyond it is written
into the description, so that the model still reads it, and the parameter is reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import orjson

from router.errors import BadRequest
from router.providers.anthropic.models import Model
from router.providers.anthropic.wrapped import is_object, wrap

JSON_ONLY = "Answer with exactly one JSON object and nothing else: no prose before or after it, no code fence."

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_KEPT = frozenset({"type", "description", "title", "default", "const", "required"})
# Deeper ones are no schema a model could fill; the API's own limits are far below.
_MAX_DEPTH = 60


class Output(NamedTuple):
    """How the answer is bound. `tool`: the answer is the input of a call of the tool `name`; `wrapped`: a member of it.

    `exact`: the schema went over as it was.
    """

    kind: Literal["free", "format", "tool", "prompt"] = "free"
    name: str = ""
    schema: Mapping[str, Any] | None = None
    exact: bool = True
    wrapped: bool = False


FREE = Output()


def output_of(body: Mapping[str, Any], model: Model) -> Output:
    """The same for a request and for its response: it depends on the two arguments only."""
    wanted = body.get("response_format")
    if not isinstance(wanted, dict):
        return FREE
    if wanted.get("type") == "json_object":
        return Output("prompt")
    if wanted.get("type") != "json_schema":
        return FREE
    given = wanted.get("json_schema")
    schema = given.get("schema") if isinstance(given, dict) else None
    if schema is None:
        schema = {"type": "object"}
    if not isinstance(given, dict) or not isinstance(schema, dict):
        where = "response_format.json_schema"
        raise BadRequest(f"'{where}' must be an object with a schema.", param=where, code="invalid_type")
    if model.structured:
        fitted, exact, open_ended = fit_schema(schema)
        if not open_ended or not model.forced:
            return Output("format", schema=fitted, exact=exact)
    name = _tool_name(given.get("name"), body)
    if is_object(schema):
        return Output("tool", name, {**schema, "type": "object"})
    return Output("tool", name, wrap(schema), wrapped=True)


def _tool_name(wanted: Any, body: Mapping[str, Any]) -> str:
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", wanted)[:48] if isinstance(wanted, str) and wanted else "answer"
    given = [entry for key in ("tools", "functions") if isinstance(entries := body.get(key), list) for entry in entries]
    holders = [tool.get("function") or tool.get("custom") or tool for tool in given if isinstance(tool, dict)]
    taken = {str(holder.get("name")) for holder in holders if isinstance(holder, dict)}
    while name in taken:
        name += "_"
    return name


def fit_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool, bool]:
    """The schema as structured output takes it; whether that is the schema as given; whether it is open-ended.

    Open-ended (objects with free keys, recursion) cannot be bound by structured output at all.
    """
    fitter = _Fitter(schema)
    fitted = fitter.fit(schema, 0)
    return fitted, fitter.exact, fitter.open_ended or _recursive(schema)


class _Fitter:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self.exact = True
        self.open_ended = False
        self._root = root

    def fit(self, schema: Any, depth: int) -> dict[str, Any]:
        if depth > _MAX_DEPTH:
            raise BadRequest("The JSON schema is nested too deeply.", param="response_format", code="invalid_schema")
        if not isinstance(schema, dict):
            if schema is not True:
                self.exact = False
            self.open_ended = True  # `true`: anything goes
            return {}
        if (alias := _alias(schema)) is not None:
            self.exact = False
            schema = alias
        if isinstance(schema.get("$ref"), str):
            kept = {"$ref": schema["$ref"]}
            for key in ("$defs", "definitions"):
                self._children(schema, kept, key, depth)
            self.exact = self.exact and len(kept) == len(schema)
            return kept
        kept = {}
        lost = {}
        for key, value in schema.items():
            if not self._keep(key, value, kept, depth):
                lost[key] = value
        self._close(schema, kept)
        if lost:
            self.exact = False
            note = orjson.dumps(lost).decode()
            kept["description"] = f"{kept['description']}\n{note}" if kept.get("description") else note
        return kept

    def _keep(self, key: str, value: Any, kept: dict[str, Any], depth: int) -> bool:
        """Takes one member over; False where structured output has no place for it."""
        if key in ("properties", "$defs", "definitions"):
            self._children({key: value}, kept, key, depth)
        elif key == "items":
            kept[key] = self.fit(value, depth + 1)
        elif key == "allOf" and _refers(value):
            self.open_ended = True  # what it inherits would be shut out of a closed object
            return False
        elif key in ("anyOf", "oneOf", "allOf") and isinstance(value, list):
            self.exact = self.exact and key != "oneOf"
            kept["anyOf" if key == "oneOf" else key] = [self.fit(entry, depth + 1) for entry in value]
        elif _is_kept(key, value):
            kept[key] = value
        elif key in ("additionalProperties", "$schema", "strict"):
            pass  # `_close` looks at the first; the others say nothing about the answer
        else:
            return False
        return True

    def _children(self, schema: Mapping[str, Any], kept: dict[str, Any], key: str, depth: int) -> None:
        value = schema.get(key)
        if isinstance(value, dict):
            kept[key] = {name: self.fit(child, depth + 1) for name, child in value.items()}

    def _close(self, schema: Mapping[str, Any], kept: dict[str, Any]) -> None:
        """Every object is closed; one that was meant to take free keys makes the schema open-ended."""
        if schema.get("type") != "object" and "properties" not in schema:
            return
        more = schema.get("additionalProperties")
        if more not in (None, False) or not schema.get("properties"):
            self.open_ended = self.open_ended or more is not False
            self.exact = self.exact and more is False
        kept["additionalProperties"] = False


def _refers(entries: Any) -> bool:
    return isinstance(entries, list) and any(isinstance(entry, dict) and "$ref" in entry for entry in entries)


def _alias(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The same schema without an `allOf` of one `$ref` alone, in which older Pydantic dresses every reference."""
    entries = schema.get("allOf")
    if not _refers(entries) or len(schema["allOf"]) > 1 or schema.keys() & {"properties", "anyOf", "oneOf", "$ref"}:
        return None
    return {**{key: value for key, value in schema.items() if key != "allOf"}, "$ref": schema["allOf"][0]["$ref"]}


def _is_kept(key: str, value: Any) -> bool:
    """Whether a member that holds no schema may stay."""
    if key == "enum":
        return isinstance(value, list) and not any(isinstance(entry, dict | list) for entry in value)
    if key == "format":
        return isinstance(value, str) and value in _FORMATS
    return key in _KEPT or (key == "minItems" and value in (0, 1))


def _recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition reaches itself (or the root) through `$ref`."""
    definitions: dict[str, Any] = {"#": schema}
    for key in ("$defs", "definitions"):
        if isinstance(schema.get(key), dict):
            definitions |= {f"#/{key}/{name}": child for name, child in schema[key].items()}
    reaches = {name: _refs(child, root=name == "#") for name, child in definitions.items()}
    done: set[str] = set()

    def loops(name: str, path: frozenset[str]) -> bool:
        if name in path:
            return True
        if name in done or len(path) > _MAX_DEPTH:
            return len(path) > _MAX_DEPTH
        found = any(loops(other, path | {name}) for other in reaches.get(name, ()))
        done.add(name)
        return found

    return any(loops(name, frozenset()) for name in definitions)


def _refs(schema: Any, *, root: bool) -> set[str]:
    """The `$ref` targets inside; for the root, without those inside its definitions."""
    found: set[str] = set()
    pending = [schema]
    first = root
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                found.add(node["$ref"])
            pending += [value for key, value in node.items() if not (first and key in ("$defs", "definitions"))]
            first = False
        elif isinstance(node, list):
            pending += node
    return found


class Fence:
    """Takes a Markdown code fence off an answer that was to be bare JSON; text comes in pieces of any size."""

    __slots__ = ("_held", "_inside", "_started")

    def __init__(self) -> None:
        self._held = ""
        self._started = False
        self._inside = False

    def feed(self, text: str) -> str:
        """The part of the answer that can be passed on."""
        text, self._held = self._held + text, ""
        if not self._started:
            stripped = text.lstrip()
            if not stripped or (len(stripped) < 3 and "```".startswith(stripped)):
                self._held = text
                return ""
            if stripped.startswith("```"):
                first, newline, rest = stripped.partition("\n")
                if not newline and "{" not in first:
                    self._held = text
                    return ""
                text = rest if newline else first[first.index("{") :]
                self._inside = True
            self._started = True
        if not self._inside:
            return text
        body = text.rstrip("`\n\r \t")  # what may be the closing fence waits for more
        self._held = text[len(body) :]
        return body

    def end(self) -> str:
        """What was held back and turned out to be no fence."""
        held, self._held = self._held, ""
        if not self._inside:
            return held
        return held.partition("```")[0].rstrip() if "```" in held else held


def unfenced(text: str) -> str:
    fence = Fence()
    return fence.feed(text) + fence.end()
