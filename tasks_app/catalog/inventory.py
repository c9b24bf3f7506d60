"""The models whose files lie on this host, in MODELS_DIR or the Hub's cache: how large, whether whole, and out again.

What a file must be is known: the Hub's cache names each by the hash that the Hub gave, and beside what people put into
MODELS_DIR stands what was recorded, as `sha256sum` writes it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks_app.engine import model_files

LOCAL = "local"
SUMS = "SHA256SUMS"
_HUB = "models--"
# The names of blobs: of large files sha256, of the others git's own of a blob.
_SHA256_DIGITS = 64


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One revision of a model on this disk; of a file of weights `path` is the file itself."""

    model_id: str
    revision: str
    path: Path

    @property
    def files(self) -> list[Path]:
        """All of its files, those of the Hub's cache as links to what may be missing."""
        if self.path.is_file():
            return [self.path]
        return sorted(path for path in self.path.rglob("*") if not path.is_dir() and path.name != SUMS)

    @property
    def size(self) -> int:
        """How many bytes they take; revisions of one model share files."""
        return sum(path.stat().st_size for path in self.files if path.exists())


def stored(models_dir: Path, hub_cache: Path) -> list[Stored]:
    """Return everything that is here, by name."""
    found = [*_local(models_dir), *_cached(hub_cache)]
    return sorted(found, key=lambda model: (model.model_id, model.revision))


def _local(models_dir: Path) -> Iterator[Stored]:
    for name in model_files.names(models_dir):
        folder = model_files.is_folder(models_dir, name)
        path = models_dir / name if folder else model_files.weights_path(models_dir, name)
        assert path is not None, "it has a name"
        yield Stored(model_id=name, revision=LOCAL, path=path)


def _cached(hub_cache: Path) -> Iterator[Stored]:
    for snapshot in hub_cache.glob(f"{_HUB}*/snapshots/*"):
        model_id = snapshot.parent.parent.name.removeprefix(_HUB).replace("--", "/")
        yield Stored(model_id=model_id, revision=snapshot.name, path=snapshot)


def record(model: Stored) -> None:
    """Write down what a local model's files are now."""
    lines = [f"{_sha256(path)}  {name}\n" for name, path in _named(model).items()]
    _sums(model).write_text("".join(lines), encoding="utf-8")


def wrong(model: Stored) -> dict[str, str] | None:
    """Return by file what is wrong with it; None of a local model of which nothing was recorded."""
    if model.revision != LOCAL:
        return {name: why for name, path in _named(model).items() if (why := _wrong_blob(path))}
    if not _sums(model).is_file():
        return None
    files = _named(model)
    known = {name: sum_ for sum_, _, name in (line.partition("  ") for line in _sums(model).read_text().splitlines())}
    found = dict.fromkeys(known.keys() - files.keys(), "is missing")
    found |= dict.fromkeys(files.keys() - known.keys(), "was not recorded")
    found |= {name: "is another" for name in known.keys() & files.keys() if _sha256(files[name]) != known[name]}
    return dict(sorted(found.items()))


def remove(model: Stored) -> None:
    """Take a local model away, a file with what stands beside it, or all revisions of one from the Hub's cache."""
    if model.revision != LOCAL:
        shutil.rmtree(model.path.parent.parent)
    elif model.path.is_symlink():
        model.path.unlink()
    elif model.path.is_dir():
        shutil.rmtree(model.path)
    else:
        for path in (model.path, model.path.with_suffix(".json"), _sums(model)):
            path.unlink(missing_ok=True)


def _named(model: Stored) -> dict[str, Path]:
    folder = model.path.parent if model.path.is_file() else model.path
    return {path.relative_to(folder).as_posix(): path for path in model.files}


def _sums(model: Stored) -> Path:
    return model.path.with_suffix(".sha256") if model.path.is_file() else model.path / SUMS


def _wrong_blob(path: Path) -> str:
    if not path.exists():
        return "is missing"
    expected = path.resolve().name
    found = _sha256(path) if len(expected) == _SHA256_DIGITS else _git_blob(path)
    return "" if found == expected else "is another"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_blob(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()
