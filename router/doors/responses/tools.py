"""Responses tools and tool choice → hub.

API: https://platform.openai.com/docs/api-reference/responses/create#responses-create-tools. Tools that OpenAI runs
itself (web search, file search, …) are part of its service, not of any model.
"""

from __future__ import annotations

from typing import Any

from router.doors import checks
from router.doors.schemas import with_properties

Json = dict[str, Any]

_MODES = ("auto", "none", "required")


def add_tools(body: Json, hub: Json) -> None:
    """Fills the hub's `tools`, `tool_choice` and `parallel_tool_calls`. Raises `BadRequest` for built-in tools."""
    tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(checks.objects(body.get("tools"), "tools"))]
    parallel = checks.optional_flag(body, "parallel_tool_calls")
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        tools, choice = _chosen(choice, tools)
    elif choice is not None and choice not in _MODES:
        checks.refuse("'tool_choice' must be auto, none, required or an object.", "tool_choice", "invalid_value")
    if not tools:  # without tools, a choice among them is refused
        return
    hub["tools"] = tools
    if choice is not None:
        hub["tool_choice"] = choice
    if parallel is not None:
        hub["parallel_tool_calls"] = parallel


def custom_names(body: Json) -> frozenset[str]:
    """Names of the free-text tools: their calls go back as items of their own kind."""
    tools = body.get("tools")
    found = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return frozenset(str(tool.get("name")) for tool in found if tool.get("type") == "custom")


def _tool(tool: Json, where: str) -> Json:
    kind = checks.text(tool, "type", where)
    if kind == "function":
        function: Json = {"name": checks.text(tool, "name", where)}
        if description := checks.optional_text(tool, "description", where):
            function["description"] = description
        if (parameters := checks.optional_object(tool, "parameters", where)) is not None:
            function["parameters"] = with_properties(parameters)
        if (strict := checks.optional_flag(tool, "strict", where)) is not None:
            function["strict"] = strict
        return {"type": "function", "function": function}
    if kind == "custom":
        custom: Json = {"name": checks.text(tool, "name", where)}
        if description := checks.optional_text(tool, "description", where):
            custom["description"] = description
        if (form := checks.optional_object(tool, "format", where)) is not None:
            custom["format"] = _format(form, f"{where}.format")
        return {"type": "custom", "custom": custom}
    checks.refuse(
        f"The built-in tool '{kind[:60]}' runs inside OpenAI's service and is not available here; "
        "'function' and 'custom' tools are.",
        f"{where}.type",
        "unsupported_value",
    )


def _format(form: Json, where: str) -> Json:
    if checks.text(form, "type", where) != "grammar":
        return form
    grammar = {"syntax": checks.text(form, "syntax", where), "definition": checks.text(form, "definition", where)}
    return {"type": "grammar", "grammar": grammar}


def _chosen(choice: Json, tools: list[Json]) -> tuple[list[Json], Any]:
    """The tools that may be called, and the hub's `tool_choice`."""
    kind = checks.text(choice, "type", "tool_choice")
    if kind in ("function", "custom"):
        return tools, {"type": kind, kind: {"name": checks.text(choice, "name", "tool_choice")}}
    if kind == "allowed_tools":
        mode = checks.text(choice, "mode", "tool_choice")
        if mode not in _MODES:
            checks.refuse("'tool_choice.mode' must be auto or required.", "tool_choice.mode", "invalid_value")
        entries = checks.objects(choice.get("tools"), "tool_choice.tools")
        names = {entry.get("name") for entry in entries if isinstance(entry.get("name"), str)}
        # Only what is offered can be called: that holds for every provider, `allowed_tools` for OpenAI alone.
        return [tool for tool in tools if tool[tool["type"]]["name"] in names], mode
    checks.refuse(f"The built-in tool '{kind[:60]}' is not available here.", "tool_choice.type", "unsupported_value")
