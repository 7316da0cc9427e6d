"""`router.artifacts`: what a reader sees while another process publishes, and what a damaged folder says."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from router.artifacts import (
    MANIFEST,
    ArtifactError,
    Manifest,
    NewFile,
    default_models_dir,
    fingerprint,
    load_consistent,
    publish,
    read_manifest,
)


def put(folder: Path, generation: int) -> Manifest:
    """Publish an encoder and a head that belong together."""
    content = f"generation {generation}".encode()
    files = {"encoder": NewFile(content, ".onnx"), "head": NewFile(content, ".npz")}
    return publish(folder, files, {"encoder": {"generation": generation}}, same_as={"shipped_head": "head"})


def contents(manifest: Manifest) -> set[bytes]:
    paths = [manifest.verified(role) for role in ("encoder", "head", "shipped_head")]
    try:
        return {path.read_bytes() for path in paths}
    except OSError as error:  # replaced between the check and the read, as the loaders report it too
        raise ArtifactError(str(error)) from error


def test_what_is_published_is_read_back(tmp_path: Path) -> None:
    put(tmp_path, 1)
    manifest = read_manifest(tmp_path)
    assert contents(manifest) == {b"generation 1"}
    assert manifest.section("encoder") == {"generation": 1}
    assert manifest.path("head") == manifest.path("shipped_head")
    assert not list(tmp_path.glob(".*")), "temporary files are left"


def test_publishing_one_role_keeps_the_others(tmp_path: Path) -> None:
    put(tmp_path, 1)
    publish(tmp_path, {"head": NewFile(b"mine", ".npz")}, {"head": {"by": "me"}})
    manifest = read_manifest(tmp_path)
    assert manifest.verified("head").read_bytes() == b"mine"
    assert manifest.verified("shipped_head").read_bytes() == b"generation 1"
    assert manifest.section("encoder") == {"generation": 1}


def test_files_that_nothing_names_any_more_go_and_strangers_stay(tmp_path: Path) -> None:
    (tmp_path / "NOTICE").write_text("stays")
    first = put(tmp_path, 1)
    put(tmp_path, 2)
    assert not first.path("encoder").exists()
    assert (tmp_path / "NOTICE").exists()
    assert len(list(tmp_path.glob("*.onnx"))) == 1


def test_what_a_killed_publisher_left_half_written_goes(tmp_path: Path) -> None:
    left = [tmp_path / name for name in (".head-0a1b2c3d.npz.x7_q2k9z", ".manifest.json.abcdefgh")]
    strangers = [tmp_path / name for name in (".gitkeep", ".head.npz", ".env.json.bak", "head-notes.npz.abcdefgh")]
    for path in (*left, *strangers):
        path.write_bytes(b"half")
    put(tmp_path, 1)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in strangers)


def test_the_fingerprint_changes_with_every_publish(tmp_path: Path) -> None:
    seen = {fingerprint(tmp_path)}
    for generation in range(3):
        put(tmp_path, generation)
        seen.add(fingerprint(tmp_path))
    assert len(seen) == 4


def test_a_publish_that_fails_leaves_the_old_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, 1)
    before = fingerprint(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("router.artifacts.os.fsync", full)
    with pytest.raises(ArtifactError, match="No space left"):
        put(tmp_path, 2)
    assert fingerprint(tmp_path) == before
    assert contents(read_manifest(tmp_path)) == {b"generation 1"}
    assert not list(tmp_path.glob(".*"))


def test_a_publish_on_an_outdated_view_is_refused(tmp_path: Path) -> None:
    put(tmp_path, 1)
    seen = fingerprint(tmp_path)
    put(tmp_path, 2)
    with pytest.raises(ArtifactError, match="another process"):
        publish(tmp_path, {"head": NewFile(b"late", ".npz")}, {}, expect=seen)
    assert contents(read_manifest(tmp_path)) == {b"generation 2"}


def test_readers_never_see_a_mixed_set(tmp_path: Path) -> None:
    """Readers that load without pause while a writer publishes see one generation at a time, and no error."""
    put(tmp_path, 0)
    done = threading.Event()
    mixed: list[object] = []

    def read() -> None:
        while not done.is_set():
            try:
                # As many tries as it takes here; a real reader meets one publish, not one per millisecond.
                found = load_consistent(tmp_path, contents, tries=1000)
            except ArtifactError as error:
                mixed.append(error)
                return
            if len(found) != 1:
                mixed.append(found)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for generation in range(1, 40):
        put(tmp_path, generation)
    done.set()
    for reader in readers:
        reader.join()
    assert not mixed


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder, path: path.unlink(), "No such file"),
        (lambda folder, path: path.write_bytes(b"generation 2"), "SHA-256"),
        (lambda folder, path: path.write_bytes(b"gen"), "3 bytes, the manifest says 12"),
    ],
    ids=["missing", "altered", "cut"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: object, says: str) -> None:
    path = put(tmp_path, 1).path("encoder")
    damage(tmp_path, path)  # type: ignore[operator]
    with pytest.raises(ArtifactError, match=says) as caught:
        load_consistent(tmp_path, contents)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no valid JSON"),
        ("[]", "format None"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1}', '"files" is missing'),
        ('{"format": 1, "files": {}}', 'names no file for "encoder"'),
        ('{"format": 1, "files": {"encoder": {"name": "../../etc/passwd", "sha256": "0"}}}', "malformed"),
        ('{"format": 1, "files": {"encoder": {"name": "a.onnx"}}}', "malformed"),
    ],
)
def test_a_broken_manifest_is_explained(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=says):
        load_consistent(tmp_path, contents)


def test_a_folder_without_a_manifest_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json: No such file"):
        read_manifest(tmp_path)
    assert fingerprint(tmp_path) == (0, 0, 0)


def test_the_shipped_folder_is_whole() -> None:
    manifest = read_manifest(default_models_dir())
    for role in manifest.section("files"):
        manifest.verified(role)
    files = {path.name for path in default_models_dir().iterdir()}
    named = {entry["name"] for entry in manifest.section("files").values()}
    assert files - named == {MANIFEST, "NOTICE", "LICENSE-MiniLM"}
    assert json.loads((default_models_dir() / MANIFEST).read_text())["format"] == 1
