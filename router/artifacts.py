"""The folder `models/`: its manifest, digests, loading, and publishing that a reader never sees half done.

The manifest is the only file whose name is fixed in meaning: it is written last and names every other file with its
SHA-256. Files that a publish replaces (encoder, head, cached embeddings) carry the beginning of their digest in their
name, so the old and the new stand side by side until the manifest changes over. A reader that met the change half way
reads the manifest again and finds a whole set.

    manifest.json
      "format"     1
      "files"      role → {"name", "sha256", "bytes"}; roles: encoder, tokenizer, head, shipped_head, embeddings
      "encoder"    id, token_limit, dimension, source, quantisation, parity
      "head"       id, labels, feature_version, how it was fitted and what it scored
      "versions"   every package that took part in the export
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

FORMAT = 1
MANIFEST = "manifest.json"
# What a retrain or an export writes under a name of its own; nothing else in the folder is ever removed.
_VERSIONED = re.compile(r"^(encoder|head|embeddings|embedder|firststage)-[0-9a-f]{8}\.(onnx|npz)$")
# What `_write` was writing when its process was killed.
_LEFT_OVER = re.compile(r"^\.[\w][\w.+-]*\.(onnx|npz|json)\.[a-z0-9_]{8}$")
_PLAIN_NAME = re.compile(r"^[\w][\w.+-]*$")

T = TypeVar("T")


class ArtifactError(Exception):
    """A file in `models/` is missing, damaged or not what the manifest says. The message names the file."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as read: `data` is its JSON, `folder` where it stands."""

    folder: Path
    data: Mapping[str, Any]

    def section(self, name: str) -> Mapping[str, Any]:
        """The object under `name`; ArtifactError where there is none."""
        value = self.data.get(name)
        if not isinstance(value, dict):
            raise ArtifactError(f'{self.folder / MANIFEST}: "{name}" is missing or no object')
        return value

    def has(self, role: str) -> bool:
        """Whether the manifest names a file for `role`."""
        return role in self.section("files")

    def path(self, role: str) -> Path:
        """Where the file of `role` stands; ArtifactError where the manifest names none."""
        return self.folder / str(self._entry(role)["name"])

    def digest(self, role: str) -> str:
        """SHA-256 of the file of `role`, as the manifest has it (hex)."""
        return str(self._entry(role)["sha256"])

    def verified(self, role: str) -> Path:
        """The path of `role`, its size and SHA-256 checked against the manifest."""
        path, entry = self.path(role), self._entry(role)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror or error}") from error
        if size != entry.get("bytes"):
            raise ArtifactError(f"{path}: {size} bytes, the manifest says {entry.get('bytes')}")
        if digest != entry["sha256"]:
            raise ArtifactError(f"{path}: its SHA-256 is not the one in the manifest; the file is damaged")
        return path

    def _entry(self, role: str) -> Mapping[str, Any]:
        entry = self.section("files").get(role)
        if not isinstance(entry, dict):
            raise ArtifactError(f'{self.folder / MANIFEST}: names no file for "{role}"')
        name, digest = entry.get("name"), entry.get("sha256")
        # A name with a separator could point anywhere; a manifest may come from a mounted volume.
        if not isinstance(name, str) or not _PLAIN_NAME.match(name) or not isinstance(digest, str):
            raise ArtifactError(f'{self.folder / MANIFEST}: the entry of "{role}" is malformed')
        return entry


@dataclass(frozen=True, slots=True)
class NewFile:
    """Bytes to publish for a role. `name` None: named after the role, the digest and `suffix`."""

    content: bytes
    suffix: str
    name: str | None = None


