"""LoRA files with random weights for a pipeline's layers."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

ATTENTION_LAYERS = ("to_q", "to_v", "q_proj", "v_proj")
RANK = 2


def find_layers(pipeline: DiffusionPipeline, part: str) -> dict[str, torch.nn.Linear]:
    """Return, by name, the layers of a component that LoRAs usually target."""
    found = getattr(pipeline, part).named_modules()
    return {
        name: layer for name, layer in found if name.rpartition(".")[2] in ATTENTION_LAYERS and hasattr(layer, "weight")
    }


def make_weights(
    pipeline: DiffusionPipeline, *parts: str, seed: int = 0, scale: float = 1.0
) -> dict[str, torch.Tensor]:
    """Return the two matrices of each layer, named by component and PEFT's layer name."""
    dice = torch.Generator().manual_seed(seed)
    made: dict[str, torch.Tensor] = {}
    for part in parts:
        for name, layer in find_layers(pipeline, part).items():
            taken, given = torch.Size((RANK, layer.in_features)), torch.Size((layer.out_features, RANK))
            made[f"{part}.{name}.lora_A.weight"] = torch.randn(taken, generator=dice) * scale
            made[f"{part}.{name}.lora_B.weight"] = torch.randn(given, generator=dice) * scale
    return made


def save_lora(folder: Path, name: str, tensors: dict[str, torch.Tensor], **told: Any) -> Path:
    """Write a LoRA file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.safetensors"
    save_file(tensors, path, **told)
    return path
