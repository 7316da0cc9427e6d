"""The cascade's first stage: a prompt's words, hashed, looked up and summed into probabilities, in microseconds.

A linear model over the set of words and pairs of neighbouring words, how the text begins and ends, and how long it is.
Each of these is hashed to a row of one int8 table (feature hashing, Weinberger et al. 2009); a row holds a weight per
tier. There is no vocabulary to load and none to miss. It is distilled from the encoder and its head
(`python -m export.firststage`) and answers only where it is at least as sure as its threshold demands; of everything
else it says None, and the encoder decides.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from router.artifacts import ArtifactError
from router.prompt import clip

Floats = npt.NDArray[np.float64]

# Raise it when a slot changes meaning: a table is only ever used with the version that it was fitted on.
VERSION = 1
SLOT_BITS = 18  # 262,144 rows: of ~46,000 that carry a weight, an unknown word meets one by chance every sixth time
ROWS = 1 << SLOT_BITS
# A bag of n slots counts n^-½ each, so that long texts are not surer by their length alone.
BAG_SCALE = 3.0
SHAPE_SCALE = 0.5
# Characters read: as much from either end as says what is asked; it bounds the time (about 0.1 ms).
CHAR_LIMIT = 800

_SHIFT = 32 - SLOT_BITS
_MASK = 0xFFFFFFFF
_MIX = 0x9E3779B1  # 2³² / golden ratio: Knuth's multiplicative hashing
# Over UTF-8, lower-cased: words of one- and two-byte letters and of Vietnamese (e1 b8–bb); numbers; every other
# character of three or four bytes by itself (Chinese, Japanese, Korean, Thai, Hindi: pairs of them stand in for words);
# ASCII marks. Spaces say nothing, line breaks do.
_PIECE = re.compile(
    rb"(?:[a-z]|[\xc3-\xdf][\x80-\xbf]|\xe1[\xb8-\xbb][\x80-\xbf])+|[0-9]+"
    rb"|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|[!-/:-@\[-`{-~\n]"
)
# A greeting says nothing about the work, and would hide how the request itself begins.
_GREETING = re.compile(
    r"(?:(?:hi|hello|hey|greetings|good (?:morning|afternoon|evening|day))"
    r"(?: there| all| everyone| team)?(?:[,.!:;-]+\s*|\s+|$))+"
)
_ENDING = re.compile(r"(?:[\s,.!?]|\b(?:please|pls|plz|thanks|thank you|thx|in advance))+$")
# One mark at a time above, and only so many characters searched: a long run of marks must not make it backtrack.
_ENDING_CHARS = 40
_SALTS = {
    name: crc32(name.encode())
    for name in (
        "pair",
        "characters",
        "pieces",
        "question",
        "first",
        "first of",
        "start",
        "last",
        "last of",
        "two",
        "two of",
    )
}


@dataclass(frozen=True, slots=True)
class Slots:
    """Rows of the table that a text reads: the set of its words and pairs, and its shape."""

    bag: list[int]
    shape: list[int]


@dataclass(frozen=True, slots=True)
class FirstStage:
    """`table` (ROWS, labels) int8, of which a weight is table·step; temperature folded into `step` and `bias`."""

    labels: tuple[str, ...]
    table: npt.NDArray[np.int8]
    step: float
    bias: tuple[float, ...]
    threshold: float

    def classify(self, text: str) -> list[float] | None:
        """Probability of each label where the likeliest is at least `threshold`, else None. `text` is stripped."""
        row = self.probabilities(text)
        return row if max(row) >= self.threshold else None

    def probabilities(self, text: str) -> list[float]:
        """Calibrated probability of each label."""
        found = slots(text)
        rows = self.table.take(found.shape + found.bag, axis=0)
        shape, bag = np.add.reduceat(rows, (0, len(found.shape)), axis=0, dtype=np.int32).tolist()
        per_bag = BAG_SCALE * self.step / math.sqrt(len(found.bag))
        per_shape = SHAPE_SCALE * self.step
        logits = [b * per_bag + s * per_shape + base for b, s, base in zip(bag, shape, self.bias, strict=True)]
        top = max(logits)
        exponents = [math.exp(logit - top) for logit in logits]
        total = sum(exponents)
        return [exponent / total for exponent in exponents]

    def to_bytes(self) -> bytes:
        """As an .npz without pickled objects."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            version=np.array(VERSION),
            labels=np.array(self.labels, dtype=np.str_),
            table=self.table,
            step=np.array(self.step),
            bias=np.array(self.bias),
            threshold=np.array(self.threshold),
        )
        return buffer.getvalue()

    @classmethod
    def from_file(cls, path: Path) -> FirstStage:
        """Read and check an .npz written by `to_bytes`; ArtifactError names what is wrong."""
        try:
            # Opened here: np.load leaves a file that is no archive open.
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            version = int(arrays["version"])
            stage = cls(
                tuple(str(label) for label in arrays["labels"]),
                np.ascontiguousarray(arrays["table"]),
                float(arrays["step"]),
                tuple(arrays["bias"].astype(np.float64).tolist()),
                float(arrays["threshold"]),
            )
        except KeyError as error:
            raise ArtifactError(f"{path}: holds no {error}") from error
        except Exception as error:  # zipfile, numpy and OS each raise their own
            raise ArtifactError(f"{path}: {error}") from error
        if version != VERSION:
            raise ArtifactError(f"{path}: made for version {version}, this program reads {VERSION}")
        count = len(stage.labels)
        if stage.table.dtype != np.int8 or stage.table.shape != (ROWS, count) or len(stage.bias) != count or count < 2:
            raise ArtifactError(f"{path}: table {stage.table.shape}, {len(stage.bias)} biases, {count} labels")
        if not all(map(math.isfinite, (stage.step, stage.threshold, *stage.bias))):
            raise ArtifactError(f"{path}: holds values that are not finite")
        return stage


