"""What a model, or a vendor's API, demands of an OpenAI-compatible body beyond the dialect: one table.

Only what the target would refuse (or, for a renamed limit, silently ignore) stands here; whatever is in no rule passes
as sent. To add a rule: a row in `RULES`; the first one that matches counts. Sources, read in November 2026:

- https://platform.openai.com/docs/guides/reasoning and …/guides/latest-model (parameter compatibility): reasoning
  models take `max_completion_tokens` and no sampling; gpt-5.1 to 5.x take sampling with `reasoning_effort` none, which
  is their default; the o-series takes no `parallel_tool_calls`; o3, o4 and gpt-5 no `stop`.
- https://docs.mistral.ai/api (unknown members are a 422; `random_seed`), https://console.groq.com/docs/openai ("will
  result in a 400"), https://api-docs.deepseek.com/api/create-chat-completion and
  https://github.com/ollama/ollama/blob/main/docs/api/openai-compatibility.mdx (`max_tokens` only),
  https://ai.google.dev/gemini-api/docs/openai ("Unknown name … Cannot find field").
- reasoning_effort: https://docs.mistral.ai/capabilities/reasoning (none and high), https://console.groq.com/docs/reasoning
  (GPT-OSS: low to high; Qwen: none and default; the rest none at all), and Ollama's "does not support thinking".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from router.config import Target
from router.providers.turns import Message, mistral_order, short_ids, system_role

_SAMPLING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"}
)
_WITHOUT_REASONING = frozenset({"temperature", "top_p", "logprobs", "top_logprobs"})
_EFFORT = frozenset({"reasoning_effort"})
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_NEW_LIMIT = {"max_tokens": "max_completion_tokens"}
_OLD_LIMIT = {"max_completion_tokens": "max_tokens"}
# Parameters that say only what is so anyway: leaving them out loses nothing.
_NO_OPS = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logprobs": False,
    "logit_bias": {},
    "n": 1,
    "store": False,
    "verbosity": "medium",
}
# Claude's signed thinking, which `router.providers.anthropic` puts on assistant messages; nobody else knows it.
_STATE = frozenset({"thinking_blocks"})
# What clients send back of our answers, and a strict API refuses.
_ANSWER = _STATE | {
    "reasoning_details",
    "reasoning_content",
    "reasoning",
    "refusal",
    "annotations",
    "audio",
    "function_call",
}


_NOT_MISTRAL = frozenset(
    {"user", "store", "logprobs", "top_logprobs", "logit_bias", "service_tier", "verbosity", "modalities", "audio"}
    | {"stream_options", "web_search_options", "safety_identifier", "functions", "function_call"}
    | {"prompt_cache_retention"}
)
# Hints for OpenAI's own service, which vendors that check a body's members refuse it for.
_HINTS = frozenset({"prompt_cache_key", "prompt_cache_retention", "safety_identifier", "verbosity"})
_NOT_GROQ = frozenset({"logprobs", "top_logprobs", "logit_bias"}) | _HINTS
_FORGOTTEN_BY_GROQ = _STATE | {"reasoning_details", "reasoning_content", "refusal", "annotations", "name"}


class Rule(NamedTuple):
    """For models that match (and vendors, if any are named).

    `rename`: a parameter's other name; where both are given, the one the target knows stays. `drop`: parameters that
    are left out. `unless_reasoning`: those of `drop` that are taken where `reasoning_effort` is none, or left to a
    default of none. `efforts`: the values of `reasoning_effort` that are taken (None: any); another is replaced by the
    nearest, or left out where that is none and some was asked for. `fixed`: the only value a parameter may have.
    `forget`: members of messages that are left out (a tool message keeps its `name`). `turns`: what else is done to the
    messages.
    """

    vendors: frozenset[str]
    model: re.Pattern[str]
    rename: Mapping[str, str] = {}
    drop: frozenset[str] = frozenset()
    unless_reasoning: frozenset[str] = frozenset()
    efforts: tuple[str, ...] | None = None
    fixed: Mapping[str, Any] = {}
    forget: frozenset[str] = frozenset()
    turns: tuple[Callable[[list[Message]], list[Message]], ...] = ()


def _rule(vendors: str, model: str, **fields: Any) -> Rule:
    return Rule(frozenset(vendors.split()), re.compile(model, re.IGNORECASE), **fields)


def _mistral(**fields: Any) -> dict[str, Any]:
    """What holds for every model of the vendor, and what a row says beyond it."""
    return {
        "rename": {**_OLD_LIMIT, "seed": "random_seed"},
        "drop": _NOT_MISTRAL,
        "forget": _ANSWER | {"name"},
        "turns": (system_role, mistral_order, short_ids),
        **fields,
    }


def _groq(**fields: Any) -> dict[str, Any]:
    return {"drop": _NOT_GROQ, "forget": _FORGOTTEN_BY_GROQ, "fixed": {"n": 1}, **fields}


_PREFIX = r"^(openai/)?"
_OPENAI = "openai openrouter"
RULES: tuple[Rule, ...] = (
    _rule(
        _OPENAI,
        _PREFIX + r"(o1|o2|o3-mini)(-|$)",
        rename=_NEW_LIMIT,
        drop=_SAMPLING | {"parallel_tool_calls", "verbosity"},
        efforts=("low", "medium", "high"),
        forget=_STATE,
    ),
    _rule(
        _OPENAI,
        _PREFIX + r"o[3-9](-|$)",
        rename=_NEW_LIMIT,
        drop=_SAMPLING | {"parallel_tool_calls", "verbosity", "stop"},
        efforts=("low", "medium", "high"),
        forget=_STATE,
    ),
    _rule(  # chat models under a reasoning model's name: they sample, and do not reason
        _OPENAI,
        _PREFIX + r"gpt-[5-9](\.\d+)?-chat",
        rename=_NEW_LIMIT,
        drop=frozenset({"reasoning_effort"}),
        forget=_STATE,
    ),
    _rule(
        _OPENAI,
        _PREFIX + r"gpt-5(\.\d+)?-pro",
        rename=_NEW_LIMIT,
        drop=_SAMPLING | {"stop"},
        efforts=("high", "xhigh"),
        forget=_STATE,
    ),
    _rule(
        _OPENAI,
        _PREFIX + r"gpt-5\.1(-|$)",
        rename=_NEW_LIMIT,
        drop=_SAMPLING | {"stop"},
        unless_reasoning=_WITHOUT_REASONING,
        efforts=("none", "low", "medium", "high"),
        forget=_STATE,
    ),
    _rule(
        _OPENAI,
        _PREFIX + r"gpt-5\.[2-9]",
        rename=_NEW_LIMIT,
        drop=_SAMPLING | {"stop"},
        unless_reasoning=_WITHOUT_REASONING,
        efforts=("none", "low", "medium", "high", "xhigh"),
        forget=_STATE,
    ),
    _rule(
        _OPENAI,
        _PREFIX + r"gpt-5",
        rename=_NEW_LIMIT,
        drop=_SAMPLING | {"stop"},
        efforts=("minimal", "low", "medium", "high"),
        forget=_STATE,
    ),
    _rule(
        _OPENAI,
        _PREFIX + r"gpt-[6-9]",
        rename=_NEW_LIMIT,
        drop=_SAMPLING | {"stop"},
        efforts=("low", "medium", "high", "xhigh"),
        forget=_STATE,
    ),
    _rule("openai", r"^(gpt-[34]|chatgpt-)", drop=frozenset({"reasoning_effort", "verbosity"}), forget=_STATE),
    _rule("openai", r"", forget=_STATE),
    _rule("mistral", r"^(codestral|devstral|ministral|pixtral|open-)", **_mistral(drop=_NOT_MISTRAL | _EFFORT)),
    _rule("mistral", r"^(mistral|magistral)-", **_mistral(efforts=("none", "high"))),
    _rule("mistral", r"", **_mistral()),
    _rule("groq", r"^(meta-llama/|llama|gemma|allam|(groq/)?compound)", **_groq(drop=_NOT_GROQ | _EFFORT)),
    _rule("groq", r"gpt-oss", **_groq(efforts=("low", "medium", "high"))),
    _rule("groq", r"^qwen", **_groq(efforts=("none",))),
    _rule("groq", r"", **_groq()),
    _rule("deepseek", r"", rename=_OLD_LIMIT, forget=_STATE, turns=(system_role,)),
    _rule(  # families without thinking; any other may have it
        "ollama",
        r"^(llama[23]|codellama|tinyllama|gemma([23]n?)?(:|$)|qwen2|mixtral|codestral|phi3|command-r|"
        r"mistral(-nemo|-large|-small3[.\d]*)?(:|$))",
        rename=_OLD_LIMIT,
        drop=_EFFORT,
        forget=_STATE,
        turns=(system_role,),
    ),
    _rule("ollama together", r"", rename=_OLD_LIMIT, forget=_STATE, turns=(system_role,)),
    _rule(
        "google",
        r"",
        drop=frozenset({"frequency_penalty", "presence_penalty", "seed", "store"}) | _HINTS,
        forget=_STATE | {"reasoning_details"},
        turns=(system_role,),
    ),
)


def adapt(body: Mapping[str, Any], target: Target) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The body as `target` takes it (None: as it is) and the names of the parameters that were changed or dropped."""
    rule = _find(target.vendor.name, target.model)
    if rule is None:
        return None, ()
    changed: dict[str, Any] = {}
    dropped: list[str] = []
    kept = rule.unless_reasoning if rule.unless_reasoning and _rests(body) else frozenset[str]()
    for name, value in body.items():
        if name in rule.drop and name not in kept:
            if value is not None and value != _NO_OPS.get(name):
                dropped.append(name)
        elif name not in rule.rename:
            changed[name] = value
        elif rule.rename[name] not in body:
            changed[rule.rename[name]] = value
    _fit_effort(changed, rule, dropped)
    for name, only in rule.fixed.items():
        if changed.get(name) not in (None, only):
            changed[name] = only
            dropped.append(name)
    if rule.forget and (messages := _forget(body.get("messages"), rule.forget, dropped)) is not None:
        changed["messages"] = messages
    for turn in rule.turns:
        changed["messages"] = turn(changed["messages"])
    if changed == body:
        return None, ()
    return changed, tuple(dropped)


