"""`python -m export`: build `models/` anew, or check what is there."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.check import check
from export.finetune import RECORD, finetune
from export.steps import ExportError, step
from router.artifacts import ArtifactError, Manifest, NewFile, default_models_dir, publish, read_manifest
from router.encoder import Encoder

TOKEN_LIMIT = 128
# Every package whose version can change the result.
PACKAGES = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "tokenizers", "numpy")
PARITY_TEXTS = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 1 with `models/` as it was."""
    options = _parser().parse_args(arguments)
    try:
        if options.check:
            for line in check(options.out):
                print(line)
        elif options.embedder:
            _add_embedder(options)
        elif options.head_only:
            _refit_head(options)
        else:
            _export(options)
    except (ExportError, ArtifactError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed; pip install '.[export]'", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m export", description=__doc__)
    parser.add_argument("--source", help="local folder in transformers form, or hub id; default: all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=default_models_dir(), help="default: models/, which is replaced")
    parser.add_argument(
        "--extra", type=Path, action="append", default=[], help="labelled JSONL to fit on as well; may be repeated"
    )
    parser.add_argument(
        "--measure", type=Path, action="append", default=[], help="labelled JSONL to measure on only; may be repeated"
    )
    parser.add_argument(
        "--token-limit", type=int, default=TOKEN_LIMIT, help=f"tokens a prompt is clipped to; default: {TOKEN_LIMIT}"
    )
    parser.add_argument("--full-range", action="store_true", help="8-bit weights: only for processors with VNNI")
    parser.add_argument(
        "--nets",
        type=Path,
        default=Path("nets"),
        help="where --finetune keeps every finished net, 100 MB each, and looks for them first; default: nets/",
    )
    parser.add_argument(
        "--processes",
        type=_count,
        default=2,
        help="nets that --finetune trains at once, a core and 6 GB each; default: 2",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="verify the artefacts against their manifest; no torch")
    mode.add_argument("--head-only", action="store_true", help="refit the head on the present encoder; no torch")
    mode.add_argument("--embedder", action="store_true", help="add the original encoder, for /v1/embeddings")
    mode.add_argument("--finetune", action="store_true", help="train the encoder on the examples first")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _export(options: argparse.Namespace) -> None:
    from export import source as sources

    with step("weights") as current:
        found = sources.resolve(options.source)
        current.outcome = found.name
    with tempfile.TemporaryDirectory(prefix="virtusoul-export-") as scratch:
        work = Path(scratch)
        if options.finetune:
            tuned = finetune(
                found.folder,
                work / "finetuned",
                extra=options.extra,
                token_limit=options.token_limit,
                nets=options.nets,
                processes=options.processes,
            )
            found = sources.Source(tuned, f"{found.name}, fine-tuned", sources.weights_digest(tuned))
        encoder, files, section = _build_encoder(options, found.folder, work)
        section["source"] = {"name": found.name, "sha256": found.sha256}
        if (record := found.folder / RECORD).is_file():
            section["finetuned"] = json.loads(record.read_text())
        _fit_and_publish(options, encoder, files, section)


def _add_embedder(options: argparse.Namespace) -> None:
    """The unmodified encoder beside the present artefacts: what `/v1/embeddings` serves as all-MiniLM-L6-v2."""
    from export import source as sources

    with step("weights") as current:
        found = sources.resolve(options.source)
        current.outcome = found.name
    if (found.folder / RECORD).is_file():
        raise ExportError(f"{found.name} is fine-tuned; its vectors would not be the original's")
    with tempfile.TemporaryDirectory(prefix="virtusoul-export-") as scratch:
        _, files, section = _build_encoder(options, found.folder, Path(scratch))
    section["source"] = {"name": found.name, "sha256": found.sha256}
    with step("publish") as current:
        spelling = NewFile(files["tokenizer"].content, ".json", name="embedder-tokenizer.json")
        publish(options.out, {"embedder": files["encoder"], "embedder_tokenizer": spelling}, {"embedder": section})
        current.outcome = str(options.out)


def _build_encoder(
    options: argparse.Namespace, source: Path, work: Path
) -> tuple[Encoder, dict[str, NewFile], dict[str, Any]]:
    """Graph, quantisation and parity: the encoder, its files and the manifest's section."""
    from export import graph, parity
    from router.examples import BUILT_IN, read_examples

    with step("ONNX export (optimum)"):
        plain = graph.export_onnx(source, work)
    with step("graph fusion") as current:
        counts = graph.fuse(plain, source / "config.json", work / "fused.onnx")
        graph.make_lean(work / "fused.onnx", work / "exact.onnx", int8_words=False)
        graph.make_lean(work / "fused.onnx", work / "lean.onnx")
        current.outcome = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()) if kind != "Cast")
    with step("int8 quantisation") as current:
        graph.quantise(work / "lean.onnx", work / "int8.onnx", reduce_range=not options.full_range)
        graph.optimise(work / "int8.onnx", work / "optimised.onnx")
        content = (work / "optimised.onnx").read_bytes()
        current.outcome = f"{len(content) / 1e6:.1f} MB"
    with step("parity") as current:
        encoder = Encoder.load(work / "optimised.onnx", source / "tokenizer.json", options.token_limit)
        rows, _ = read_examples(BUILT_IN)
        texts = [row.text for row in rows[:: max(1, len(rows) // PARITY_TEXTS)]]
        figures = parity.compare(work / "exact.onnx", encoder, texts)
        figures["fp32_to_torch"] = parity.compare_with_torch(source, work / "exact.onnx", encoder, texts[:20])
        current.outcome = f"cosine to fp32 {figures['cosine_mean']:.4f}"
    files = {
        "encoder": NewFile(content, ".onnx"),
        "tokenizer": NewFile((source / "tokenizer.json").read_bytes(), ".json", name="tokenizer.json"),
    }
    quantisation = "int8 dynamic, per channel, " + ("full range" if options.full_range else "reduced range")
    section = {
        "token_limit": options.token_limit,
        "dimension": encoder.dimension,
        "quantisation": quantisation,
        "parity": figures,
    }
    return encoder, files, section


def _refit_head(options: argparse.Namespace) -> None:
    with step("present encoder") as current:
        manifest = read_manifest(options.out)
        section = dict(manifest.section("encoder"))
        encoder = Encoder.load(manifest.verified("encoder"), manifest.verified("tokenizer"), section["token_limit"])
        current.outcome = manifest.digest("encoder")[:12]
    _fit_and_publish(options, encoder, {}, section, manifest)


def _fit_and_publish(
    options: argparse.Namespace,
    encoder: Encoder,
    files: dict[str, NewFile],
    encoder_section: dict[str, Any],
    manifest: Manifest | None = None,
) -> None:
    import hashlib

    from export.headfit import fit_shipped

    modulus = encoder_section.get("finetuned", {}).get("held_out_modulus", 0)
    fitted = fit_shipped(encoder, options.extra, options.measure, modulus)
    digest = hashlib.sha256(files["encoder"].content).hexdigest() if manifest is None else manifest.digest("encoder")
    encoder_section["embeddings_of"] = digest
    sections: dict[str, Any] = {"encoder": encoder_section, "head": fitted.section}
    if manifest is None:
        sections["versions"] = _versions()
    with step("publish") as current:
        files = {**files, "head": NewFile(fitted.head.to_bytes(), ".npz"), "embeddings": fitted.embeddings}
        publish(options.out, files, sections, same_as={"shipped_head": "head"})
        current.outcome = str(options.out)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


if __name__ == "__main__":
    sys.exit(main())
