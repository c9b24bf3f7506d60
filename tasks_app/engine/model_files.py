"""What in MODELS_DIR is a model: a folder that diffusers saved, or a file of weights and beside it what it is built on.

`name.safetensors` or `name.gguf` is one by `name.json`: `{"base": "another model"}`. Knows no Django and no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from tasks_app.errors import ModelLoadError

INDEX_FILE = "model_index.json"
# What can't run code when it is read.
WEIGHTS_SUFFIXES = (".safetensors", ".gguf")
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file of weights; its configuration, and parts that it lacks, are those of a model, `base` (`id[@revision]`)."""

    path: Path
    base: str


def get_model_names(models_dir: Path) -> set[str]:
    """Return the names of all models that lie there."""
    return {name for path in models_dir.glob("*") if (name := _parse_model_name(path))}


def is_pipeline_folder(models_dir: Path, name: str) -> bool:
    """Return whether a whole pipeline lies there under this name."""
    return (models_dir / name / INDEX_FILE).is_file()


def find_weights_file(models_dir: Path, name: str) -> WeightsFile | None:
    """Return the file that is the model of this name; None when none is, as where a folder has the name.

    Raises:
        ModelLoadFailed: what stands beside it names no base.
    """
    found = None if "/" in name or is_pipeline_folder(models_dir, name) else find_weights_path(models_dir, name)
    return None if found is None else WeightsFile(path=found, base=_read_base(_get_sidecar_path(found)))


def find_weights_path(models_dir: Path, name: str) -> Path | None:
    """Return the file of weights of this name that has a note beside it."""
    paths = (models_dir / f"{name}{suffix}" for suffix in WEIGHTS_SUFFIXES)
    return next((path for path in paths if path.is_file() and _get_sidecar_path(path).is_file()), None)


def find_configuration(models_dir: Path, hub_cache: Path, model_id: str, revision: str) -> Path | None:
    """Return the folder that says what a model consists of, of a file of weights its base's; None where none is here.

    It may be one that a download has yet to fill. An empty revision is the newest that is here.

    Raises:
        ModelLoadFailed: what stands beside a file of weights names no base.
    """
    file = find_weights_file(models_dir, model_id)
    if file is not None:
        model_id, _, revision = file.base.partition("@")
    if is_pipeline_folder(models_dir, model_id):
        return models_dir / model_id
    if "/" not in model_id:
        return None
    found = try_to_load_from_cache(model_id, INDEX_FILE, cache_dir=hub_cache, revision=revision or None)
    return Path(found).parent if isinstance(found, str) else None


def find_dependents(models_dir: Path, base: str) -> list[str]:
    """Return the models that are files on this base."""
    files = {name: find_weights_file(models_dir, name) for name in sorted(get_model_names(models_dir))}
    return [name for name, file in files.items() if file is not None and file.base.partition("@")[0] == base]


def find_rejected_files(models_dir: Path) -> dict[str, str]:
    """Return by file name why what lies there is no model."""
    found = {
        path.name: f"needs {path.stem}.json"
        for path in _iter_weights_files(models_dir)
        if not _get_sidecar_path(path).is_file()
    }
    pickles = [path.name for path in models_dir.glob("*") if path.suffix in PICKLE_SUFFIXES]
    return found | dict.fromkeys(pickles, "a pickle, which could run code: convert it to safetensors")


def _parse_model_name(path: Path) -> str:
    """Return the name of the model that lies there, if one does."""
    if (path / INDEX_FILE).is_file():
        return path.name
    return path.stem if path.suffix in WEIGHTS_SUFFIXES and path.is_file() and _get_sidecar_path(path).is_file() else ""


def _iter_weights_files(models_dir: Path) -> Iterator[Path]:
    return (path for path in models_dir.glob("*") if path.suffix in WEIGHTS_SUFFIXES and path.is_file())


def _get_sidecar_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.json")


def _read_base(note: Path) -> str:
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
    except ValueError:
        raise _invalid_sidecar_error(note) from None
    base = told.get("base") if isinstance(told, dict) and told.keys() == {"base"} else None
    if not isinstance(base, str) or not base:
        raise _invalid_sidecar_error(note)
    return base


def _invalid_sidecar_error(note: Path) -> ModelLoadError:
    return ModelLoadError(f'{note.name}: must be {{"base": "the model that the weights are built on"}}.')
