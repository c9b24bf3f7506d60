"""Models in MODELS_DIR: folders saved by diffusers, and weights files with a sidecar file that names their base.

`name.safetensors` or `name.gguf` is a model if its sidecar file `name.json` contains `{"base": "another model"}`.
Imports neither Django nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from tasks_app.errors import ModelLoadError

INDEX_FILE = "model_index.json"
# Formats that can't run code when they are loaded.
WEIGHTS_SUFFIXES = (".safetensors", ".gguf")
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A weights file; its configuration and missing components come from the model `base` (`id[@revision]`)."""

    path: Path
    base: str


def get_model_names(models_dir: Path) -> set[str]:
    """Return the names of all models in the directory."""
    return {name for path in models_dir.glob("*") if (name := _parse_model_name(path))}


def is_pipeline_folder(models_dir: Path, name: str) -> bool:
    """Return whether the directory has a pipeline folder of this name."""
    return (models_dir / name / INDEX_FILE).is_file()


def find_weights_file(models_dir: Path, name: str) -> WeightsFile | None:
    """Return the weights file of this model; None if it has none or is a pipeline folder.

    Raises:
        ModelLoadError: The sidecar file names no base.
    """
    found = None if "/" in name or is_pipeline_folder(models_dir, name) else find_weights_path(models_dir, name)
    return None if found is None else WeightsFile(path=found, base=_read_base(_get_sidecar_path(found)))


def find_weights_path(models_dir: Path, name: str) -> Path | None:
    """Return the path of the weights file of this name; None if there is none with a sidecar file."""
    paths = (models_dir / f"{name}{suffix}" for suffix in WEIGHTS_SUFFIXES)
    return next((path for path in paths if path.is_file() and _get_sidecar_path(path).is_file()), None)


def find_configuration(models_dir: Path, hub_cache: Path, model_id: str, revision: str) -> Path | None:
    """Return the local folder with a model's configuration, for a weights file that of its base; None if missing.

    The folder's other files may not be downloaded yet. An empty revision means the newest local one.

    Raises:
        ModelLoadError: The sidecar file of a weights file names no base.
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
    """Return the names of the weights files that are built on this base."""
    files = {name: find_weights_file(models_dir, name) for name in sorted(get_model_names(models_dir))}
    return [name for name, file in files.items() if file is not None and file.base.partition("@")[0] == base]


def find_rejected_files(models_dir: Path) -> dict[str, str]:
    """Return the files that can't be used as models, mapped to the reason."""
    found = {
        path.name: f"needs {path.stem}.json"
        for path in _iter_weights_files(models_dir)
        if not _get_sidecar_path(path).is_file()
    }
    pickles = [path.name for path in models_dir.glob("*") if path.suffix in PICKLE_SUFFIXES]
    return found | dict.fromkeys(pickles, "pickle files can run code, convert it to safetensors")


def _parse_model_name(path: Path) -> str:
    """Return the name of the model at this path; an empty string if it is not a model."""
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
    return ModelLoadError(f'{note.name}: must be {{"base": "NAME"}}, where NAME is the base model of the weights.')