@lru_cache(maxsize=256)
def _find(vendor: str, model: str) -> Rule | None:
    return next((rule for rule in RULES if vendor in rule.vendors and rule.model.search(model)), None)


def _rests(body: Mapping[str, Any]) -> bool:
    """Whether the model will not reason, so that it takes sampling parameters."""
    return body.get("reasoning_effort") in (None, "none")


def _fit_effort(changed: dict[str, Any], rule: Rule, dropped: list[str]) -> None:
    effort = changed.get("reasoning_effort")
    if rule.efforts is None or effort is None or effort in rule.efforts or effort not in _EFFORTS:
        return
    wanted = _EFFORTS.index(effort)
    nearest = min(rule.efforts, key=lambda level: abs(_EFFORTS.index(level) - wanted))
    if nearest == "none" and effort != "minimal":  # who asks for some reasoning does not ask for none
        del changed["reasoning_effort"]
    else:
        changed["reasoning_effort"] = nearest
    dropped.append("reasoning_effort")


def _forget(messages: Any, members: frozenset[str], dropped: list[str]) -> list[Any] | None:
    """The messages without `members`; None where none has any."""
    if not isinstance(messages, list) or all(members.isdisjoint(message) for message in messages):
        return None
    lost: dict[str, None] = {}
    kept = []
    for message in messages:
        gone = members & message.keys()
        if message.get("role") == "tool":
            gone = gone - {"name"}
        if "thinking_blocks" in gone:
            gone = gone | {"reasoning_content"}  # the same thinking, for reading
        lost |= {f"messages.{name}": None for name in sorted(gone) if message.get(name) is not None}
        kept.append({name: value for name, value in message.items() if name not in gone} if gone else message)
    dropped += lost
    return kept
