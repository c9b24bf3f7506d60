"""Which LoRAs and embeddings there are: the files `name.safetensors` in a folder. Knows no Django and no torch."""

from __future__ import annotations

from pathlib import Path

from tasks_app.errors import ModelUnavailable

SUFFIX = ".safetensors"


def paths(folder: Path) -> dict[str, Path]:
    """Return the files of all add-ons in a folder by their names, in that order; none where it isn't there."""
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}")) if path.is_file()}


def path(folder: Path, name: str, *, kind: str, setting: str) -> Path:
    """Return the file of this add-on; `kind` and `setting` are what it and its folder are called.

    Raises:
        ModelUnavailable: it is not here.
    """
    found = paths(folder).get(name)
    if found is None:
        raise ModelUnavailable(f"The {kind} {name} is not on this worker: put {name}{SUFFIX} into {setting}.")
    return found