def default_models_dir() -> Path:
    """The shipped artefacts: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def fingerprint(models_dir: Path) -> tuple[int, int, int]:
    """A value that changes when a manifest is published: one `stat`, so cheap enough to poll. Zeros: no manifest."""
    try:
        found = (models_dir / MANIFEST).stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def read_manifest(models_dir: Path) -> Manifest:
    """The manifest of `models_dir`; ArtifactError if it is missing, no JSON or of another format."""
    path = models_dir / MANIFEST
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ArtifactError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise ArtifactError(f"{path}: format {found!r}, this version reads {FORMAT}; run `python -m export`")
    return Manifest(models_dir, data)


def require_writable(models_dir: Path) -> None:
    """ArtifactError where a publish would fail for want of a right: to be asked before long work, not after it."""
    if not os.access(models_dir, os.W_OK | os.X_OK):
        raise ArtifactError(f"{models_dir}: cannot be written to; the new weights would have nowhere to go")


def load_consistent(models_dir: Path, load: Callable[[Manifest], T], tries: int = 3) -> T:
    """`load(manifest)`, again if it failed while another process was publishing; else its ArtifactError."""
    for attempt in range(tries):
        before = fingerprint(models_dir)
        try:
            return load(read_manifest(models_dir))
        except ArtifactError:
            if attempt == tries - 1 or fingerprint(models_dir) == before:
                raise
    raise AssertionError("unreachable")


def publish(
    models_dir: Path,
    files: Mapping[str, NewFile],
    sections: Mapping[str, Any],
    same_as: Mapping[str, str] | None = None,
    expect: tuple[int, int, int] | None = None,
) -> Manifest:
    """Write `files` (role → content), then a manifest with them and `sections`, atomically.

    Roles and sections not named stay as they are; `same_as` maps further roles to the role whose file they share.
    With `expect` (a fingerprint) nothing is published if the manifest has changed since. A crash or an error at any
    point leaves the old manifest and every file that it names. Raises ArtifactError.
    """
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with _locked(models_dir):
            if expect is not None and fingerprint(models_dir) != expect:
                raise ArtifactError(f"{models_dir / MANIFEST}: was replaced by another process meanwhile")
            return _publish_locked(models_dir, files, sections, same_as or {})
    except OSError as error:
        raise ArtifactError(f"{error.filename or models_dir}: {error.strerror or error}") from error


def _publish_locked(
    models_dir: Path, files: Mapping[str, NewFile], sections: Mapping[str, Any], same_as: Mapping[str, str]
) -> Manifest:
    try:
        old: dict[str, Any] = dict(read_manifest(models_dir).data)
    except ArtifactError:
        old = {}
    entries: dict[str, Any] = dict(old.get("files", {}))
    for role, new in files.items():
        digest = hashlib.sha256(new.content).hexdigest()
        name = new.name or f"{role}-{digest[:8]}{new.suffix}"
        _write(models_dir / name, new.content, digest)
        entries[role] = {"name": name, "sha256": digest, "bytes": len(new.content)}
    for role, other in same_as.items():
        entries[role] = entries[other]
    data = {**old, **sections, "format": FORMAT, "files": entries}
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    _write(models_dir / MANIFEST, text.encode(), None)
    _sweep(models_dir, keep={str(entry["name"]) for entry in entries.values()})
    return Manifest(models_dir, data)


def _sweep(models_dir: Path, keep: set[str]) -> None:
    """Remove versioned files that the manifest no longer names, and what a killed publisher left half written.

    A reader in between finds one gone, and looks again. Nobody else is writing: we hold the lock.
    """
    for path in models_dir.iterdir():
        unnamed = _VERSIONED.match(path.name) and path.name not in keep
        if unnamed or _LEFT_OVER.match(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def _write(path: Path, content: bytes, digest: str | None) -> None:
    if digest is not None and path.exists():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)  # mkstemp's 0600 would shut out a worker under another user
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)  # the rename itself is durable only once its folder is
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(models_dir: Path) -> Iterator[None]:
    """One publisher at a time, across processes. The lock is on the folder itself: no lock file is left behind."""
    handle = os.open(models_dir, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
