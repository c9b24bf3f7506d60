"""Lookup of LoRA and embedding files, `name.safetensors` in a folder. Imports neither Django nor torch."""

from __future__ import annotations

from pathlib import Path

from tasks_app.errors import ModelUnavailableError

ADDON_SUFFIX = ".safetensors"


def get_addon_paths(folder: Path) -> dict[str, Path]:
    """Return the files of all add-ons in a folder by name, sorted; empty if the folder does not exist."""
    return {path.stem: path for path in sorted(folder.glob(f"*{ADDON_SUFFIX}")) if path.is_file()}


def find_addon_path(folder: Path, name: str, *, kind: str, setting: str) -> Path:
    """Return the file of an add-on; `kind` and `setting` name its type and its folder in the error message.

    Raises:
        ModelUnavailableError: The folder has no add-on of this name.
    """
    found = get_addon_paths(folder).get(name)
    if found is None:
        raise ModelUnavailableError(
            f"The {kind} {name} is not on this worker. An administrator can add {name}{ADDON_SUFFIX} to {setting}."
        )
    return found
