"""`python -m export --check`: is `models/` what its manifest says? Needs only what the router needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from router.artifacts import read_manifest
from router.classifier import Classifier
from router.head import Head


def check(models_dir: Path) -> Iterator[str]:
    """Lines for a person; ArtifactError at the first thing that is wrong."""
    manifest = read_manifest(models_dir)
    for role in manifest.section("files"):
        path = manifest.verified(role)
        yield f"{role:13} {path.name}  {path.stat().st_size / 1e6:.2f} MB  sha256 {manifest.digest(role)[:16]}…  ok"
    encoder, head = manifest.section("encoder"), manifest.section("head")
    yield f"source        {encoder['source']['name']}"
    yield f"token limit   {encoder['token_limit']}"
    yield f"parity        cosine to fp32 {encoder['parity']['cosine_mean']} ({encoder['quantisation']})"
    yield f"labels        {', '.join(Head.from_file(manifest.path('head')).labels)}"
    for name, figures in head["scores"].items():
        if isinstance(figures, dict):
            accuracy, macro_f1, ece = figures["accuracy"], figures["macro_f1"], figures["ece"]
            yield f"score         {name}: accuracy {accuracy}, macro-F1 {macro_f1}, ECE {ece}"
    yield "versions      " + ", ".join(f"{name} {version}" for name, version in manifest.section("versions").items())
    classifier = Classifier.load(models_dir, tiers=head["labels"])
    yield f"loads         “Hello” → {classifier.classify('Hello').tier}"
