"""Which LoRAs there are: the files `name.safetensors` in LORAS_DIR. Knows no Django and no torch."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".safetensors"


def paths(loras_dir: Path) -> dict[str, Path]:
    """Return the files of all LoRAs by their names, in that order; none where there is no such folder."""
    return {path.stem: path for path in sorted(loras_dir.glob(f"*{SUFFIX}")) if path.is_file()}
