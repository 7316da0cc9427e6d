"""Five small edits that alter no meaning: a prompt should keep its tier under each."""

from __future__ import annotations

import random

# Fixed, so that two runs edit alike.
SEED = 20240607
NAMES = ("lower case", "punctuation", "greeting", "please", "typo")
_TYPO_WITHIN = 400
# Longer prompts are thanked for on a line of their own, as people do.
_LONG_WORDS = 60


def edited(text: str, rng: random.Random) -> list[str]:
    """One variant per entry of `NAMES`."""
    thanks = " please" if len(text.split()) < _LONG_WORDS else "\nThanks in advance!"
    return [
        text.lower(),
        text.rstrip(" .?!") + rng.choice(["", ".", "?", "!!"]),
        "Hi! " + text,
        text + thanks,
        _typo(text, rng),
    ]


def _typo(text: str, rng: random.Random) -> str:
    """Two neighbouring letters exchanged, somewhere near the beginning."""
    end = min(len(text), _TYPO_WITHIN) - 1
    places = [at for at in range(1, end) if text[at].isalpha() and text[at + 1].isalpha()]
    if not places:
        return text
    at = rng.choice(places)
    return f"{text[:at]}{text[at + 1]}{text[at]}{text[at + 2 :]}"
