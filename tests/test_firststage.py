"""The first stage: what it reads of a text, that it is bounded and deterministic, that a bad file is refused."""

from __future__ import annotations

import dataclasses
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import firststage as fitting
from export.firststage import Prompts, cascade, choose_threshold, fit_stage, misrouted
from router.artifacts import ArtifactError
from router.examples import Example
from router.firststage import CHAR_LIMIT, ROWS, FirstStage, slots

LABELS = ("simple", "medium", "complex", "reasoning")
OPENINGS = (
    "What is the capital of",
    "Write an essay about",
    "Design and build a whole system for",
    "Prove that for all",
)
SUBJECTS = ("France", "rivers", "trade", "numbers", "birds", "steel", "music", "bread", "ships", "chess")


def prompts(endings: tuple[str, ...]) -> Prompts:
    """Forty prompts per ending whose opening tells the tier; the full model knows them all."""
    rows = [
        Example(f"{opening} {subject}{ending}", LABELS[tier])
        for tier, opening in enumerate(OPENINGS)
        for subject in SUBJECTS
        for ending in endings
    ]
    targets = np.array([LABELS.index(row.tier) for row in rows], dtype=np.intp)
    teacher = np.full((len(rows), 4), 0.02)
    teacher[np.arange(len(rows)), targets] = 0.94
    return Prompts(rows, targets, teacher, np.zeros(len(rows), dtype=bool))


@pytest.fixture(scope="module")
def stage() -> FirstStage:
    return fit_stage(LABELS, prompts((" today", " in short")), prompts((" now",)))[0]


@pytest.mark.parametrize(("opening", "tier"), list(zip(OPENINGS, LABELS, strict=True)))
def test_answers_where_it_is_sure(stage: FirstStage, opening: str, tier: str) -> None:
    row = stage.classify(f"{opening} rivers tomorrow")
    assert row is not None
    assert sum(row) == pytest.approx(1)
    assert LABELS[row.index(max(row))] == tier


def test_says_nothing_where_it_is_not(stage: FirstStage) -> None:
    text = f"{OPENINGS[0]} rivers"
    sureness = max(stage.probabilities(text))
    assert dataclasses.replace(stage, threshold=sureness).classify(text) is not None
    assert dataclasses.replace(stage, threshold=sureness + 1e-9).classify(text) is None


@pytest.mark.parametrize(
    "text",
    ["", " ", "?", "hi", "Hello!", "please", "thanks!!", "\x00", "\ud800", "🎉", "写一首诗", "й", "…", "0" * 5000],
)
def test_any_text_has_probabilities(stage: FirstStage, text: str) -> None:
    row = stage.probabilities(text)
    assert sum(row) == pytest.approx(1)
    assert min(row) >= 0


@pytest.mark.parametrize(
    "text",
    [
        "write a poem about the sea", "Write a poem about the sea.", "Hi! Write a poem about the sea",
        "hello there, write a poem about the sea!!", "Write a poem about the sea please",
        "Write a poem about the sea\nThanks in advance!",
    ],
)  # fmt: skip
def test_courtesy_case_and_closing_marks_do_not_count(text: str) -> None:
    plain = slots("Write a poem about the sea")
    assert sorted(slots(text).bag) == sorted(plain.bag)


def test_numbers_are_alike_and_pairs_keep_their_order() -> None:
    assert sorted(slots("add 12 to 7").bag) == sorted(slots("add 93 to 5").bag)
    assert sorted(slots("dog bites man").bag) != sorted(slots("man bites dog").bag)


def test_scripts_without_spaces_are_read_by_character_and_pair() -> None:
    # Two characters and the one pair, as against one unbroken word.
    assert len(slots("中文").bag) == 3
    assert len(slots("привет").bag) == 1
    assert len(slots("việt").bag) == 1


def test_every_slot_is_a_row() -> None:
    found = slots("Explain, in 3 steps, why θ → 0 (see 图) matters?\n- one\n- two")
    assert all(0 <= slot < ROWS for slot in found.bag + found.shape)


@pytest.mark.parametrize(
    "text",
    [
        "word " * 50_000, "?!. " * 50_000, "x" + " ." * 50_000 + "x", "hi, " * 50_000, "please " * 50_000 + "x",
        "中" * 100_000, "\n" * 100_000 + "x", "Hi" + "!" * 100_000, "thanks" * 50_000 + "?x",
    ],
    ids=range(9),
)  # fmt: skip
def test_a_long_text_costs_no_more_than_its_clip(stage: FirstStage, text: str) -> None:
    found = slots(text)
    assert len(found.bag) <= 2 * (CHAR_LIMIT + 3)
    started = time.thread_time()
    for _ in range(5):
        stage.probabilities(text)
    assert (time.thread_time() - started) / 5 < 0.01  # measured: 0.1 to 0.4 ms


@pytest.mark.benchmark
def test_a_short_prompt_costs_microseconds(stage: FirstStage) -> None:
    text = "What would be a good name for a small bakery by the sea in Portugal?"
    times = []
    for _ in range(500):
        started = time.perf_counter()
        stage.classify(text)
        times.append(time.perf_counter() - started)
    assert sorted(times)[250] < 200e-6  # 30 µs on a quiet core; the bound leaves room for a busy one


def test_the_same_inputs_give_the_same_bytes(stage: FirstStage) -> None:
    again = fit_stage(LABELS, prompts((" today", " in short")), prompts((" now",)))[0]
    assert again.to_bytes() == stage.to_bytes()


