"""The built-in examples: enough of them, varied, ours, and none twice."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from router.examples import BUILT_IN, Example, read_examples

TIERS = ("simple", "medium", "complex", "reasoning")
# Prompts that are measured on and must not be trained on; they are not in the repository.
MEASURED = Path(
    os.environ.get("MEASURED_PROMPTS", Path(__file__).resolve().parents[2] / "shared" / "dev_prompts.jsonl")
)
BUCKETS = 1 << 17


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    found, problems = read_examples(BUILT_IN)
    assert problems == []
    return found


def test_enough_of_every_tier(examples: list[Example]) -> None:
    tiers = Counter(example.tier for example in examples)
    assert len(examples) >= 6000
    assert set(tiers) == set(TIERS)
    assert min(tiers.values()) >= 800


def test_many_languages(examples: list[Example]) -> None:
    languages = Counter(example.lang for example in examples)
    assert sum(count >= 20 for count in languages.values()) >= 13
    assert 1 - languages["en"] / len(examples) >= 0.2


def test_lengths_do_not_give_the_tier_away(examples: list[Example]) -> None:
    """Every tier has short and long ones."""
    lengths = defaultdict(list)
    for example in examples:
        lengths[example.tier].append(len(example.text))
    for tier in TIERS:
        assert np.quantile(lengths[tier], 0.1) < 130, tier
        assert max(lengths[tier]) > 600, tier


def test_few_words_do_not_give_the_tier_away(examples: list[Example]) -> None:
    """People ask for anything as they would ask a search engine: "sudoku solver python" is not a look-up."""
    short = Counter(example.tier for example in examples if example.lang == "en" and len(example.text.split()) <= 6)
    assert short["simple"] <= 0.55 * short.total()
    assert min(short[tier] for tier in TIERS) >= 0.08 * short.total(), short


def test_no_template_runs_through_them(examples: list[Example]) -> None:
    """Few examples of English open with the same three words."""
    openings = Counter(" ".join(e.text.lower().split()[:3]) for e in examples if e.lang == "en" and " " in e.text)
    opening, count = openings.most_common(1)[0]
    assert count <= 0.01 * len(examples), opening


def grams(text: str) -> frozenset[int]:
    """Hashed 5-grams of characters, case and white space folded."""
    folded = " ".join(text.lower().split())
    return frozenset(hash(folded[i : i + 5]) % BUCKETS for i in range(max(1, len(folded) - 4)))


def too_alike(texts: list[str], limit: float) -> list[tuple[int, int]]:
    """Pairs that share more than `limit` of their n-grams, found by way of their rarest ones."""
    sets = [grams(text) for text in texts]
    frequency = Counter(gram for one in sets for gram in one)
    holders = defaultdict(list)
    for index, one in enumerate(sets):
        for gram in sorted(one, key=lambda gram: frequency[gram])[: max(3, len(one) // 12)]:
            holders[gram].append(index)
    pairs = {pair for group in holders.values() if len(group) < 20 for pair in combinations(group, 2)}
    return [(a, b) for a, b in sorted(pairs) if len(sets[a] & sets[b]) > limit * len(sets[a] | sets[b])]


def test_none_twice(examples: list[Example]) -> None:
    """By letters; tests/export has the same by meaning, with the original encoder."""
    texts = [example.text for example in examples]
    assert [(texts[a][:80], texts[b][:80]) for a, b in too_alike(texts, 0.85)] == []


def test_the_likeness_test_can_fail() -> None:
    text = "Write a short poem about the old lighthouse at the end of the pier"
    assert too_alike([text, "Something else entirely, about trains", text + "."], 0.85) == [(0, 2)]


@pytest.mark.skipif(not MEASURED.is_file(), reason="the prompts that are measured on are not here (MEASURED_PROMPTS)")
def test_none_is_a_prompt_that_is_measured_on(examples: list[Example]) -> None:
    texts = [example.text for example in examples]
    measured = [json.loads(line)["text"] for line in MEASURED.read_text().splitlines()]
    alike = too_alike(texts + measured, 0.6)
    assert [(a, b) for a, b in alike if a < len(texts) <= b] == []
