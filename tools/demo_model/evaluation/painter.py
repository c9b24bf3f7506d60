"""The model under evaluation, run with the settings of its model card."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from huggingface_hub import ModelCard
from PIL import Image

BATCH = 20


@dataclass(frozen=True, kw_only=True)
class Painter:
    """Pipeline with the number of steps and the guidance scale to evaluate it at."""

    pipeline: StableDiffusionPipeline
    steps: int
    guidance: float

    def paint(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        """Return an image for each prompt, each generated from its own seed."""
        pictures: list[Image.Image] = []
        for start in range(0, len(prompts), BATCH):
            some = slice(start, start + BATCH)
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[some]]
            pictures += self.pipeline(
                prompts[some], num_inference_steps=self.steps, guidance_scale=self.guidance, generator=generators
            ).images
        return pictures


def load(folder: Path, guidance: float | None = None) -> Painter:
    """Load a model with the defaults of its card's front matter; `guidance` is required for a card without one."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    card = folder / "README.md"
    front = ModelCard.load(card).data.to_dict() if card.exists() else {}
    defaults = front.get("inference", {}).get("parameters", {})
    return Painter(
        pipeline=pipeline,
        steps=defaults.get("num_inference_steps", 25),
        guidance=defaults["guidance_scale"] if guidance is None else guidance,
    )


def same_bytes(painter: Painter) -> bool:
    """Return whether a seed generates the same image twice, and another seed a different one."""
    first, again, other = (painter.paint(["a red house"], [seed])[0].tobytes() for seed in (5, 5, 6))
    return first == again != other


def _seconds(times: int, work: Callable[[], object]) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return median(taken)


@torch.no_grad()
def speed(painter: Painter) -> tuple[float, float]:
    """Return the seconds per image and per UNet step with guidance; medians of 5 and of 20 runs."""
    pipeline = painter.pipeline
    noise = torch.randn(2, pipeline.unet.config.in_channels, *[pipeline.unet.config.sample_size] * 2)
    length = pipeline.tokenizer.model_max_length
    states = torch.randn(2, length, pipeline.unet.config.cross_attention_dim)
    step = _seconds(20, lambda: pipeline.unet(noise, torch.tensor(500), states))
    return _seconds(5, lambda: painter.paint(["a red house"], [5])), step


def as_array(picture: Image.Image) -> np.ndarray:
    """Return an image's pixels."""
    return np.asarray(picture.convert("RGB")).astype(np.float32)
