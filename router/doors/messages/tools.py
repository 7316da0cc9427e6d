"""Anthropic tools and tool choice → hub.

API: https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview. Tools that Anthropic runs itself (web
search, code execution, …) exist nowhere else and are reported as lost. Those that the client runs and Anthropic only
defines have a documented schema, so that other models can call them, too.
"""

from __future__ import annotations

from typing import Any

from router.doors import checks
from router.doors.schemas import with_properties

Json = dict[str, Any]

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}

# Type without its date → (description, schema), from the pages below tool-use/bash-tool and tool-use/text-editor-tool.
_CLIENT_TOOLS: dict[str, tuple[str, Json]] = {
    "bash": (
        "Runs a command in a persistent bash session; `restart` starts a new one.",
        {"type": "object", "properties": {"command": _STRING, "restart": {"type": "boolean"}}},
    ),
    "text_editor": (
        "Views and edits text files: `view` a file or folder, `create` a file, replace `old_str` (which must occur "
        "exactly once) by `new_str`, or `insert` text after a line.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
                "path": _STRING,
                "view_range": {"type": "array", "items": _INTEGER},
                "file_text": _STRING,
                "old_str": _STRING,
                "new_str": _STRING,
                "insert_line": _INTEGER,
                "insert_text": _STRING,
            },
            "required": ["command", "path"],
        },
    ),
}


def add_tools(body: Json, hub: Json, lost: list[str]) -> None:
    """Fills the hub's `tools`, `tool_choice` and `parallel_tool_calls`."""
    tools = []
    for index, tool in enumerate(checks.objects(body.get("tools"), "tools")):
        translated = _tool(tool, f"tools[{index}]", lost)
        if translated is not None:
            tools.append(translated)
    choice = checks.optional_object(body, "tool_choice")
    if not tools:  # without tools a choice among them is refused
        return
    hub["tools"] = tools
    if choice is not None:
        _add_choice(choice, hub, lost)


def _tool(tool: Json, where: str, lost: list[str]) -> Json | None:
    kind = checks.optional_text(tool, "type", where) or "custom"
    known = _CLIENT_TOOLS.get(kind.rpartition("_")[0])
    if kind != "custom" and known is None:
        lost.append(f"tools.{kind}")  # what it holds is Anthropic's to check: a toolset has no name, for one
        return None
    function: Json = {"name": checks.text(tool, "name", where)}
    if known is not None:
        function["description"], function["parameters"] = known
    else:
        _add_custom(tool, function, where, lost)
    return {"type": "function", "function": function}


def _add_custom(tool: Json, function: Json, where: str, lost: list[str]) -> None:
    """What a tool of the client's own says of itself."""
    if description := checks.optional_text(tool, "description", where):
        function["description"] = description
    schema = checks.optional_object(tool, "input_schema", where)
    function["parameters"] = with_properties(schema if schema is not None else {"type": "object"})
    if tool.get("strict") is True and fits_strict_mode(schema):
        function["strict"] = True
    elif tool.get("strict") is True:
        lost.append("tools.strict")


def _add_choice(choice: Json, hub: Json, lost: list[str]) -> None:
    kind = checks.text(choice, "type", "tool_choice")
    if checks.optional_flag(choice, "disable_parallel_tool_use", "tool_choice"):
        hub["parallel_tool_calls"] = False
    if kind == "tool":
        name = checks.text(choice, "name", "tool_choice")
        if any(tool["function"]["name"] == name for tool in hub["tools"]):
            hub["tool_choice"] = {"type": "function", "function": {"name": name}}
        else:  # a tool of Anthropic's own, reported already, or none at all
            lost.append("tool_choice")
    elif kind in _CHOICES:
        hub["tool_choice"] = _CHOICES[kind]
    else:
        checks.refuse("'tool_choice.type' must be auto, any, tool or none.", "tool_choice.type", "invalid_value")


def fits_strict_mode(schema: Any, depth: int = 0) -> bool:
    """Whether OpenAI's strict mode takes `schema`: every object closed, every property required.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas; Anthropic's allows optional ones.
    """
    if depth > 50:
        return False
    if isinstance(schema, list):
        return all(fits_strict_mode(item, depth + 1) for item in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        required = schema.get("required")
        names = set(properties) if isinstance(properties, dict) else set()
        closed = schema.get("additionalProperties") is False
        if not closed or names != {name for name in required or () if isinstance(name, str)}:
            return False
    return all(fits_strict_mode(value, depth + 1) for value in schema.values())
