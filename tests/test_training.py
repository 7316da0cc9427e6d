"""`router.training`: nothing new changes nothing, a correction is learnt, bad lines are named, bad data is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from router.artifacts import ArtifactError, NewFile, default_models_dir, publish
from router.classifier import Classifier
from router.examples import BUILT_IN, Example, latest, read_examples
from router.training import RetrainRefused, retrain

TIERS = ("simple", "medium", "complex", "reasoning")
PROBES = 150


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,700 built-in examples: enough curvature for the mechanism, a tenth of the time.

    What a number of new ones can move is a matter of their share, so the number stays when the built-in ones grow.
    """
    path = tmp_path_factory.mktemp("examples") / "examples.jsonl"
    lines = BUILT_IN.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:: len(lines) // 2700]), encoding="utf-8")
    return path


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Classifier]:
    """Classifiers on a copy of the shipped folder (the encoder linked where the file system allows)."""
    folder = tmp_path / "models"
    folder.mkdir()
    for path in default_models_dir().iterdir():
        linked = path.suffix == ".onnx" and path.stat().st_dev == folder.stat().st_dev
        (os.link if linked else shutil.copy)(path, folder / path.name)
    return lambda tiers=TIERS: Classifier.load(folder, tiers=tiers)


def probes(built_in: Path) -> list[str]:
    return [row.text for row in read_examples(built_in)[0][:PROBES]]


def misrouted(classifier: Classifier, text: str) -> Example:
    """A correction of what the classifier thinks of `text`: the second choice is the right one."""
    scores = classifier.classify(text).scores
    return Example(text, sorted(scores, key=lambda tier: scores[tier])[-2])


