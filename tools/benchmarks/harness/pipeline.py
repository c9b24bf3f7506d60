"""The pipeline without any service, as bare loops and peers load and call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MODELS = Path(__file__).resolve().parents[3] / "models"
GUIDANCE = 3.0


def load(folder: Path, device: str = "cpu", dtype: str = "float32") -> Any:
    """Load a folder's pipeline as documented by diffusers."""
    import torch
    from diffusers import AutoPipelineForText2Image
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    pipe = AutoPipelineForText2Image.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, prompts: Sequence[str], *, steps: int, on_step: Callable[[], None] | None = None) -> list[Any]:
    """Generate one image for each prompt in one call, each with its own generator."""
    import torch

    def stepped(pipeline: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        assert on_step is not None
        on_step()
        return values

    images: list[Any] = pipe(
        prompt=list(prompts),
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator().manual_seed(index) for index in range(len(prompts))],
        **({} if on_step is None else {"callback_on_step_end": stepped}),
    ).images
    return images
