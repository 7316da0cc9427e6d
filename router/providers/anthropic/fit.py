"""Makes an Anthropic request one that its model takes: what would be refused is adapted or left out, and named.

Works on the wire form, so that a request which came through our own Messages door and one that was translated from
OpenAI's form are held to the same table (`models`). Rules of thinking:
https://platform.claude.com/docs/en/build-with-claude/extended-thinking (budget below `max_tokens` and at least 1024, no
forced tool, no sampling, a tool loop ends as it began: with thinking, or without).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router.providers.anthropic.models import Model

MIN_BUDGET = 1_024
# What an effort is worth where a model wants tokens instead.
BUDGETS = {"low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 24_576, "max": 32_000}

_THINKING_BLOCKS = ("thinking", "redacted_thinking")


def fit(
    wire: dict[str, Any],
    model: Model,
    dropped: dict[str, None],
    names: Mapping[str, str],
    *,
    interleaved: bool = False,
) -> None:
    """Changes the top level of `wire`, never what hangs below it.

    `names`: wire parameter → the client's name. `interleaved`: the request carries the beta of that name.
    """

    def lose(name: str) -> None:
        dropped[names.get(name, name)] = None

    asked = thinks(wire, model)
    limit = wire.get("max_tokens")
    if model.max_output is not None and isinstance(limit, int) and limit > model.max_output:
        wire["max_tokens"] = model.max_output
        lose("max_tokens")
    if "thinking" in wire and not _fit_mode(wire, model):
        lose("thinking")
    if "tool_choice" in wire:
        _fit_choice(wire, model, lose)
    free = interleaved and model.interleaves and bool(wire.get("tools"))
    if _mode(wire) == "enabled" and not _fit_budget(wire, free=free):
        lose("thinking")
    if _is_off(wire, model, asked=asked) and _strip(wire):
        lose("thinking_blocks")
    _fit_sampling(wire, model, lose)
    if "output_config" in wire and not _fit_effort(wire, model):
        lose("effort")


def thinks(wire: Mapping[str, Any], model: Model) -> bool:
    """Whether the model will think on this request, asked or not."""
    mode = _mode(wire)
    return mode in ("enabled", "adaptive") or (mode is None and model.thinks)


def _is_off(wire: Mapping[str, Any], model: Model, *, asked: bool) -> bool:
    """Whether the model does not think at all. `asked`: the request came with thinking, which `fit` took off.

    What a model of unknown name does where nobody said anything is not known.
    """
    mode = _mode(wire)
    return mode == "disabled" or (mode is None and not model.thinks and (asked or model.max_output is not None))


def _mode(wire: Mapping[str, Any]) -> str | None:
    thinking = wire.get("thinking")
    return thinking.get("type") if isinstance(thinking, dict) else None


def _fit_mode(wire: dict[str, Any], model: Model) -> bool:
    """`thinking.type` as the model takes it; False if the wish could not be met as it was."""
    thinking = wire["thinking"]
    mode = _mode(wire)
    if mode == "enabled":
        if model.budget:
            return True
        if model.adaptive:
            wire["thinking"] = _without(thinking, "budget_tokens", type="adaptive")
        else:
            del wire["thinking"]
        return False
    if mode == "adaptive":
        if model.adaptive:
            return True
        if model.budget:
            effort = str((wire.get("output_config") or {}).get("effort"))
            wire["thinking"] = {"type": "enabled", "budget_tokens": BUDGETS.get(effort, BUDGETS["medium"])}
        else:
            del wire["thinking"]
        return False
    if mode in ("disabled", "between_tools") and mode != model.off:
        if model.off is None or (mode == "between_tools" and not model.thinks):
            del wire["thinking"]
            return not model.thinks
        wire["thinking"] = {"type": model.off}
    return True


def _fit_choice(wire: dict[str, Any], model: Model, lose: Any) -> None:
    """A forced tool and thinking exclude each other; some models cannot be forced at all."""
    choice = wire["tool_choice"]
    if not isinstance(choice, dict) or choice.get("type") not in ("any", "tool"):
        return
    if not model.forced:
        wire["tool_choice"] = _without(choice, "name", type="auto")
        lose("tool_choice")
    elif thinks(wire, model) and model.off is not None:
        if "thinking" in wire:
            lose("thinking")
            del wire["thinking"]
        if model.thinks:
            wire["thinking"] = {"type": model.off}


def _fit_budget(wire: dict[str, Any], *, free: bool) -> bool:
    """False if the budget had to change, or thinking to go. `free`: the budget may be above `max_tokens`."""
    messages = wire.get("messages") or []
    if _lost_thinking(messages) or (messages and messages[-1].get("role") == "assistant"):
        del wire["thinking"]
        return False
    budget, limit = wire["thinking"].get("budget_tokens"), wire.get("max_tokens")
    if not isinstance(budget, int) or not isinstance(limit, int):
        return True  # the provider says best what is wrong with it
    fitting = max(budget, MIN_BUDGET)
    if fitting >= limit and not free:
        fitting = limit - limit // 4
    if fitting < MIN_BUDGET or (fitting >= limit and not free):
        del wire["thinking"]
    elif fitting != budget:
        wire["thinking"] = {**wire["thinking"], "budget_tokens": fitting}
    return fitting == budget


def _lost_thinking(messages: Sequence[Any]) -> bool:
    """Whether the conversation is inside a tool loop that goes on without thinking.

    Without interleaving Claude thinks once, before the loop's first call; its later turns have no block of their own.
    """
    loop = _loop(messages)
    return bool(loop) and not any(_is_thinking(block) for index in loop for block in _blocks(messages[index]))


def _loop(messages: Sequence[Any]) -> list[int]:
    """Where the assistant's turns of the unfinished tool loop are, the latest first: to the API they are one turn.

    A final assistant turn, which the model is to continue, belongs to it.
    """
    found: list[int] = []
    for index in range(len(messages) - 1, -1, -1):
        role = messages[index].get("role")
        if role == "assistant":
            found.append(index)
        elif role == "user" and not any(block.get("type") == "tool_result" for block in _blocks(messages[index])):
            break
    return found


def _strip(wire: dict[str, Any]) -> bool:
    """Takes the thinking out of the unfinished tool loop, where it is refused once thinking is off; True if any was."""
    messages = list(wire.get("messages") or ())
    changed = False
    for index in _loop(messages):
        blocks = _blocks(messages[index])
        kept = [block for block in blocks if not _is_thinking(block)]
        if len(kept) == len(blocks):
            continue
        changed = True
        if kept:
            messages[index] = {**messages[index], "content": kept}
        else:
            del messages[index]  # the latest first, so the places of the others stay
    if changed:
        wire["messages"] = messages
    return changed


def _blocks(turn: Mapping[str, Any]) -> list[Any]:
    content = turn.get("content")
    return content if isinstance(content, list) else []


def _is_thinking(block: Mapping[str, Any]) -> bool:
    return block.get("type") in _THINKING_BLOCKS


def _fit_sampling(wire: dict[str, Any], model: Model, lose: Any) -> None:
    temperature = wire.get("temperature")
    if isinstance(temperature, int | float) and temperature > 1:
        wire["temperature"] = 1.0
        lose("temperature")
    thinking = thinks(wire, model)
    if model.sampling == 0 or thinking:
        for name in ("temperature", "top_p", "top_k"):
            value = wire.get(name)
            if value is None:
                wire.pop(name, None)
            elif model.sampling == 0 or not _goes_with_thinking(name, value):
                del wire[name]
                if name == "top_k" or value != 1:  # 1 is what the model does anyway
                    lose(name)
    if model.sampling == 1 and wire.get("temperature") is not None and wire.get("top_p") is not None:
        less = "temperature" if wire["temperature"] == 1 else "top_p"
        if wire[less] != 1:
            lose(less)
        del wire[less]


def _goes_with_thinking(name: str, value: Any) -> bool:
    if name == "temperature":
        return bool(value == 1)
    return name == "top_p" and isinstance(value, int | float) and 0.95 <= value <= 1


def _fit_effort(wire: dict[str, Any], model: Model) -> bool:
    config = wire["output_config"]
    effort = config.get("effort") if isinstance(config, dict) else None
    if effort is None:
        return True
    takes = model.efforts
    if takes and model.thinks and _mode(wire) in ("disabled", "between_tools"):
        takes = tuple(level for level in takes if level not in ("xhigh", "max"))
    if effort in takes:
        return True
    if takes and effort in BUDGETS:
        order = list(BUDGETS)
        below = [level for level in takes if order.index(level) <= order.index(effort)]
        wire["output_config"] = {**config, "effort": below[-1] if below else takes[0]}
    else:
        rest = _without(config, "effort")
        if rest:
            wire["output_config"] = rest
        else:
            del wire["output_config"]
    return False


def _without(document: Mapping[str, Any], key: str, **changes: Any) -> dict[str, Any]:
    return {**{name: value for name, value in document.items() if name != key}, **changes}
