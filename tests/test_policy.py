"""Which targets serve, in which order, and why."""

from __future__ import annotations

from router.config import load
from router.policy import Plan, larger_window, plan


def make(**tiers: dict[str, str]) -> object:
    env = {}
    for tier, settings in tiers.items():
        env |= {f"{tier.upper()}_PROVIDER": "echo", **{f"{tier.upper()}_{k}": v for k, v in settings.items()}}
    return load(env)


def order(found: Plan) -> list[str]:
    return [target.tier for target in found.targets]


def test_the_wanted_tier_then_its_fallbacks_in_order() -> None:
    settings = make(simple={"FALLBACKS": "reasoning, medium, simple, reasoning"}, medium={}, reasoning={})
    found = plan(settings, "simple", "direct")
    assert (order(found), found.mechanism, found.reason) == (["simple", "reasoning", "medium"], "direct", "")


def test_a_fallback_that_is_not_configured_is_served_by_its_stand_in() -> None:
    settings = make(simple={"FALLBACKS": "complex"}, medium={})
    assert order(plan(settings, "simple", "direct")) == ["simple", "medium"]


def test_nothing_configured_is_an_empty_plan() -> None:
    assert plan(make(), "simple", "direct").targets == ()


def test_capabilities_move_upwards_first() -> None:
    settings = make(
        simple={"CAPABILITIES": "tools"},
        medium={"CAPABILITIES": "none"},
        complex={"CAPABILITIES": "json"},
        reasoning={},
    )
    found = plan(settings, "medium", "classified", needs=frozenset({"tools"}))
    assert (order(found), found.mechanism) == (["reasoning"], "capability")
    settings = make(simple={"CAPABILITIES": "tools"}, medium={"CAPABILITIES": "none"})
    assert order(plan(settings, "medium", "classified", needs=frozenset({"tools"}))) == ["simple"]


def test_where_nothing_fits_the_wanted_tier_is_asked_all_the_same() -> None:
    settings = make(simple={"CAPABILITIES": "none"}, medium={"CAPABILITIES": "json"})
    assert order(plan(settings, "simple", "direct", needs=frozenset({"vision"}))) == ["simple"]


def test_fallbacks_must_fit_too() -> None:
    settings = make(
        simple={"FALLBACKS": "medium,complex"}, medium={"CAPABILITIES": "none"}, complex={"CONTEXT_WINDOW": "10"}
    )
    assert order(plan(settings, "simple", "direct", needs=frozenset({"json"}), tokens=50)) == ["simple"]


def test_windows() -> None:
    settings = make(simple={"CONTEXT_WINDOW": "1000"}, medium={"CONTEXT_WINDOW": "10000"}, complex={})
    assert order(plan(settings, "simple", "direct", tokens=800)) == ["simple"]
    found = plan(settings, "simple", "direct", tokens=2000)
    assert (order(found), found.mechanism) == (["medium"], "context")
    assert order(plan(settings, "simple", "direct", tokens=50_000)) == ["complex"]


def test_larger_or_unknown_windows_only() -> None:
    targets = make(
        simple={"CONTEXT_WINDOW": "10"}, medium={"CONTEXT_WINDOW": "5"}, complex={}, reasoning={"CONTEXT_WINDOW": "20"}
    ).targets
    rest = [targets["medium"], targets["complex"], targets["reasoning"]]
    assert [target.tier for target in larger_window(rest, targets["simple"])] == ["complex", "reasoning"]


def test_a_pinned_conversation_stays_with_its_dialect() -> None:
    env = {"SIMPLE_PROVIDER": "ollama", "SIMPLE_MODEL": "m", "SIMPLE_FALLBACKS": "medium", "MEDIUM_PROVIDER": "echo"}
    settings = load({**env, "COMPLEX_PROVIDER": "anthropic", "COMPLEX_MODEL": "c", "COMPLEX_API_KEY": "k"})
    assert order(plan(settings, "simple", "direct", pinned_dialect="openai")) == ["simple"]
    found = plan(settings, "simple", "classified", pinned_dialect="anthropic")
    assert (order(found), found.mechanism) == (["complex"], "capability")
    # Where no tier speaks it, the wanted one serves: its provider file leaves out what it cannot use.
    assert order(plan(load(env), "simple", "classified", pinned_dialect="anthropic")) == ["simple", "medium"]


def test_a_named_tier_serves_whatever_state_the_conversation_carries() -> None:
    env = {"SIMPLE_PROVIDER": "ollama", "SIMPLE_MODEL": "m", "MEDIUM_PROVIDER": "ollama", "MEDIUM_MODEL": "m"}
    settings = load({**env, "COMPLEX_PROVIDER": "anthropic", "COMPLEX_MODEL": "c", "COMPLEX_API_KEY": "k"})
    found = plan(settings, "simple", "direct", pinned_dialect="anthropic")
    assert (order(found), found.mechanism) == (["simple"], "direct")
    found = plan(settings, "reasoning", "direct", pinned_dialect="anthropic")  # not configured: `medium` stands in
    assert (order(found), found.mechanism) == (["medium"], "unavailable")
