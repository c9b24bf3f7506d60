"""Textual-inversion embedding files with random vectors."""

from pathlib import Path

import torch
from safetensors.torch import save_file

WIDTH = 16


def save_embedding(folder: Path, name: str, *keys: str, rows: int = 2, width: int = WIDTH, seed: int = 0) -> Path:
    """Write an embedding file, for one text encoder if no keys are given."""
    folder.mkdir(exist_ok=True)
    dice = torch.Generator().manual_seed(seed)
    path = folder / f"{name}.safetensors"
    save_file({key: torch.randn(rows, width, generator=dice) * 4 for key in keys or ("emb_params",)}, path)
    return path
