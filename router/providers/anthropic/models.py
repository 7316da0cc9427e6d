"""What each Claude model takes: one table, looked up by the version in the model's name.

Sources, read in November 2026 (https://platform.claude.com/docs/en/…): `build-with-claude/thinking` and
`…/thinking-troubleshooting` (accepted `thinking.type` values), `build-with-claude/effort`,
`build-with-claude/structured-outputs`, `build-with-claude/preserved-thinking`, `api/errors#prefill-not-supported`, and
the migration guides of each model (`models/opus-5-5/migration-guide`, `models/sonnet-5-5/migration-guide`,
`models/haiku-5-5/migration-guide`, `models/opus-5/migration-guide`, `models/sonnet-5/migration-guide`).

To add a model: a row in `_ROWS`. A name without a known version (a proxy's alias) gets `_UNKNOWN`, a version newer than
the table gets the newest row of its family.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

_LOW_TO_HIGH = ("low", "medium", "high")
_LOW_TO_MAX = ("low", "medium", "high", "max")
_ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")


class Model(NamedTuple):
    """What one model accepts. Token counts are limits on output.

    `budget`: takes `thinking: enabled` with `budget_tokens`. `interleaves`: with tools and the beta
    `interleaved-thinking`, a budget above `max_tokens`, too. `adaptive`: takes `thinking: adaptive`. `thinks`: does so
    where the request says nothing. `off`: the `thinking.type` that turns it off (None: cannot be turned off).
    `sampling`: how many of temperature and top_p it takes at once. `efforts`: values of `output_config.effort`, weakest
    first. `hidden`: thinking text is left out unless `display` asks for it. `structured`: takes `output_config.format`
    and strict tools. `forced`: takes a `tool_choice` of `any` or `tool`. `bound`: refuses a thinking block if anything
    before it has changed.
    """

    max_output: int | None = 128_000
    budget: bool = False
    interleaves: bool = False
    adaptive: bool = False
    thinks: bool = False
    off: Literal["disabled", "between_tools"] | None = "disabled"
    sampling: Literal[0, 1, 2] = 1
    efforts: tuple[str, ...] = ()
    hidden: bool = False
    structured: bool = True
    forced: bool = True
    bound: bool = False

    @property
    def can_think(self) -> bool:
        return self.budget or self.adaptive


_OLD = Model(4_096, sampling=2, structured=False)
_V3_5 = _OLD._replace(max_output=8_192)
_V3_7 = Model(64_000, budget=True, sampling=2, structured=False)
_V4 = _V3_7._replace(max_output=32_000, interleaves=True)
_V4_1 = _V4._replace(sampling=1)
_V4_5 = Model(64_000, budget=True, interleaves=True)
_V4_6 = Model(budget=True, adaptive=True, efforts=_LOW_TO_MAX)  # opus has given up interleaving by budget
_V4_7 = Model(adaptive=True, sampling=0, efforts=_ALL_EFFORTS, hidden=True)
_V5 = _V4_7._replace(thinks=True)
_ALWAYS = _V5._replace(off=None)
_V5_5 = _ALWAYS._replace(forced=False, bound=True)

# A proxy's own name for a model: nothing is known, so only what every model takes is sent.
_UNKNOWN = Model(None, budget=True, interleaves=True, sampling=1, structured=False)

# Family ("" = any) and first version → what it takes. The last row that fits wins.
_ROWS: tuple[tuple[str, tuple[int, int], Model], ...] = (
    ("", (0, 0), _OLD),
    ("", (3, 5), _V3_5),
    ("", (3, 7), _V3_7),
    ("", (4, 0), _V4),
    ("sonnet", (4, 0), _V4._replace(max_output=64_000)),
    ("", (4, 1), _V4_1),
    ("", (4, 5), _V4_5),
    ("opus", (4, 5), _V4_5._replace(efforts=_LOW_TO_HIGH)),
    ("", (4, 6), _V4_6),
    ("sonnet", (4, 6), _V4_6._replace(interleaves=True)),
    ("", (4, 7), _V4_7),
    ("", (5, 0), _V5),
    ("fable", (5, 0), _ALWAYS),
    ("mythos", (5, 0), _ALWAYS),
    ("", (5, 1), _V5_5),
    ("sonnet", (5, 5), _V5_5._replace(off="between_tools")),
    ("haiku", (5, 5), _V5._replace(bound=True)),
)

_FAMILY_FIRST = re.compile(r"claude-([a-z]+)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_VERSION_FIRST = re.compile(r"claude-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)(?:-([a-z]+))?")


@lru_cache(maxsize=256)
def lookup(name: str) -> Model:
    """The row for a model name, with or without a vendor's prefix, a date or a `-latest` at its end."""
    family, version = _parse(name.lower())
    if version is None:
        return _UNKNOWN
    found = _OLD
    for row_family, first, model in _ROWS:
        if row_family in ("", family) and version >= first:
            found = model
    return found


def _parse(name: str) -> tuple[str, tuple[int, int] | None]:
    if match := _FAMILY_FIRST.search(name):
        return match[1], (int(match[2]), int(match[3] or 0))
    if match := _VERSION_FIRST.search(name):
        return match[3] or "", (int(match[1]), int(match[2] or 0))
    if "claude-mythos" in name:  # claude-mythos-preview, the one released name without a version
        return "mythos", (5, 0)
    return "", None
