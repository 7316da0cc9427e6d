"""OpenAI's tools and tool choice → Anthropic's.

https://platform.openai.com/docs/api-reference/chat/create#chat-create-tools,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest
from router.providers.anthropic.models import Model
from router.providers.anthropic.structured import fit_schema
from router.providers.anthropic.wrapped import has_unions, without_unions

# https://platform.claude.com/docs/en/agents-and-tools/tool-use/strict-tool-use: more are refused.
_MAX_STRICT = 20
_FREE_TEXT = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}


def convert_tools(body: Mapping[str, Any], model: Model, dropped: dict[str, None]) -> list[dict[str, Any]]:
    """Raises `BadRequest` for tools that are none."""
    given = body.get("tools")
    if is_legacy(body):
        legacy = body["functions"]
        given = [{"type": "function", "function": f} for f in legacy] if isinstance(legacy, list) else legacy
    if given is None:
        return []
    if not isinstance(given, list):
        raise BadRequest("'tools' must be an array.", param="tools", code="invalid_type")
    tools: list[dict[str, Any]] = []
    strict = 0
    for index, tool in enumerate(given):
        converted = _tool(tool, index, model, strict < _MAX_STRICT, dropped)
        strict += "strict" in converted
        tools.append(converted)
    return _allowed(body.get("tool_choice"), tools)


def _tool(tool: Any, index: int, model: Model, may_be_strict: bool, dropped: dict[str, None]) -> dict[str, Any]:
    where = f"tools[{index}]"
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind not in ("function", "custom", None) and isinstance(tool.get("name"), str):
        return dict(tool)  # one of Anthropic's own (web search, bash, …)
    function = tool.get("function") or tool.get("custom") if isinstance(tool, dict) else None
    if not isinstance(function, dict) and isinstance(tool, dict) and "input_schema" in tool:
        return dict(tool)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRequest(f"'{where}' must be a function with a name.", param=where, code="invalid_value")
    if kind == "custom":
        schema: Any = _FREE_TEXT
        if (function.get("format") or {}).get("type", "text") != "text":
            dropped["tools.custom.format"] = None
    else:
        schema = function.get("parameters")
    if schema is not None and not isinstance(schema, dict):
        raise BadRequest(f"'{where}.function.parameters' must be an object.", param=where, code="invalid_type")
    schema = schema or {"type": "object", "properties": {}}
    if schema.get("type") != "object":
        schema = {**schema, "type": "object"}
    may_be_strict = may_be_strict and not has_unions(schema)
    if has_unions(schema):
        schema = without_unions(schema)
        dropped["tools.function.parameters"] = None
    converted: dict[str, Any] = {"name": function["name"], "input_schema": schema}
    if isinstance(function.get("description"), str) and function["description"]:
        converted["description"] = function["description"]
    for holder in (tool, function):
        if holder.get("cache_control") is not None:
            converted["cache_control"] = holder["cache_control"]
    if function.get("strict") is True:
        if model.structured and may_be_strict and _is_strict(schema):
            converted["strict"] = True
        else:
            dropped["tools.function.strict"] = None
    return converted


def _is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether the schema can be strict as it stands; a rewritten one would no longer be the client's."""
    _, exact, open_ended = fit_schema(schema)
    return exact and not open_ended


def _allowed(choice: Any, tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`tool_choice: allowed_tools` leaves only some of the tools."""
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return tools
    allowed = choice.get("allowed_tools")
    entries = allowed.get("tools") if isinstance(allowed, dict) else None
    names = {_name(entry) for entry in entries} if isinstance(entries, list) else set()
    return [tool for tool in tools if tool.get("name") in names]


def _name(entry: Any) -> str | None:
    """The function's name in `{"type": "function", "function": {"name": …}}`, or in the flat legacy form."""
    if not isinstance(entry, dict):
        return None
    function = entry.get("function") or entry.get("custom")
    name = function.get("name") if isinstance(function, dict) else entry.get("name")
    return name if isinstance(name, str) else None


def convert_choice(
    body: Mapping[str, Any], tools: list[dict[str, Any]], dropped: dict[str, None]
) -> dict[str, Any] | None:
    """`tool_choice`, `function_call` and `parallel_tool_calls` in Anthropic's form; None = the API's default."""
    given = body.get("tool_choice")
    if given is None:
        given = body.get("function_call")
    if not tools:
        if given not in (None, "none", "auto"):
            dropped["tool_choice"] = None
        return None
    mode = given
    if isinstance(given, dict):
        allowed = given.get("allowed_tools")
        if given.get("type") == "allowed_tools" and isinstance(allowed, dict):
            mode = allowed.get("mode", "auto")
    choice: dict[str, Any] | None
    if mode is None:
        choice = None
    elif mode in ("auto", "none"):
        choice = {"type": mode}
    elif mode in ("required", "any"):
        choice = {"type": "any"}
    elif isinstance(mode, dict) and (name := _name(mode)):
        choice = {"type": "tool", "name": name}
    else:
        raise BadRequest(
            "'tool_choice' must be auto, none, required or a function.", param="tool_choice", code="invalid_value"
        )
    single = body.get("parallel_tool_calls") is False or is_legacy(body)  # an answer has one `function_call`
    if single and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return choice


def is_legacy(body: Mapping[str, Any]) -> bool:
    """Whether the client speaks of `functions`, the form before `tools`: it reads calls in that form only.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-functions
    """
    return body.get("tools") is None and body.get("functions") is not None


def custom_names(body: Mapping[str, Any]) -> frozenset[str]:
    """Names of the free-text tools: their calls go back in a form of their own."""
    tools = body.get("tools")
    if not isinstance(tools, list):
        return frozenset()
    return frozenset(
        name
        for tool in tools
        if isinstance(tool, dict) and tool.get("type") == "custom" and (name := _name(tool)) is not None
    )
