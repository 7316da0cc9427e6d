"""What a model demands of an OpenAI-compatible body beyond the dialect: one table.

Sources: https://platform.openai.com/docs/guides/reasoning (reasoning models take `max_completion_tokens` and no
sampling parameters).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from router.config import Target


class Rule(NamedTuple):
    """For models that match: parameters to rename, and parameters to drop."""

    providers: frozenset[str]
    model: re.Pattern[str]
    rename: Mapping[str, str]
    drop: frozenset[str]


_SAMPLING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"}
)

RULES = (
    Rule(
        frozenset({"openai", "openrouter"}),
        re.compile(r"^(openai/)?(o[1-9](-|$)|gpt-5(?!-chat))"),
        {"max_tokens": "max_completion_tokens"},
        _SAMPLING,
    ),
)


def adapt(body: Mapping[str, Any], target: Target) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The body as `target` takes it (None: as it is) and the names of the parameters that were dropped."""
    for rule in RULES:
        if target.vendor.name in rule.providers and rule.model.match(target.model):
            break
    else:
        return None, ()
    dropped = tuple(name for name in body if name in rule.drop)
    renamed = [name for name in rule.rename if name in body]
    if not dropped and not renamed:
        return None, ()
    changed = {rule.rename.get(name, name): value for name, value in body.items() if name not in rule.drop}
    return changed, dropped
