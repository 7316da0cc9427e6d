"""OpenAI chat-completions request → Anthropic Messages request.

https://platform.claude.com/docs/en/api/messages/create. What has no equivalent is named in `dropped`; a parameter that
says only what is so anyway (`n: 1`, `logprobs: false`) is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.chat import Chat, encode, parse_object, replace_model
from router.config import Target
from router.errors import BadRequest
from router.providers.anthropic.conversation import convert, has_tool_use
from router.providers.anthropic.fit import BUDGETS, MIN_BUDGET, fit
from router.providers.anthropic.models import Model, lookup
from router.providers.anthropic.parts import Block
from router.providers.anthropic.structured import JSON_ONLY, Output, output_of
from router.providers.anthropic.tools import convert_choice, convert_tools
from router.providers.anthropic.wrapped import MEMBER
from router.providers.dialect import Outgoing

# The answer's length where the client sets none: OpenAI knows no such limit, Anthropic demands one. Thinking counts
# towards it, so a thinking model gets more.
DEFAULT_MAX_TOKENS = 16_384
DEFAULT_MAX_TOKENS_THINKING = 32_768

# `metadata.user_id`: https://platform.claude.com/docs/en/api/messages/create#create.metadata
_MAX_USER_ID = 256

# Anthropic's own parameters, for clients that set them through the OpenAI SDK's `extra_body`.
_NATIVE = frozenset({"top_k", "thinking", "output_config", "cache_control", "inference_geo", "container"})
_HANDLED = _NATIVE | {
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "stop", "stop_sequences", "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls",
    "response_format", "reasoning_effort", "user", "safety_identifier", "metadata", "service_tier",
}  # fmt: skip
# The beta with which a budget spans a whole tool loop, and so may be above `max_tokens`; a date follows.
# https://platform.claude.com/docs/en/build-with-claude/extended-thinking
_INTERLEAVED = "interleaved-thinking-"
# Unknown parameters that are named; the names travel in a header, which has its limits.
_MAX_NAMED = 40
# Parameters whose value says only what is so anyway.
_NO_OPS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "modalities": (["text"],),
    "verbosity": ("medium",),
}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}


def translate(chat: Chat, target: Target) -> Outgoing:
    """Raises `BadRequest` for what cannot be expressed at all."""
    if chat.native is not None and chat.native[0] == "anthropic":
        return _native(chat.native[1], target, chat.native_headers.get("anthropic-beta", ""))
    body = chat.body
    model = lookup(target.model)
    dropped: dict[str, None] = {}
    for name, value in body.items():
        says_something = value is not None and value not in _NO_OPS.get(name, ())
        if says_something and name not in _HANDLED and len(dropped) < _MAX_NAMED:
            dropped[name[:64]] = None
    system, messages = convert(chat.messages, model, dropped)
    wire: dict[str, Any] = {"model": target.model, "messages": messages}
    for name in _NATIVE:
        if body.get(name) is not None:
            wire[name] = body[name]
    output = output_of(body, model)
    _set_tools(wire, body, model, output, dropped)
    _set_output(wire, system, output, dropped)
    if system:
        wire["system"] = _joined(system)
    _set_effort(wire, body, model, dropped)
    names = _names(body)
    _set_limits(wire, body, model, names)
    _set_sampling(wire, body, dropped)
    _set_metadata(wire, body, dropped)
    fit(wire, model, dropped, names)
    if chat.stream:
        wire["stream"] = True
    return Outgoing("/messages", encode(wire), tuple(dropped))


def _native(raw: bytes, target: Target, beta: str) -> Outgoing:
    """The client's own Messages request: only the model changes, and what that model would refuse."""
    model = lookup(target.model)
    body = parse_object(raw)
    wire = dict(body)
    dropped: dict[str, None] = {}
    if isinstance(body.get("messages"), list) and all(isinstance(turn, dict) for turn in body["messages"]):
        try:
            fit(wire, model, dropped, {"effort": "output_config.effort"}, interleaved=_INTERLEAVED in beta)
        except (TypeError, AttributeError, KeyError):
            wire, dropped = body, {}  # not a Messages request: the provider says best what is wrong with it
    if wire == body:
        return Outgoing("/messages", replace_model(raw, target.model))
    return Outgoing("/messages", encode({**wire, "model": target.model}), tuple(dropped))


def _names(body: Mapping[str, Any]) -> dict[str, str]:
    """Wire parameter → what the client calls it."""
    thinking = "thinking" if body.get("thinking") is not None else "reasoning_effort"
    return {
        "thinking": thinking,
        "effort": "output_config.effort" if body.get("output_config") is not None else "reasoning_effort",
        "max_tokens": "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens",
    }


def _joined(system: list[Block]) -> str | list[Block]:
    if any(len(block) > 2 for block in system):  # cache_control marks where the cached prefix ends
        return system
    return "\n\n".join(block["text"] for block in system)


