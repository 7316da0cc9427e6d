"""Which targets may serve a request, in which order, and why. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.chat import Need
from router.config import Settings, Target

# Left for the answer when a prompt is measured against a window, as a share of the window.
_ANSWER_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """`targets` in the order to try; `mechanism` and `reason` say why the first one is first.

    `wanted`: the tier that was classified or named, before anything spoke against it.
    """

    targets: tuple[Target, ...]
    wanted: str
    mechanism: str
    reason: str = ""


def plan(
    settings: Settings,
    wanted: str,
    mechanism: str,
    *,
    needs: frozenset[Need] = frozenset(),
    tokens: int = 0,
    pinned_dialect: str | None = None,
) -> Plan:
    """Orders the targets for a request that wants the tier `wanted` (a name in `settings.tiers`).

    `needs`: what the target must be able to do. `tokens`: estimated prompt length. `pinned_dialect`: the conversation
    carries state that only this dialect accepts: a target of it is preferred, unless the client named its tier
    (`mechanism` "direct"), and fallbacks of others are left out. An empty plan has no targets (nothing configured).
    Where no target fits the needs, the wanted one is asked all the same: its provider's refusal tells the client more
    than ours could.
    """
    serving = settings.serving.get(wanted)
    if serving is None:
        return Plan((), wanted, "unavailable", "no tier is configured")
    named, reason = mechanism == "direct", ""
    if serving != wanted:
        mechanism, reason = "unavailable", f"tier '{wanted}' is not configured"
    first = settings.targets[serving]
    if pinned_dialect is not None and not named and first.vendor.dialect != pinned_dialect:
        kept = _first_fit(settings, serving, needs, tokens, pinned_dialect)
        if kept is not None:
            mechanism, reason = "capability", f"the conversation carries state that only {pinned_dialect} accepts"
            first = kept
    missing = _missing(first, needs)
    if missing or not _fits(first, tokens):
        better = _first_fit(settings, serving, needs, tokens, pinned_dialect) or _first_fit(
            settings, serving, needs, tokens, None
        )
        if better is not None:
            mechanism = "capability" if missing else "context"
            lacks = f"does not take {', '.join(missing)}" if missing else f"has a window below {tokens} tokens"
            reason = f"tier '{serving}' {lacks}"
            first = better
    if not first.fallbacks:
        return Plan((first,), wanted, mechanism, reason)
    fallbacks = _fallbacks(settings.targets, settings.serving, first, needs, tokens)
    if first.vendor.dialect == pinned_dialect:
        fallbacks = [target for target in fallbacks if target.vendor.dialect == pinned_dialect]
    return Plan((first, *fallbacks), wanted, mechanism, reason)


def _fallbacks(
    targets: Mapping[str, Target], serving: Mapping[str, str], first: Target, needs: frozenset[Need], tokens: int
) -> list[Target]:
    seen = {first.tier}
    found = []
    for name in first.fallbacks:
        tier = serving.get(name)
        if tier is None or tier in seen:
            continue
        seen.add(tier)
        target = targets[tier]
        if not _missing(target, needs) and _fits(target, tokens):
            found.append(target)
    return found


def larger_window(candidates: Sequence[Target], failed: Target) -> list[Target]:
    """The candidates whose context window is larger than that of `failed`, or unknown."""
    return [
        target
        for target in candidates
        if target.context_window is None
        or failed.context_window is None
        or target.context_window > failed.context_window
    ]


def _first_fit(
    settings: Settings, tier: str, needs: frozenset[Need], tokens: int, dialect: str | None
) -> Target | None:
    """The cheapest fitting target (of `dialect`) at or above `tier`; where there is none, the strongest below it."""
    here = settings.tiers.index(tier)
    for name in [*settings.tiers[here:], *reversed(settings.tiers[:here])]:
        target = settings.targets.get(name)
        if target is None or _missing(target, needs) or not _fits(target, tokens):
            continue
        if dialect is None or target.vendor.dialect == dialect:
            return target
    return None


def _missing(target: Target, needs: frozenset[Need]) -> list[str]:
    return sorted(needs - target.capabilities) if needs else []


def _fits(target: Target, tokens: int) -> bool:
    return target.context_window is None or tokens <= target.context_window * (1 - _ANSWER_SHARE)
