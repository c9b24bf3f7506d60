"""Inventory of the models on this host, in MODELS_DIR or the Hub's cache: sizes, verification and removal.

The Hub's cache names each file by the hash that the Hub published. For models in MODELS_DIR, checksums are recorded in
a file beside them, in the format of `sha256sum`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks_app.engine import model_files

LOCAL_REVISION = "local"
CHECKSUMS_FILE = "SHA256SUMS"
_HUB_PREFIX = "models--"
# The Hub's cache names the blobs of large files by sha256, all others by git's blob hash.
_SHA256_DIGITS = 64


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """One revision of a model on this disk; for a single weights file, `path` is that file."""

    model_id: str
    revision: str
    path: Path

    @property
    def files(self) -> list[Path]:
        """Return all files of the model; those in the Hub's cache are links whose targets may be missing."""
        if self.path.is_file():
            return [self.path]
        return sorted(path for path in self.path.rglob("*") if not path.is_dir() and path.name != CHECKSUMS_FILE)

    @property
    def size(self) -> int:
        """Return the total size in bytes; revisions of one model share files."""
        return sum(path.stat().st_size for path in self.files if path.exists())


def list_local_models(models_dir: Path, hub_cache: Path) -> list[LocalModel]:
    """Return all models on this host, sorted by name and revision."""
    found = [*_iter_models_dir(models_dir), *_iter_hub_cache(hub_cache)]
    return sorted(found, key=lambda model: (model.model_id, model.revision))


def _iter_models_dir(models_dir: Path) -> Iterator[LocalModel]:
    for name in model_files.get_model_names(models_dir):
        folder = model_files.is_pipeline_folder(models_dir, name)
        path = models_dir / name if folder else model_files.find_weights_path(models_dir, name)
        assert path is not None, "it has a name"
        yield LocalModel(model_id=name, revision=LOCAL_REVISION, path=path)


def _iter_hub_cache(hub_cache: Path) -> Iterator[LocalModel]:
    for snapshot in hub_cache.glob(f"{_HUB_PREFIX}*/snapshots/*"):
        model_id = snapshot.parent.parent.name.removeprefix(_HUB_PREFIX).replace("--", "/")
        yield LocalModel(model_id=model_id, revision=snapshot.name, path=snapshot)


def write_checksums(model: LocalModel) -> None:
    """Record the checksums of a local model's files."""
    lines = [f"{_hash_file(path)}  {name}\n" for name, path in _map_names_to_files(model).items()]
    _get_checksums_path(model).write_text("".join(lines), encoding="utf-8")


def find_file_errors(model: LocalModel) -> dict[str, str] | None:
    """Return the error of each wrong file by its name.

    Return None for a local model without recorded checksums.
    """
    if model.revision != LOCAL_REVISION:
        return {name: why for name, path in _map_names_to_files(model).items() if (why := _find_blob_error(path))}
    if not _get_checksums_path(model).is_file():
        return None
    files = _map_names_to_files(model)
    known = {
        name: sum_
        for sum_, _, name in (line.partition("  ") for line in _get_checksums_path(model).read_text().splitlines())
    }
    found = dict.fromkeys(known.keys() - files.keys(), "is missing")
    found |= dict.fromkeys(files.keys() - known.keys(), "has no recorded checksum")
    found |= {name: "has changed" for name in known.keys() & files.keys() if _hash_file(files[name]) != known[name]}
    return dict(sorted(found.items()))


def remove_model(model: LocalModel) -> None:
    """Delete a local model with its sidecar files, or all revisions of a model in the Hub's cache."""
    if model.revision != LOCAL_REVISION:
        shutil.rmtree(model.path.parent.parent)
    elif model.path.is_symlink():
        model.path.unlink()
    elif model.path.is_dir():
        shutil.rmtree(model.path)
    else:
        for path in (model.path, model.path.with_suffix(".json"), _get_checksums_path(model)):
            path.unlink(missing_ok=True)


def _map_names_to_files(model: LocalModel) -> dict[str, Path]:
    folder = model.path.parent if model.path.is_file() else model.path
    return {path.relative_to(folder).as_posix(): path for path in model.files}


def _get_checksums_path(model: LocalModel) -> Path:
    return model.path.with_suffix(".sha256") if model.path.is_file() else model.path / CHECKSUMS_FILE


def _find_blob_error(path: Path) -> str:
    if not path.exists():
        return "is missing"
    expected = path.resolve().name
    found = _hash_file(path) if len(expected) == _SHA256_DIGITS else _hash_git_blob(path)
    return "" if found == expected else "has changed"


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_git_blob(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()
