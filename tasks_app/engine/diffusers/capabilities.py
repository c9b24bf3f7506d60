"""Capabilities of models, read from their files. The web process imports this module, so it does not import torch.

The tables list the pipelines, without the suffix `Pipeline`, from which diffusers can derive one that starts from an
image, takes a `strength` and reports its steps. A test compares the tables with diffusers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Input channels of U-Nets that can inpaint: plain latents, or latents with a mask and the masked image.
INPAINTING_UNET_CHANNELS = (4, 9)

IMAGE_AND_INPAINTING = frozenset(
    {
        *("StableDiffusion", "StableDiffusionXL", "StableDiffusion3"),
        *("StableDiffusionControlNet", "StableDiffusionXLControlNet", "StableDiffusionXLControlNetUnion"),
        *("StableDiffusionPAG", "StableDiffusionXLPAG"),
        *("Flux", "FluxControl", "FluxControlNet", "QwenImage", "ZImage"),
    }
)
IMAGE_ONLY = frozenset(
    {
        *("StableDiffusion3PAG", "Kandinsky3", "KandinskyV22Combined", "LatentConsistencyModel"),
        "StableDiffusionXLControlNetPAG",
    }
)
INPAINTING_ONLY = frozenset({"StableDiffusionControlNetPAG"})
TEXT_ONLY = frozenset(
    {
        *("HunyuanDiT", "HunyuanDiTPAG", "WuerstchenCombined", "StableCascadeCombined"),
        *("PixArtAlpha", "PixArtSigma", "PixArtSigmaPAG", "Sana", "SanaPAG", "AuraFlow"),
        *("Lumina", "Lumina2", "Chroma", "CogView3Plus", "CogView4", "CogView4Control"),
        *("Ideogram4", "Krea2", "GlmImage", "Helios", "HeliosPyramid", "NucleusMoEImage", "OvisImage", "PRX"),
        *("IF", "KandinskyCombined", "StableDiffusion3ControlNet", "FluxKontext", "Flux2Klein", "Flux2"),
        *("QwenImage21", "QwenImageControlNet", "ZImageControlNet", "ZImageControlNetInpaint", "ZImageOmni"),
    }
)


def supports_image_input(folder: Path, *, masked: bool) -> bool | None:
    """Return whether the model in a folder can start from an image, with or without a mask; None if unknown."""
    name = str(_read_json(folder / "model_index.json").get("_class_name", "")).removesuffix("Pipeline")
    if name not in IMAGE_AND_INPAINTING | IMAGE_ONLY | INPAINTING_ONLY | TEXT_ONLY:
        return None
    if not masked:
        return name in IMAGE_AND_INPAINTING | IMAGE_ONLY
    channels = _read_json(folder / "unet" / "config.json").get("in_channels")
    return name in IMAGE_AND_INPAINTING | INPAINTING_ONLY and (channels is None or channels in INPAINTING_UNET_CHANNELS)


def get_native_pixels(folder: Path) -> int | None:
    """Return the number of pixels that the model in a folder was made for; None if unknown."""
    network = _read_json(folder / "unet" / "config.json") or _read_json(folder / "transformer" / "config.json")
    side, levels = network.get("sample_size"), _read_json(folder / "vae" / "config.json").get("block_out_channels")
    if not isinstance(side, int) or not isinstance(levels, list):
        return None
    # Each level of the autoencoder except the last halves the sides of the image.
    return int((side * 2 ** (len(levels) - 1)) ** 2)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
