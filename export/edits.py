"""Small edits of a prompt that keep its tier: fine-tuning sees some prompts with them, so that they sway nothing."""

from __future__ import annotations

import re

import numpy as np

_GREETINGS = ("Hi! ", "Hello, ", "Hey, ", "hi ", "Hello! ", "Good morning. ", "hey there, ", "Hi there!\n")
_THANKS = (" please", ", please.", " pls", "\nThanks in advance!", " Thanks!", "\n\nThank you", " thx")
_ENDINGS = ("", "", ".", "?", "!", "!!", "...")
_LETTER_PAIR = re.compile(r"(?=[^\W\d_]{2})")
_TYPO_WINDOW = 600


def edited(text: str, rng: np.random.Generator) -> str:
    """`text` after one or two small edits that keep its tier: case, end mark, greeting, thanks, typo."""
    for _ in range(1 + int(rng.random() < 0.3)):
        kind = int(rng.integers(6))
        if kind == 0:
            text = text.lower()
        elif kind == 1:
            text = text.rstrip(" .?!") + _ENDINGS[rng.integers(len(_ENDINGS))]
        elif kind == 2:
            text = _GREETINGS[rng.integers(len(_GREETINGS))] + text
        elif kind == 3:
            text += _THANKS[rng.integers(len(_THANKS))]
        else:
            text = _mistyped(text, rng, swap=kind == 4)
    return text


def _mistyped(text: str, rng: np.random.Generator, swap: bool) -> str:
    """`text` with two neighbouring letters swapped, or one dropped or doubled."""
    places = [match.start() for match in _LETTER_PAIR.finditer(text[:_TYPO_WINDOW])]
    if not places:
        return text
    at = places[rng.integers(len(places))]
    if swap:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if rng.random() < 0.5 else text[:at] + text[at] + text[at:]