def test_nothing_new_changes_nothing(load: Callable[..., Classifier], built_in: Path) -> None:
    classifier = load()
    texts = probes(built_in)
    before = [found.scores for found in classifier.classify_batch(texts)]
    report = retrain(classifier, built_in=built_in)
    assert report.success
    assert (report.new_samples, report.kept) == (0, 1.0)
    assert [found.scores for found in classifier.classify_batch(texts)] == before
    assert report.head == classifier.versions[1]


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(
    load: Callable[..., Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = load()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK | os.X_OK)  # tests may run as root
    monkeypatch.setattr("router.training.read_examples", lambda path: pytest.fail("the work had begun"))
    with pytest.raises(ArtifactError, match="cannot be written to"):
        retrain(classifier)


def test_the_report_has_what_the_interface_names(load: Callable[..., Classifier], built_in: Path) -> None:
    body = retrain(load(), built_in=built_in).as_dict()
    assert {"success", "total_samples", "cv_accuracy", "per_tier", "duration_s"} <= body.keys()
    assert set(body["per_tier"]) == set(TIERS)
    assert sum(map(sum, body["confusion"])) == body["total_samples"]
    assert 0.5 < body["cv_accuracy"] <= 1
    json.dumps(body, allow_nan=False)


@pytest.mark.parametrize("text", ["Explain DNS", "What is 2+2?", "Tell me about the office plants", "plan my week"])
def test_one_correction_is_learnt_and_little_else_moves(
    load: Callable[..., Classifier], built_in: Path, text: str
) -> None:
    classifier = load()
    texts = probes(built_in)
    before = [found.tier for found in classifier.classify_batch(texts)]
    correction = misrouted(classifier, text)
    report = retrain(classifier, extra=[correction], built_in=built_in)
    assert classifier.classify(text).tier == correction.tier
    assert (report.new_samples, report.new_right) == (1, 1)
    after = [found.tier for found in classifier.classify_batch(texts)]
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 0.04 * PROBES
    fresh = load()
    assert fresh.classify(text).tier == correction.tier, "what was published is what was swapped in"


def test_repeating_a_retrain_repeats_its_result(load: Callable[..., Classifier], built_in: Path) -> None:
    classifier = load()
    extra = [misrouted(classifier, "Explain DNS")]
    first = retrain(classifier, extra=extra, built_in=built_in)
    assert retrain(classifier, extra=extra, built_in=built_in).head == first.head
    shipped = load().loaded.manifest.digest("shipped_head")[:12]
    assert retrain(classifier, built_in=built_in).head == shipped, "without its examples a correction is gone"


def test_the_last_word_on_a_text_counts(load: Callable[..., Classifier], built_in: Path, tmp_path: Path) -> None:
    classifier = load()
    stored = tmp_path / "mine.jsonl"
    rows = [("Explain DNS", "reasoning"), ("Explain DNS ", "simple")]
    stored.write_text("".join(json.dumps({"text": text, "tier": tier}) + "\n" for text, tier in rows))
    report = retrain(classifier, training_data=stored, built_in=built_in)
    assert report.new_samples == 1
    assert classifier.classify("Explain DNS").tier == "simple"
    retrain(classifier, training_data=stored, extra=[Example("Explain DNS", "complex")], built_in=built_in)
    assert classifier.classify("Explain DNS").tier == "complex"


def test_a_new_tier_is_learnt(load: Callable[..., Classifier], built_in: Path) -> None:
    classifier = load((*TIERS, "legal"))
    texts = probes(built_in)
    before = [found.tier for found in classifier.classify_batch(texts)]
    extra = [
        Example("Check this clause for liability", "legal"),
        Example("Review my NDA for unusual terms", "legal"),
        Example("is this non-compete enforceable", "legal"),
        Example("Does the indemnity clause cover third parties?", "legal"),
    ]
    report = retrain(classifier, extra=extra, built_in=built_in)
    assert report.new_right == 4
    assert classifier.labels == (*TIERS, "legal")
    assert classifier.classify("Review this NDA for odd clauses").tier == "legal"
    after = [found.tier for found in classifier.classify_batch(texts)]
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 0.04 * PROBES
    assert "legal" not in load(TIERS).labels, "where TIERS does not list it, it is never predicted"


def test_unknown_tiers_and_bad_lines_are_named_not_fatal(
    load: Callable[..., Classifier], built_in: Path, tmp_path: Path
) -> None:
    stored = tmp_path / "mine.jsonl"
    stored.write_bytes(
        b'{"text": "fine", "tier": "simple"}\n{"text": "cut\n\n\xff\xfe\n{"text": "x", "tier": "nonsense"}\n[1]\n'
    )
    report = retrain(load(), training_data=stored, built_in=built_in)
    assert report.new_samples == 1
    assert [problem.split(":")[0] for problem in report.problems] == [
        f"mine.jsonl, line {number}" for number in (2, 4, 5, 6)
    ]
    assert report.problems[2].endswith("unknown tier 'nonsense'")


def test_a_prompt_in_the_place_of_the_tier_is_not_published(
    load: Callable[..., Classifier], built_in: Path, tmp_path: Path
) -> None:
    """The manifest may be read by everyone on the host; the examples may not."""
    classifier = load()
    stored = tmp_path / "mine.jsonl"
    slip = json.dumps({"text": "simple", "tier": "secret " * 40}) + "\n"
    stored.write_text('{"text": "fine", "tier": "simple"}\n' + slip * 500)
    report = retrain(classifier, training_data=stored, built_in=built_in)
    assert len(report.problems) == 101 and report.problems[-1] == "and 400 more"
    assert max(map(len, report.problems)) < 100
    manifest = (classifier.models_dir / "manifest.json").read_text()
    assert "secret" not in manifest and '"new_samples": 1' in manifest


def test_an_example_is_learnt_as_it_is_served(load: Callable[..., Classifier], built_in: Path, tmp_path: Path) -> None:
    """A prompt out of a log comes with what an agent's harness wrote around it."""
    classifier = load()
    corrections = [misrouted(classifier, text) for text in ("Explain DNS", "plan my week")]
    around = "<system-reminder>\nThe todo list is empty. Design nothing.\n</system-reminder>\n"
    stored = tmp_path / "mine.jsonl"
    rows = [(around + corrections[0].text, corrections[0].tier), (around, "complex")]
    stored.write_text("".join(json.dumps({"text": text, "tier": tier}) + "\n" for text, tier in rows))
    extra = [Example(around + corrections[1].text, corrections[1].tier)]
    report = retrain(classifier, extra=extra, training_data=stored, built_in=built_in)
    assert (report.new_samples, report.new_right) == (2, 2)
    assert report.problems == ("examples in which nothing is a person's own: 1",)
    for correction in corrections:
        assert classifier.classify(correction.text).tier == correction.tier


def test_clearly_worse_is_refused(load: Callable[..., Classifier], built_in: Path) -> None:
    """A stranger's joke: hundreds of ordinary prompts, all labelled against the rubric."""
    classifier = load()
    turned = dict(zip(TIERS, reversed(TIERS), strict=True))
    extra = [Example(row.text + " ", turned[row.tier]) for row in read_examples(BUILT_IN)[0][1:1600:8]]
    before = classifier.versions
    with pytest.raises(RetrainRefused) as caught:
        retrain(classifier, extra=extra, built_in=built_in)
    report = caught.value.report
    assert not report.success
    assert report.kept < 0.97
    assert report.as_dict()["cv_accuracy"] < 0.9
    assert classifier.versions == before
    assert not classifier.reload_if_changed()


def test_a_folder_that_cannot_be_written_changes_nothing(
    load: Callable[..., Classifier], built_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = load()
    before = classifier.versions

    def refused(*_: object, **__: object) -> tuple[int, str]:
        raise PermissionError(13, "Permission denied", "models")

    monkeypatch.setattr("router.artifacts.tempfile.mkstemp", refused)
    with pytest.raises(ArtifactError, match="Permission denied"):
        retrain(classifier, extra=[misrouted(classifier, "Explain DNS")], built_in=built_in)
    assert classifier.versions == before


def test_another_publisher_in_the_meantime_wins(
    load: Callable[..., Classifier], built_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = load()
    import router.training

    inner = router.training._out_of_fold

    def slow(*arguments: object) -> object:
        publish(classifier.models_dir, {"head": NewFile(classifier.loaded.head.to_bytes(), ".npz")}, {"note": {}})
        return inner(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(router.training, "_out_of_fold", slow)
    with pytest.raises(ArtifactError, match="another process"):
        retrain(classifier, extra=[misrouted(classifier, "Explain DNS")], built_in=built_in)


def test_built_in_examples_are_clean_and_cover_every_tier() -> None:
    examples, problems = read_examples(BUILT_IN)
    assert problems == []
    assert len(latest(examples)) == len(examples)
    assert {row.tier for row in examples} == set(TIERS)
    assert all(row.lang for row in examples)
