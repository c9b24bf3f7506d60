"""What in MODELS_DIR is a model: a folder that diffusers saved, or a file of weights and beside it what it is built on.

`name.safetensors` or `name.gguf` is one by `name.json`: `{"base": "another model"}`. Knows no Django and no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from tasks_app.errors import ModelLoadFailed

INDEX = "model_index.json"
# What can't run code when it is read.
WEIGHTS = (".safetensors", ".gguf")
PICKLES = (".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file of weights; its configuration, and parts that it lacks, are those of a model, `base` (`id[@revision]`)."""

    path: Path
    base: str


def names(models_dir: Path) -> set[str]:
    """Return the names of all models that lie there."""
    return {name for path in models_dir.glob("*") if (name := _name(path))}


def is_folder(models_dir: Path, name: str) -> bool:
    """Return whether a whole pipeline lies there under this name."""
    return (models_dir / name / INDEX).is_file()


def weights_file(models_dir: Path, name: str) -> WeightsFile | None:
    """Return the file that is the model of this name; None when none is, as where a folder has the name.

    Raises:
        ModelLoadFailed: what stands beside it names no base.
    """
    found = None if "/" in name or is_folder(models_dir, name) else weights_path(models_dir, name)
    return None if found is None else WeightsFile(path=found, base=_base(_note(found)))


def weights_path(models_dir: Path, name: str) -> Path | None:
    """Return the file of weights of this name that has a note beside it."""
    paths = (models_dir / f"{name}{suffix}" for suffix in WEIGHTS)
    return next((path for path in paths if path.is_file() and _note(path).is_file()), None)


def configuration(models_dir: Path, hub_cache: Path, model_id: str, revision: str) -> Path | None:
    """Return the folder that says what a model consists of, of a file of weights its base's; None where none is here.

    It may be one that a download has yet to fill. An empty revision is the newest that is here.

    Raises:
        ModelLoadFailed: what stands beside a file of weights names no base.
    """
    file = weights_file(models_dir, model_id)
    if file is not None:
        model_id, _, revision = file.base.partition("@")
    if is_folder(models_dir, model_id):
        return models_dir / model_id
    if "/" not in model_id:
        return None
    found = try_to_load_from_cache(model_id, INDEX, cache_dir=hub_cache, revision=revision or None)
    return Path(found).parent if isinstance(found, str) else None


def built_on(models_dir: Path, base: str) -> list[str]:
    """Return the models that are files on this base."""
    files = {name: weights_file(models_dir, name) for name in sorted(names(models_dir))}
    return [name for name, file in files.items() if file is not None and file.base.partition("@")[0] == base]


def refused(models_dir: Path) -> dict[str, str]:
    """Return by file name why what lies there is no model."""
    found = {path.name: f"needs {path.stem}.json" for path in _weights(models_dir) if not _note(path).is_file()}
    pickles = [path.name for path in models_dir.glob("*") if path.suffix in PICKLES]
    return found | dict.fromkeys(pickles, "a pickle, which could run code: convert it to safetensors")


def _name(path: Path) -> str:
    """Return the name of the model that lies there, if one does."""
    if (path / INDEX).is_file():
        return path.name
    return path.stem if path.suffix in WEIGHTS and path.is_file() and _note(path).is_file() else ""


def _weights(models_dir: Path) -> Iterator[Path]:
    return (path for path in models_dir.glob("*") if path.suffix in WEIGHTS and path.is_file())


def _note(path: Path) -> Path:
    return path.with_name(f"{path.stem}.json")


def _base(note: Path) -> str:
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
    except ValueError:
        raise _wrong(note) from None
    base = told.get("base") if isinstance(told, dict) and told.keys() == {"base"} else None
    if not isinstance(base, str) or not base:
        raise _wrong(note)
    return base


def _wrong(note: Path) -> ModelLoadFailed:
    return ModelLoadFailed(f'{note.name}: must be {{"base": "the model that the weights are built on"}}.')
