"""`router.encoder`, `router.features`, `router.embeddings`: shapes, clips, bounded time, independence of neighbours."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from router import embeddings, features
from router.artifacts import ArtifactError, NewFile, default_models_dir, publish, read_manifest
from router.classifier import head_input
from router.encoder import Encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    manifest = read_manifest(default_models_dir())
    limit = manifest.section("encoder")["token_limit"]
    return Encoder.load(manifest.path("encoder"), manifest.path("tokenizer"), limit)


def test_vectors_are_unit_and_alike_for_like_texts(encoder: Encoder) -> None:
    texts = ["How do I bake bread?", "What is the way to bake a loaf of bread?", "Prove that 7 is prime"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (3, encoder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_a_vector_does_not_depend_on_its_neighbours(encoder: Encoder) -> None:
    texts = ["short", "a text of quite another length, " * 9, "short"]
    together = encoder.encode(texts)
    assert np.array_equal(together[0], together[2])
    assert np.array_equal(together[1], encoder.encode([texts[1]])[0])


def test_a_long_text_keeps_both_ends(encoder: Encoder) -> None:
    ids = encoder.token_ids("zebra " + "word " * 3000 + "walrus")
    assert len(ids) == encoder.token_limit
    bare = encoder.token_ids("zebra walrus")
    assert ids[:2] == bare[:2]
    assert ids[-2:] == bare[-2:]


@pytest.mark.parametrize(
    "text",
    [
        "\x00",
        "\ud800 alone",
        "\u202e reversed",
        "𝕊𝕥𝕪𝕝𝕖𝕕",
        "a" * 100_000,
        "你" * 100_000,
        " \n" * 5000 + "x",
        "[CLS] [SEP]",
    ],
    ids=["nul", "surrogate", "bidi", "styled", "one word", "dense", "blank", "specials"],
)
def test_odd_texts_give_a_vector(encoder: Encoder, text: str) -> None:
    found = head_input(encoder, text)
    assert found.shape == (encoder.dimension + features.COUNT,)
    assert np.isfinite(found).all()


def test_time_is_flat_beyond_the_limit(encoder: Encoder) -> None:
    """8,000 tokens cost what the limit costs: the clip comes before the tokenizer."""

    def fastest(text: str) -> float:
        times = []
        for _ in range(9):
            began = time.thread_time()
            head_input(encoder, text)
            times.append(time.thread_time() - began)
        return min(times)

    sentence = "The quick brown fox jumps over the lazy dog, as it does in every such text. "
    assert fastest(sentence * 450) < 1.5 * fastest(sentence * 20)


@pytest.mark.parametrize("text", ["(" * 50_000, "select " * 10_000, "$" * 50_000, "\n" * 50_000, "1." * 20_000])
def test_features_are_bounded_and_quick(text: str) -> None:
    began = time.thread_time()
    found = features.surface_features(text[:2000], len(text))
    assert time.thread_time() - began < 0.05
    assert found.shape == (features.COUNT,) == (len(features.NAMES),)
    assert (found >= 0).all()
    assert (found <= 1.2).all()


def test_features_ignore_case() -> None:
    text = "Write a SELECT … FROM users; then Import numpy"
    assert np.array_equal(features.surface_features(text, 99), features.surface_features(text.lower(), 99))


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    manifest = read_manifest(default_models_dir())
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match=r"broken\.onnx"):
        Encoder.load(broken, manifest.path("tokenizer"), 64)
    with pytest.raises(ArtifactError, match=r"broken\.onnx"):
        Encoder.load(manifest.path("encoder"), broken, 64)


def test_cached_embeddings_are_near_and_tied_to_their_encoder(tmp_path: Path, encoder: Encoder) -> None:
    texts = ["one text", "another one"]
    vectors = encoder.encode(texts)
    files = {
        "encoder": NewFile(b"an encoder", ".onnx"),
        "embeddings": NewFile(embeddings.to_bytes(texts, vectors), ".npz"),
    }
    first = publish(tmp_path, files, {})
    manifest = publish(tmp_path, {}, {"encoder": {"embeddings_of": first.digest("encoder")}})
    cache = embeddings.read(manifest)
    found = cache.get(" another one\n")
    assert found is not None
    assert float(found @ vectors[1]) == pytest.approx(1.0, abs=1e-3)
    assert cache.get("a third") is None
    later = publish(tmp_path, {"encoder": NewFile(b"another encoder", ".onnx")}, {})
    assert embeddings.read(later).get("one text") is None
