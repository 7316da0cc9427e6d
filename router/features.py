"""A few surface features of a prompt that its embedding blurs: size, layout, code, mathematics, script.

Read beside the embedding by the same matrix. Each is roughly in 0…1, unaffected by letter case, and computed on the
text after the clip, so that the time is bounded; only the length is that of the whole text.
"""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt

# Raise it when a feature changes meaning: a head is only ever used with the version that it was fitted on.
VERSION = 1
NAMES = (
    "length", "lines", "words", "word_length", "code_marks", "math_marks", "digits", "non_ascii", "dense_script",
    "questions", "list_items", "code_words", "latex",
)  # fmt: skip
COUNT = len(NAMES)

_CODE_MARK = re.compile(r"[{}();<>\[\]_`#|&]")
_MATH_MARK = re.compile(r"[=+*/^∑∫√≤≥∈∀∃≠π∞≡→²³]")
_DIGIT = re.compile(r"\d")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
# Scripts written without spaces, in which few characters say much.
_DENSE = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LIST_ITEM = re.compile(r"(?m)^[ \t]{0,8}(?:[-*•]|\d{1,3}[.)])[ \t]")
# Counted one by one, not by an expression: its alternatives would cost twenty times as much.
_CODE_WORDS = (
    "```",
    "def ",
    "class ",
    "import ",
    "return ",
    "#include",
    "=>",
    "</",
    "function",
    "();",
    "select ",
    "var ",
)
_LATEX = re.compile(r"\$[^$\n]{1,60}\$|\\(?:frac|sum|int|sqrt|begin|le|ge|in|mathbb|cdot|to)\b")


def surface_features(text: str, whole_length: int) -> npt.NDArray[np.float32]:
    """Features of `text` (clipped; `whole_length` characters before the clip): float32 of shape (COUNT,)."""
    size = max(1, len(text))
    words = len(text.split())
    is_ascii = text.isascii()  # then two searches and a look for full-width marks find nothing
    return np.array(
        (
            math.log1p(whole_length) / 10,
            math.log1p(text.count("\n")) / 8,
            math.log1p(words) / 8,
            min(1.0, size / max(1, words) / 16),
            min(1.0, 4 * _count(_CODE_MARK, text) / size),
            min(1.0, 8 * _count(_MATH_MARK, text) / size),
            min(1.0, 4 * _count(_DIGIT, text) / size),
            0.0 if is_ascii else _count(_NON_ASCII, text) / size,
            0.0 if is_ascii else _count(_DENSE, text) / size,
            min(1.0, (text.count("?") + (0 if is_ascii else text.count("？"))) / 4),
            min(1.0, _count(_LIST_ITEM, text) / 8),
            min(1.0, sum(map(text.lower().count, _CODE_WORDS)) / 4),
            min(1.0, _count(_LATEX, text) / 4) if "$" in text or "\\" in text else 0.0,
        ),
        dtype=np.float32,
    )


def _count(pattern: re.Pattern[str], text: str) -> int:
    return len(pattern.findall(text))
