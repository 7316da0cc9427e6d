"""What the Messages API refuses, for the strict fake: `objection(headers, body)` → (status, error type, message).

Written from the API reference (https://platform.claude.com/docs/en/api/messages/create, …/api/errors) and the models'
migration guides, not from the router's own table, so that one can catch the other's mistakes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

Objection = tuple[int, str, str]

_TOP = {
    "model", "messages", "max_tokens", "system", "metadata", "stop_sequences", "stream", "temperature", "top_p",
    "top_k", "tools", "tool_choice", "thinking", "service_tier", "output_config", "cache_control", "container",
    "inference_geo",
}  # fmt: skip
_BLOCKS: dict[str, tuple[set[str], set[str]]] = {  # type → required, optional
    "text": ({"text"}, {"citations"}),
    "image": ({"source"}, set()),
    "document": ({"source"}, {"title", "context", "citations"}),
    "tool_use": ({"id", "name", "input"}, set()),
    "tool_result": ({"tool_use_id"}, {"content", "is_error"}),
    "thinking": ({"thinking", "signature"}, set()),
    "redacted_thinking": ({"data"}, set()),
}
_ROLES_OF = {"tool_use": "assistant", "thinking": "assistant", "redacted_thinking": "assistant", "tool_result": "user",
             "image": "user", "document": "user"}  # fmt: skip
_TOOL = {"name", "description", "input_schema", "cache_control", "strict", "type"}

NO_SAMPLING = re.compile(r"opus-4-[78]|[a-z]-[5-9](-|$)")
ONE_SAMPLER = re.compile(r"opus-4-1|-4-[5-9]|[a-z]-[5-9](-|$)")
NO_BUDGET = re.compile(r"opus-4-[78]|[a-z]-[5-9](-|$)")
INTERLEAVES = re.compile(r"-4-[0-5](-|$)|-4-2025|sonnet-4-6")
NO_ADAPTIVE = re.compile(r"claude-3|-4-[0-5](-|$)|-4-2025")
THINKS = re.compile(r"[a-z]-[5-9](-|$)")
NO_DISABLED = re.compile(r"opus-5-5|sonnet-5-5|fable|mythos")
NO_FORCE = re.compile(r"opus-5-5|sonnet-5-5|(fable|mythos)-5-[1-9]")
NO_PREFILL = re.compile(r"-4-[6-9]|[a-z]-[5-9](-|$)")
NO_EFFORT = re.compile(r"claude-3|-4-[0-4](-|$)|-4-2025|(sonnet|haiku)-4-5")
NO_FORMAT = re.compile(r"claude-3|-4-[0-4](-|$)|-4-2025")
BOUND = re.compile(r"-5-5|(fable|mythos)-5-[1-9]")
MAX_OUTPUT = ((re.compile(r"claude-3-5"), 8_192), (re.compile(r"-4-5"), 64_000), (re.compile("."), 128_000))


class Refused(Exception):
    def __init__(self, message: str, status: int = 400, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.objection: Objection = (status, kind, message)


def objection(headers: Mapping[str, str], body: Any, key: str | None) -> Objection | None:
    """The first thing that the real API would refuse; None if it would answer."""
    try:
        if key is not None and headers.get("x-api-key") != key:
            raise Refused("invalid x-api-key", 401, "authentication_error")
        if headers.get("anthropic-version") not in ("2023-06-01", "2026-10-21"):
            raise Refused("anthropic-version: header is required")
        if not isinstance(body, dict):
            raise Refused("The request body is not valid JSON")
        _top(body)
        if headers.get("anthropic-version") == "2026-10-21":
            _need(not body.keys() & {"temperature", "top_p", "top_k"}, "temperature: Extra inputs are not permitted")
        _messages(body)
        _tools(body)
        _sampling(body)
        _thinking(body, "interleaved-thinking-" in headers.get("anthropic-beta", ""))
        _output(body)
    except Refused as refused:
        return refused.objection
    return None


def _need(condition: Any, message: str) -> None:
    if not condition:
        raise Refused(message)


def _only(document: Mapping[str, Any], allowed: set[str], where: str) -> None:
    for name in document.keys() - allowed:
        raise Refused(f"{where}{name}: Extra inputs are not permitted")


def _top(body: Mapping[str, Any]) -> None:
    for name in ("model", "max_tokens", "messages"):
        _need(name in body, f"{name}: Field required")
    _only(body, _TOP, "")
    _need(isinstance(body["model"], str) and body["model"], "model: Input should be a valid string")
    limit = body["max_tokens"]
    _need(type(limit) is int and limit >= 0, "max_tokens: Input should be a valid integer")
    most = next(most for pattern, most in MAX_OUTPUT if pattern.search(body["model"]))
    _need(limit <= most, f"max_tokens: {limit} > {most}, which is the maximum allowed number of output tokens")
    for stop in body.get("stop_sequences") or ():
        _need(isinstance(stop, str) and stop.strip(), "stop_sequences: each stop sequence must contain non-whitespace")
    if "metadata" in body:
        _only(body["metadata"], {"user_id"}, "metadata.")
    _need(body.get("service_tier", "auto") in ("auto", "standard_only"), "service_tier: Input should be 'auto'")
    system = body.get("system")
    if isinstance(system, list):
        for block in system:
            _need(block.get("type") == "text", "system: only text blocks")
            _block(block, "user", "system")
    else:
        _need(system is None or isinstance(system, str), "system: Input should be a valid string")


def _messages(body: Mapping[str, Any]) -> None:
    messages = body["messages"]
    _need(isinstance(messages, list) and messages, "messages: at least one message is required")
    previous = ""
    open_calls: list[str] = []
    seen: set[str] = set()
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        _only(message, {"role", "content"}, f"{where}.")
        role = message.get("role")
        if role == "system":
            _need(BOUND.search(body["model"]) and previous == "user", f"{where}: role 'system' is not supported here")
            following = messages[index + 1]["role"] if index + 1 < len(messages) else "assistant"
            _need(following == "assistant", f"{where}: a system message must be last or before an assistant turn")
        else:
            _need(role in ("user", "assistant"), f"{where}.role: Input should be 'user' or 'assistant'")
            _need(index or role == "user", 'messages: first message must use the "user" role')
            _need(role != previous, f'messages: roles must alternate between "user" and "assistant", at {index}')
        previous = role
        last = index == len(messages) - 1
        blocks = _content(message, role, where, last)
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if role == "user":
            if open_calls:
                missing = set(open_calls) - set(results)
                _need(not missing, f"{where}: `tool_use` ids were found without `tool_result` blocks: {missing}")
                _need(blocks[0]["type"] == "tool_result", f"{where}: tool results must come first")
            _need(len(set(results)) == len(results), f"{where}: each tool_use must have a single result")
            unknown = set(results) - set(open_calls)
            _need(not unknown, f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {unknown}")
        if role != "system":
            open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for call in open_calls:
            _need(call not in seen, f"{where}: `tool_use` ids must be unique")
            seen.add(call)
        _signatures(body, index, blocks)
    if previous == "assistant":
        _need(not open_calls, "messages: `tool_use` ids were found without `tool_result` blocks")
        _need(not NO_PREFILL.search(body["model"]), "This model does not support assistant message prefill.")
    if seen:
        _need(body.get("tools"), "Requests which have `tool_use` or `tool_result` blocks in messages must define tools")


def _content(message: Mapping[str, Any], role: str, where: str, last: bool) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    _need(isinstance(content, list), f"{where}.content: Input should be a valid list")
    _need(content, f"{where}: all messages must have non-empty content")
    for at, block in enumerate(content):
        _block(block, role, f"{where}.content.{at}")
    if last and role == "assistant" and content[-1]["type"] == "text":
        text = content[-1]["text"]
        _need(text == text.rstrip(), "messages: final assistant content cannot end with trailing whitespace")
    return list(content)


def _block(block: Any, role: str, where: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    _need(kind in _BLOCKS, f"{where}: Input tag {kind!r} found using 'type' does not match any of the expected tags")
    required, optional = _BLOCKS[kind]
    for name in required - block.keys():
        raise Refused(f"{where}.{kind}.{name}: Field required")
    cacheable = set() if "thinking" in kind else {"cache_control"}
    _only(block, required | optional | cacheable | {"type"}, f"{where}.{kind}.")
    if "cache_control" in block:
        _need(block["cache_control"].get("type") == "ephemeral", f"{where}.cache_control.type: should be 'ephemeral'")
    _need(
        _ROLES_OF.get(kind, role) == role, f"{where}: `{kind}` blocks can only be in `{_ROLES_OF.get(kind)}` messages"
    )
    if kind == "text":
        _need(block["text"].strip(), f"{where}: text content blocks must contain non-whitespace text")
    elif kind in ("image", "document"):
        _source(block["source"], kind, f"{where}.{kind}.source")
    elif kind == "tool_use":
        _need(re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]), f"{where}.tool_use.id: String should match pattern")
        _need(isinstance(block["input"], dict), f"{where}.tool_use.input: Input should be a valid dictionary")
    elif kind == "tool_result" and isinstance(block.get("content"), list):
        for at, inner in enumerate(block["content"]):
            _block(inner, "user", f"{where}.content.{at}")


def _source(source: Mapping[str, Any], kind: str, where: str) -> None:
    form = source.get("type")
    if form == "base64":
        _only(source, {"type", "media_type", "data"}, f"{where}.")
        allowed = {"application/pdf"} if kind == "document" else {"image/jpeg", "image/png", "image/gif", "image/webp"}
        _need(source.get("media_type") in allowed, f"{where}.media_type: {source.get('media_type')} is not supported")
        _need(source.get("data") and "," not in source["data"], f"{where}.data: Invalid base64 data")
    elif form == "url":
        _need(str(source.get("url", "")).startswith("http"), f"{where}.url: must be an http(s) URL")
    elif form == "text":
        _need(kind == "document" and source.get("media_type") == "text/plain", f"{where}: not a text source")
    else:
        _need(form == "file" and source.get("file_id"), f"{where}.type: unknown source")


def _tools(body: Mapping[str, Any]) -> None:
    tools = body.get("tools") or []
    for index, tool in enumerate(tools):
        if tool.get("type", "custom") != "custom":
            continue
        _only(tool, _TOOL, f"tools.{index}.")
        _need(re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool.get("name", "")), f"tools.{index}.name: should match pattern")
        schema = tool.get("input_schema")
        _need(isinstance(schema, dict), f"tools.{index}.input_schema: Field required")
        _need(schema.get("type") == "object", f"tools.{index}.input_schema.type: Field required")
        _need(
            not schema.keys() & {"anyOf", "oneOf", "allOf"},
            f"tools.{index}.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level",
        )
        if tool.get("strict"):
            _need(not NO_FORMAT.search(body["model"]), f"tools.{index}.strict: not supported by this model")
            _schema(schema, f"tools.{index}.input_schema")
    names = [tool.get("name") for tool in tools]
    _need(len(set(names)) == len(names), "tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is None:
        return
    _need(tools, "tool_choice: may only be specified while providing tools")
    kind = choice.get("type")
    _need(kind in ("auto", "any", "tool", "none"), "tool_choice: Input tag does not match")
    extra = set() if kind == "none" else {"disable_parallel_tool_use"}
    _only(choice, {"type", *extra, *({"name"} if kind == "tool" else ())}, f"tool_choice.{kind}.")
    if kind == "tool":
        _need(choice.get("name") in names, f"Tool '{choice.get('name')}' not found in provided tools")
    if kind in ("any", "tool"):
        _need(not NO_FORCE.search(body["model"]), "tool_choice: forced tool use is not supported for this model")


def _sampling(body: Mapping[str, Any]) -> None:
    for name in ("temperature", "top_p"):
        value = body.get(name)
        _need(value is None or 0 <= value <= 1, f"{name}: range: 0..1")
        _need(value in (None, 1) or not NO_SAMPLING.search(body["model"]), f"`{name}` is deprecated for this model")
    both = body.get("temperature") is not None and body.get("top_p") is not None
    _need(
        not (both and ONE_SAMPLER.search(body["model"])),
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
    )


def _thinking(body: Mapping[str, Any], interleaved: bool) -> None:
    model, thinking = body["model"], body.get("thinking")
    mode = (thinking or {}).get("type")
    if mode == "enabled":
        _need(not NO_BUDGET.search(model), '"thinking.type.enabled" is not supported for this model.')
        _need(not model.startswith("claude-3-5"), "thinking is not supported by this model")
        budget = thinking.get("budget_tokens")
        _need(type(budget) is int and budget >= 1024, "thinking.enabled.budget_tokens: should be at least 1024")
        free = interleaved and body.get("tools") and INTERLEAVES.search(model)
        _need(free or budget < body["max_tokens"], "`max_tokens` must be greater than `thinking.budget_tokens`")
        _begins_with_thinking(body["messages"])
    elif mode == "adaptive":
        _need(not NO_ADAPTIVE.search(model), "adaptive thinking is not supported on this model")
        _only(thinking, {"type", "display"}, "thinking.adaptive.")
    elif mode == "disabled":
        _need(not NO_DISABLED.search(model), '"thinking.type.disabled" is not supported for this model.')
    elif mode == "between_tools":
        _need("sonnet-5-5" in model, '"thinking.type.between_tools" is not supported for this model.')
    else:
        _need(thinking is None, "thinking: Input tag does not match")
    if mode == "disabled" or (mode is None and not THINKS.search(model)):
        _has_no_thinking(body["messages"])
    if mode in ("enabled", "adaptive") or (mode is None and THINKS.search(model) and not NO_DISABLED.search(model)):
        forced = (body.get("tool_choice") or {}).get("type") in ("any", "tool")
        _need(not forced, "Thinking may not be enabled when tool_choice forces tool use.")
        _need(body.get("temperature") in (None, 1), "`temperature` may only be set to 1 when thinking is enabled.")
        _need(body.get("top_k") is None, "`top_k` must be unset when thinking is enabled.")


def _begins_with_thinking(messages: list[dict[str, Any]]) -> None:
    """With a budget, an assistant turn that is still going on must have its thinking; its calls are steps of it."""
    if messages[-1]["role"] == "assistant":
        raise Refused("Prefill is not supported with thinking")
    steps = _steps(messages)
    if steps and not any(True for _, blocks in steps for _ in _thinking_blocks(blocks)):
        index, blocks = steps[0]
        where, first = f"messages.{index}.content.0.type", blocks[0]["type"]
        raise Refused(f"{where}: Expected `thinking` or `redacted_thinking`, but found `{first}`.")


def _has_no_thinking(messages: list[dict[str, Any]]) -> None:
    """Without thinking, an assistant turn that is still going on must have none."""
    for index, blocks in _steps(messages):
        for at, _ in _thinking_blocks(blocks):
            where = f"messages.{index}.content.{at}"
            said = "When thinking is disabled, an `assistant` message in the final position cannot contain `thinking`."
            raise Refused(f"{where}: {said}")


def _steps(messages: list[dict[str, Any]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """The assistant messages since the last user message that holds no tool result: index and blocks."""
    found: list[tuple[int, list[dict[str, Any]]]] = []
    for index, message in enumerate(messages):
        blocks = as_blocks(message["content"])
        if message["role"] == "assistant":
            found.append((index, blocks))
        elif message["role"] == "user" and not any(block["type"] == "tool_result" for block in blocks):
            found = []
    return found


def _output(body: Mapping[str, Any]) -> None:
    config = body.get("output_config")
    if config is None:
        return
    _only(config, {"effort", "format"}, "output_config.")
    if effort := config.get("effort"):
        _need(not NO_EFFORT.search(body["model"]), "This model does not support the effort parameter.")
        _need(effort in ("low", "medium", "high", "xhigh", "max"), "output_config.effort: Input should be 'low'")
        if "opus-4-5" in body["model"]:
            _need(effort in ("low", "medium", "high"), "output_config.effort: not supported by this model")
    if form := config.get("format"):
        _need(not NO_FORMAT.search(body["model"]), "output_config.format: not supported by this model")
        _need(form.get("type") == "json_schema", "output_config.format.type: should be 'json_schema'")
        _schema(form.get("schema"), "output_config.format.schema")


_UNBINDABLE = {"minimum", "maximum", "minLength", "maxLength", "maxItems", "oneOf", "multipleOf", "patternProperties"}


def _schema(schema: Any, where: str) -> None:
    _need(isinstance(schema, dict), f"{where}: Field required")
    for name in schema.keys() & _UNBINDABLE:
        raise Refused(f"{where}: For '{schema.get('type')}' type, property '{name}' is not supported")
    if schema.get("type") == "object":
        closed = schema.get("additionalProperties") is False
        _need(closed, f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
    inherited = [entry for entry in schema.get("allOf") or [] if "$ref" in entry]
    _need(not inherited, f"{where}: allOf with $ref is not supported")
    children = [*(schema.get("properties") or {}).values(), *(schema.get("$defs") or {}).values()]
    children += [*(schema.get("anyOf") or []), *(schema.get("allOf") or [])]
    if "items" in schema:
        children.append(schema["items"])
    for child in children:
        _schema(child, where)


# --- thinking signatures ----------------------------------------------------------------------------------------------


def sign(block: Mapping[str, Any], body: Mapping[str, Any], before: list[dict[str, Any]]) -> str:
    """A signature over the thinking and, for models that bind it, over all that came before it."""
    said = str(block.get("thinking") or "")
    prefix = ""
    if BOUND.search(body["model"]):
        turns = [{"role": turn["role"], "content": as_blocks(turn["content"])} for turn in body["messages"]]
        prefix = _canonical([as_blocks(body.get("system") or []), body.get("tools") or [], turns, before])
    return "sig_" + hashlib.sha256(f"{said}\0{prefix}".encode()).hexdigest()[:24]


def as_blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _canonical(document: Any) -> str:
    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: bare(child) for name, child in value.items() if name != "cache_control"}
        return [bare(child) for child in value] if isinstance(value, list) else value

    return json.dumps(bare(document), sort_keys=True)


def _signatures(body: Mapping[str, Any], index: int, blocks: list[dict[str, Any]]) -> None:
    for at, block in _thinking_blocks(blocks):
        where = f"messages.{index}.content.{at}"
        if block["type"] == "redacted_thinking":
            _need(block["data"].startswith("red_"), f"{where}: Invalid `data` in `redacted_thinking` block")
            continue
        before = {**body, "messages": body["messages"][:index]}
        _need(
            block["signature"] == sign(block, before, blocks[:at]), f"{where}: Invalid `signature` in `thinking` block"
        )


def _thinking_blocks(blocks: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    for at, block in enumerate(blocks):
        if block["type"] in ("thinking", "redacted_thinking"):
            yield at, block