def slots(text: str) -> Slots:
    """What the model reads of a text. The one definition that serving and fitting share."""
    words, asks = _pieces(text)
    hashes = [crc32(word) for word in words]
    pair = _SALTS["pair"]
    bag = {word >> _SHIFT for word in hashes}
    bag.update([((a * _MIX + b ^ pair) & _MASK) >> _SHIFT for a, b in pairwise(hashes)])
    size = int(2 * math.log2(len(hashes) + 1))
    shape = [
        _slot("characters", int(1.5 * math.log2(len(text) + 1))),
        _slot("pieces", size),
        _slot("question", 2 * size + asks),
    ]
    size >>= 1
    first, last = hashes[0], hashes[-1]
    shape += [
        _slot("first", first),
        _slot("first of", first + size),
        _slot("last", last),
        _slot("last of", last + size),
    ]
    start = first
    for word in hashes[1:4]:
        start = (start * _MIX + word) & _MASK
        shape.append(_slot("start", start))
    if len(hashes) > 1:
        shape += [
            _slot("two of", ((first * _MIX + hashes[1]) & _MASK) + size),
            _slot("two", hashes[-2] * 31 + last),
        ]
    return Slots(list(bag), shape)


def _slot(kind: str, value: int) -> int:
    return (((value ^ _SALTS[kind]) * _MIX) & _MASK) >> _SHIFT


def _pieces(text: str) -> tuple[list[bytes], bool]:
    """The pieces of the text (never none), numbers alike, no greeting, no closing courtesy; whether it ends in "?"."""
    low = clip(text, CHAR_LIMIT).lower()
    asks = low.endswith(("?", "？"))
    greeting = _GREETING.match(low)
    start = greeting.end() if greeting else 0
    tail = max(start, len(low) - _ENDING_CHARS)
    ending = _ENDING.search(low, tail)
    asks_for = low[start : ending.start() if ending else len(low)] or low
    words: list[bytes] = _PIECE.findall(asks_for.encode("utf-8", "replace"))
    return [b"0" if b"0" <= word <= b"9\xff" else word for word in words] or [b""], asks
