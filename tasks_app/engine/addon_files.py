"""Which LoRAs and embeddings there are: the files `name.safetensors` in a folder. Knows no Django and no torch."""

from __future__ import annotations

from pathlib import Path

from tasks_app.errors import ModelUnavailableError

ADDON_SUFFIX = ".safetensors"


def get_addon_paths(folder: Path) -> dict[str, Path]:
    """Return the files of all add-ons in a folder by their names, in that order; none where it isn't there."""
    return {path.stem: path for path in sorted(folder.glob(f"*{ADDON_SUFFIX}")) if path.is_file()}


def find_addon_path(folder: Path, name: str, *, kind: str, setting: str) -> Path:
    """Return the file of this add-on; `kind` and `setting` are what it and its folder are called.

    Raises:
        ModelUnavailable: it is not here.
    """
    found = get_addon_paths(folder).get(name)
    if found is None:
        raise ModelUnavailableError(
            f"The {kind} {name} is not on this worker: put {name}{ADDON_SUFFIX} into {setting}."
        )
    return found