def _set_tools(
    wire: dict[str, Any], body: Mapping[str, Any], model: Model, output: Output, dropped: dict[str, None]
) -> None:
    tools = convert_tools(body, model, dropped)
    choice = convert_choice(body, tools, dropped)
    if output.kind == "tool":
        where = f"Its input holds the answer as `{MEMBER}`." if output.wrapped else "Its input is the answer."
        binding = {
            "name": output.name,
            "description": f"Gives the answer. {where}",
            "input_schema": output.schema,
        }
        if choice is None or choice["type"] in ("auto", "none"):
            free = tools and (choice is None or choice["type"] == "auto")
            single = {key: value for key, value in (choice or {}).items() if key == "disable_parallel_tool_use"}
            choice = {"type": "any", **single} if free else {"type": "tool", "name": output.name}
            tools = [*tools, binding]
        else:  # a certain call was demanded: this turn has no text to bind
            dropped["response_format"] = None
    if not tools and (called := has_tool_use(wire["messages"])):
        # The API wants the tools that a conversation speaks of; the client has put them away, so none may be called.
        tools = [{"name": name, "input_schema": {"type": "object"}} for name in called]
        choice = {"type": "none"}
    if tools:
        wire["tools"] = tools
        if choice is not None:
            wire["tool_choice"] = choice


def _set_output(wire: dict[str, Any], system: list[Block], output: Output, dropped: dict[str, None]) -> None:
    if output.kind == "format":
        given = wire.get("output_config")
        config = given if isinstance(given, dict) else {}
        wire["output_config"] = {**config, "format": {"type": "json_schema", "schema": output.schema}}
        if not output.exact:
            dropped["response_format"] = None
    elif output.kind == "prompt":  # the API binds an answer to a schema only; "any JSON" is asked for in words
        system.append({"type": "text", "text": JSON_ONLY})
        dropped["response_format"] = None


def _set_effort(wire: dict[str, Any], body: Mapping[str, Any], model: Model, dropped: dict[str, None]) -> None:
    """`reasoning_effort` → a thinking budget, or adaptive thinking and `output_config.effort`."""
    effort = body.get("reasoning_effort")
    if effort is None:
        return
    if effort == "none":
        if model.thinks and "thinking" not in wire:
            wire["thinking"] = {"type": "disabled"}
        return
    level = _EFFORTS.get(effort) if isinstance(effort, str) else None
    if level is None:
        choices = ", ".join(["none", *_EFFORTS])
        raise BadRequest(
            f"'reasoning_effort' must be one of {choices}.", param="reasoning_effort", code="invalid_value"
        )
    if not model.can_think or "thinking" in wire:
        dropped["reasoning_effort"] = None
    elif model.adaptive:
        wire["thinking"] = {"type": "adaptive", "display": "summarized"} if model.hidden else {"type": "adaptive"}
        config = wire.get("output_config")
        wire["output_config"] = {"effort": level, **(config if isinstance(config, dict) else {})}
    else:
        budget = MIN_BUDGET if effort == "minimal" else BUDGETS[level]
        wire["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _set_limits(wire: dict[str, Any], body: Mapping[str, Any], model: Model, names: Mapping[str, str]) -> None:
    name = names["max_tokens"]
    limit = body.get(name)
    if limit is None:
        thinking = wire.get("thinking")
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
        if isinstance(budget, int):
            limit = budget + DEFAULT_MAX_TOKENS
        else:
            thinking_on = model.thinks or thinking is not None
            limit = DEFAULT_MAX_TOKENS_THINKING if thinking_on else DEFAULT_MAX_TOKENS
        limit = min(limit, model.max_output or limit)
    elif not isinstance(limit, int) or isinstance(limit, bool):
        raise BadRequest(f"'{name}' must be a whole number.", param=name, code="invalid_type")
    wire["max_tokens"] = limit


def _set_sampling(wire: dict[str, Any], body: Mapping[str, Any], dropped: dict[str, None]) -> None:
    for name in ("temperature", "top_p"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadRequest(f"'{name}' must be a number.", param=name, code="invalid_type")
        wire[name] = value
    stop = body.get("stop") if body.get("stop") is not None else body.get("stop_sequences")
    if stop is None:
        return
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(entry, str) for entry in stops):
        raise BadRequest("'stop' must be a string or an array of strings.", param="stop", code="invalid_type")
    said = [entry for entry in stops if entry.strip()]  # "each stop sequence must contain non-whitespace"
    if len(said) < len(stops):
        dropped["stop"] = None
    if said:
        wire["stop_sequences"] = said


def _set_metadata(wire: dict[str, Any], body: Mapping[str, Any], dropped: dict[str, None]) -> None:
    metadata = body.get("metadata")
    user = body.get("user") if body.get("user") is not None else body.get("safety_identifier")
    if isinstance(metadata, dict) and metadata:
        if user is None:
            user = metadata.get("user_id")
        if metadata.keys() - {"user_id"}:
            dropped["metadata"] = None
    if isinstance(user, str) and 0 < len(user) <= _MAX_USER_ID:
        wire["metadata"] = {"user_id": user}
    elif user not in (None, ""):
        dropped["user"] = None
    service = body.get("service_tier")
    if service in ("auto", "standard_only"):
        wire["service_tier"] = service
    elif service == "default":
        wire["service_tier"] = "standard_only"
    elif service is not None:
        dropped["service_tier"] = None