def test_survives_its_file(stage: FirstStage, tmp_path: Path) -> None:
    path = tmp_path / "firststage.npz"
    path.write_bytes(stage.to_bytes())
    loaded = FirstStage.from_file(path)
    text = f"{OPENINGS[2]} steel"
    assert loaded.probabilities(text) == stage.probabilities(text)
    assert (loaded.labels, loaded.threshold) == (stage.labels, stage.threshold)
    assert len(path.read_bytes()) < 300_000


@pytest.mark.parametrize(
    "change",
    [
        {"version": np.array(0)},
        {"labels": np.array(["a", "b"])},
        {"table": np.zeros((5, 4), np.int8)},
        {"table": np.zeros((ROWS, 4), np.float32)},
        {"bias": np.array([0.0, np.nan, 0.0, 0.0])},
        {"step": np.array(np.inf)},
        {"threshold": None},
        {"labels": np.array(["simple", None], dtype=object)},
    ],
    ids=["version", "labels", "rows", "type", "bias", "step", "missing", "pickle"],
)
def test_a_file_that_does_not_fit_is_refused_by_name(stage: FirstStage, tmp_path: Path, change: dict[str, Any]) -> None:
    with np.load(io.BytesIO(stage.to_bytes())) as file:
        arrays = {name: file[name] for name in file.files}
    arrays |= change
    path = tmp_path / "damaged.npz"
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ArtifactError, match=r"damaged\.npz"):
        FirstStage.from_file(path)


def test_no_file_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short.npz").write_bytes(b"PK\x03\x04")
    for name in ("absent.npz", "short.npz"):
        with pytest.raises(ArtifactError, match=name):
            FirstStage.from_file(tmp_path / name)


def test_a_point_of_the_curve_counts_what_stops() -> None:
    asked = prompts((" now",))
    own = np.full((40, 4), 0.1)
    own[:, 0] = 0.7  # sure of "simple" whatever is asked: right for a quarter
    point = cascade(own, asked, 0.6)
    assert (point["stopped"], point["agreement"], point["accuracy"]) == (1.0, 0.25, 0.25)
    assert (point["change"], point["under_routing"]) == (-0.75, 1.0)
    nothing = cascade(own, asked, 0.8)
    assert (nothing["stopped"], nothing["accuracy"], nothing["change"]) == (0.0, 1.0, 0.0)


def test_the_threshold_leaves_room_for_chance() -> None:
    def point(threshold: float, change: float, error: float) -> dict[str, float]:
        return {"threshold": threshold, "change": change, "standard_error": error}

    curve = [point(0.5, 0.0, 0.001), point(0.6, -0.004, 0.004), point(0.7, -0.002, 0.002), point(0.8, 0.0, 0.001)]
    assert choose_threshold(curve) == 0.7  # 0.5 fits, but only by luck: 0.6 does not
    assert choose_threshold([point(0.5, -0.1, 0.0), point(0.9, -0.1, 0.0)]) == 0.9


def test_prompts_kept_from_the_encoder_choose_and_the_others_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command end to end, with a stand-in for the full model."""
    files = {"known": prompts((" today", " in short", " at length")), "asked": prompts((" now",))}
    for name in files:
        (tmp_path / f"{name}.jsonl").write_text("")

    class Reader:
        head = type("Head", (), {"labels": LABELS})

        def __init__(self, manifest: Any, cache: Path | None) -> None:
            pass

        def read(self, paths: list[Path]) -> Prompts:
            return files[paths[0].stem]

        def save(self) -> None:
            pass

    published: dict[str, Any] = {}

    class Manifest:
        def section(self, name: str) -> dict[str, Any]:
            return {"finetuned": {"held_out_modulus": 5}}

        def digest(self, role: str) -> str:
            return f"digest of {role}"

    monkeypatch.setattr(fitting, "_Reader", Reader)
    monkeypatch.setattr(fitting, "read_manifest", lambda folder: Manifest())
    monkeypatch.setattr(fitting, "BUILT_IN", tmp_path / "known.jsonl")
    points = tmp_path / "points.jsonl"
    points.write_text('{"text": "Prove that for all birds", "tier": "reasoning"}')
    monkeypatch.setattr(fitting, "FIXED_POINTS", points)
    monkeypatch.setattr(fitting, "publish", lambda folder, new, sections: published.update(sections))
    section = fitting.run(tmp_path, measure=[tmp_path / "asked.jsonl"])
    assert published == {"firststage": section}
    assert section["fitted_on"] + section["chosen_on"] == 120
    assert 0 < section["chosen_on"] < 60
    assert section["distilled_from"] == {"encoder": "digest of encoder", "head": "digest of head"}
    assert section["default"] is True
    assert fitting.run(tmp_path)["default"] is False  # never on without a measurement


def test_prompts_that_must_be_right_are_not_answered_wrongly() -> None:
    pinned = [Example("Prove that for all birds", "simple")]  # against thirty others that begin so
    known, asked = prompts((" today", " in short", " at length")), prompts((" now",))
    plain = fit_stage(LABELS, known, asked)[0]
    assert misrouted(plain, pinned).tolist() == [True]
    assert misrouted(fit_stage(LABELS, known, asked, pinned)[0], pinned).tolist() == [False]


def test_prompts_of_people_choose_alone_where_they_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dataclasses.replace(prompts((" today", " in short")), of_people=np.arange(80) >= 40)
    some = fitting._held_out(known, 3, asked=0)
    assert some[:40].any()
    assert some[40:].any()
    monkeypatch.setattr(fitting, "ENOUGH_TO_CALIBRATE", 5)
    alone = fitting._held_out(known, 3, asked=0)
    assert not alone[:40].any()
    assert (alone[40:] == some[40:]).all()
    assert not fitting._held_out(known, 0, asked=0).any()
