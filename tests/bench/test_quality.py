"""The quality figures on a tiny file, by a judge that reads the tier out of the prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from bench.processes import BenchError
from bench.quality import edits
from bench.quality.assess import assess, reliability
from bench.quality.command import show
from bench.quality.data import guess_language, read
from bench.quality.judges import Verdict

LABELS = ("simple", "medium", "complex", "reasoning")


class Reader:
    """Answers the first tier named in a text, else `medium`; sure of itself unless the text says `hm`."""

    labels: tuple[str, ...] = LABELS
    name = "a reader"

    def classify(self, texts: Sequence[str], what: str) -> list[Verdict]:
        return [self._verdict(text) for text in texts]

    def leaning(self, texts: Sequence[str], verdicts: Sequence[Verdict], bias: float) -> list[str]:
        return [LABELS[0] if bias < 0 else LABELS[-1] if bias > 0 else each.tier for each in verdicts]

    def _verdict(self, text: str) -> Verdict:
        tier = next((label for label in LABELS if label in text), "medium")
        sure = 0.55 if "hm" in text else 0.97
        scores = {label: sure if label == tier else (1 - sure) / 3 for label in LABELS}
        return Verdict(tier, sure, scores, sure < 0.6)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows) + b"\n\n")
    return path


ROWS = [
    {"text": "simple", "tier": "simple", "source": "a"},
    {"text": "medium words", "tier": "medium", "source": "a"},
    {"text": "complex", "tier": "complex", "source": "b", "lang": "xx"},
    {"text": "simple hm", "tier": "reasoning", "source": "b"},
]


def test_figures(tmp_path: Path) -> None:
    quality = assess(read(write(tmp_path / "rows.jsonl", ROWS)), Reader())
    score = quality.score
    assert score.accuracy == 0.75
    assert score.under_routing == 0.5
    assert score.confusion[3] == (1, 0, 0, 0)
    assert [(each.name, each.accuracy) for each in quality.sources] == [("a", 1.0), ("b", 0.5)]
    assert {each.name: each.samples for each in quality.languages} == {"en": 3, "xx": 1}
    assert {each.name: each.accuracy for each in quality.flags} == {"not flagged": 1.0, "flagged": 0.0}
    assert quality.kept["lower case"] == 1.0
    assert quality.kept["typo"] < 1.0  # the reader misses a name with a typo in it
    assert quality.flips == pytest.approx(1 - sum(quality.kept.values()) / 5)
    assert len(quality.knob) == 7
    assert quality.knob[0].shares == (1.0, 0, 0, 0)
    assert quality.knob[3].accuracy == 0.75
    assert quality.as_dict()["by_source"]["b"] == {"samples": 2, "accuracy": 0.5}
    assert "0.750" in show(quality, "title")


def test_without_the_knob(tmp_path: Path) -> None:
    quality = assess(read(write(tmp_path / "rows.jsonl", ROWS)), Reader(), knob=False)
    assert quality.knob == []
    assert "ROUTING_BIAS" not in show(quality, "title")


def test_reliability_leaves_empty_bins_out() -> None:
    verdicts = [Verdict("simple", confidence, {}, False) for confidence in (0.55, 0.58, 1.0)]
    low, high = reliability(verdicts, [True, False, True])
    assert (low.samples, low.accuracy) == (2, 0.5)
    assert low.confidence == pytest.approx(0.565)
    assert (high.samples, high.accuracy) == (1, 1.0)


def test_edits_are_small_and_repeatable() -> None:
    text = "Write a Poem about the sea."
    lower, punctuation, greeting, please, typo = edits.edited(text, random.Random(edits.SEED))
    assert lower == text.lower()
    assert punctuation.startswith("Write a Poem about the sea")
    assert greeting == f"Hi! {text}"
    assert please == f"{text} please"
    assert typo != text
    assert sorted(typo) == sorted(text)
    assert edits.edited(text, random.Random(edits.SEED))[4] == typo
    assert edits.edited("1 + 1", random.Random(1))[4] == "1 + 1"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("Wie schreibe ich eine Funktion für den Import?", "de"),
        ("¿Cuál es la capital de Francia y por qué?", "es"),
        ("Écris une lettre pour mon voisin avec les détails", "fr"),
        ("写一首关于春天的诗", "zh"),
        ("春についての詩を書いてください", "ja"),
        ("Напиши функцию на Python, которая сортирует список", "cyrillic"),
        ("서울의 날씨는 어때요?", "ko"),
        ("2 + 2", "en"),
        ("def f(x): return x", "en"),
    ],
)
def test_language_guess(text: str, language: str) -> None:
    assert guess_language(text) == language


@pytest.mark.parametrize("line", ["not json", "[]", '{"text": "x"}', '{"text": 1, "tier": "simple"}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "tier": "simple"}\n' + line + "\n")
    with pytest.raises(BenchError, match="line 2"):
        read(path)
