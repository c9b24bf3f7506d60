"""Effect of a model's optimization options on this machine: time and memory relative to the same model without them.

    uv run python -m tools.benchmarks.options [--short] [--runs 3] [--steps 6]

In addition to the demo model there are a larger U-Net and a FLUX, both with random weights. Situations alternate with
the plain model, each after a first image, during which compilation happens. Random weights don't show image quality:
the last column is the similarity of the images to the plain ones.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from tasks_app.engine.diffusers import memory
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.types import GenerationRequest, LoadOptions
from tasks_app.errors import ModelLoadError
from tests.support import tiny

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
SITUATIONS: dict[str, dict[str, Any]] = {
    "dtype bfloat16": {"dtype": "bfloat16"},
    "channels_last": {"channels_last": True},
    "fuse_qkv": {"fuse_qkv": True},
    "compile_blocks": {"compile_blocks": True},
    "attention_backend _native_math": {"attention_backend": "_native_math"},
    "step_cache first_block": {"step_cache": "first_block"},
    "step_cache taylorseer": {"step_cache": "taylorseer"},
    "step_cache pyramid_attention": {"step_cache": "pyramid_attention"},
    "quantization int8": {"quantization": "int8"},
    "quantization int8_dynamic": {"quantization": "int8_dynamic"},
    "quantization float8": {"quantization": "float8"},
    "vae_slicing": {"vae_slicing": True},
    "vae_tiling": {"vae_tiling": True},
}


@dataclass(kw_only=True)
class Found:
    """Results of one situation: seconds by run, of it and of the plain model measured alongside."""

    seconds: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    first: float = 0.0
    nbytes: int = 0
    decibels: float = math.inf

    def ratios(self) -> list[float]:
        """Return the ratios of its times to those of the plain model."""
        return [mine / plain for mine, plain in zip(self.seconds, self.beside, strict=True)]


def save_sd(folder: Path) -> None:
    """Save a Stable Diffusion pipeline, much smaller than the real one."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(128, 256, 256),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=256,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        sample_size=256,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(_words(hidden_size=256, layers=12)),
        tokenizer=tiny.make_tokenizer(folder / "words"),
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def save_flux(folder: Path) -> None:
    """Save a FLUX pipeline, much smaller than the real one."""
    torch.manual_seed(0)
    words = tiny.make_tokenizer(folder / "words")
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny.make_vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.3),
        text_encoder=CLIPTextModel(_words(hidden_size=64, layers=2)),
        tokenizer=words,
        text_encoder_2=T5EncoderModel(T5Config(vocab_size=54, d_model=64, d_ff=64, d_kv=32, num_layers=2, num_heads=2)),
        tokenizer_2=words,
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=4,
            num_single_layers=8,
            attention_head_dim=64,
            num_attention_heads=4,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            axes_dims_rope=(16, 24, 24),
        ),
    ).save_pretrained(folder)


def _words(*, hidden_size: int, layers: int) -> CLIPTextConfig:
    config = tiny.make_text_config()
    config.update(
        {
            "hidden_size": hidden_size,
            "intermediate_size": 4 * hidden_size,
            "num_hidden_layers": layers,
            "projection_dim": hidden_size,
        }
    )
    return config


class Bench:
    """One model on one machine."""

    def __init__(self, handler: DiffusersHandler, model_id: str, *, steps: int, size: int) -> None:
        self.handler = handler
        self.model_id = model_id
        self.steps, self.size = steps, size

    def draw(self, options: LoadOptions, prompt: str = "a house") -> tuple[float, Any]:
        """Return the seconds that an image took, and the image."""
        request = GenerationRequest(
            model_id=self.model_id,
            revision="",
            prompt=prompt,
            negative_prompt="",
            steps=self.steps,
            guidance_scale=4.0,
            seed=11,
            width=self.size,
            height=self.size,
            num_images=1,
            options=options,
        )
        began = time.perf_counter()
        [result] = self.handler.run([request], lambda progress: None)
        return time.perf_counter() - began, np.asarray(result.images[0].image, dtype=float)

    def measure(self, options: LoadOptions, runs: int) -> Found:
        """Measure a situation and the plain model in turns."""
        found = Found()
        plain = LoadOptions()
        _, expected = self.draw(plain)
        self.handler.preload_model(self.model_id, "", options)
        found.first, picture = self.draw(options)
        found.decibels = decibels(picture, expected)
        with PIPELINE_CACHE.lease((self.model_id, "local", options), _missing, capacity=2) as pipeline:
            found.nbytes = memory.get_pipeline_size(pipeline)
        for _ in range(runs):
            found.beside.append(self.draw(plain)[0])
            found.seconds.append(self.draw(options)[0])
        return found


def _missing() -> None:
    raise AssertionError("it was loaded")


def decibels(one: Any, other: Any) -> float:
    """Return the peak signal-to-noise ratio of two images."""
    error = float(((one - other) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def line(name: str, values: list[float], *more: str) -> str:
    """Return a row with the median, the minimum and the maximum."""
    spread = f"×{statistics.median(values):.2f} ({min(values):.2f} … {max(values):.2f})"
    return f"| {' | '.join((name, spread, *more))} |"


def options_of(bench: Bench, runs: int, names: list[str]) -> None:
    """Print the table of one model."""
    print(f"\n| {bench.model_id} | time | first picture | weights | PSNR |\n| --- | --- | --- | --- | --- |")
    _, _ = bench.draw(LoadOptions())
    with PIPELINE_CACHE.lease((bench.model_id, "local", LoadOptions()), _missing, capacity=2) as pipeline:
        plain = memory.get_pipeline_size(pipeline)
    for name in names:
        try:
            found = bench.measure(LoadOptions(**SITUATIONS[name]), runs)
        except ModelLoadError:
            print(f"| {name} | refused | | | |", flush=True)
            continue
        first, size = f"{found.first:.1f} s", f"×{found.nbytes / plain:.2f}"
        near = "the same" if found.decibels == math.inf else f"{found.decibels:.0f} dB"
        print(line(name, found.ratios(), first, size, near), flush=True)


def threads(bench: Bench, runs: int) -> None:
    """Print the effect of the number of threads."""
    counts = sorted({1, 2, torch.get_num_threads(), 2 * torch.get_num_threads()})
    own, times = torch.get_num_threads(), dict[int, list[float]]({count: [] for count in counts})
    for _ in range(runs + 1):
        for count in counts:
            torch.set_num_threads(count)
            times[count].append(bench.draw(LoadOptions())[0])
    torch.set_num_threads(own)
    print(f"\n| {bench.model_id}, CPU_THREADS | time, by torch's own {own} |\n| --- | --- |")
    for count in counts:
        print(line(str(count), [mine / plain for mine, plain in zip(times[count][1:], times[own][1:], strict=True)]))


def remembered(make: Callable[[int], DiffusersHandler], bench: Bench, runs: int) -> None:
    """Print the time saved by the prompt cache; handlers share the pipeline cache, so they are measured in sequence."""
    ratios = []
    for _ in range(runs):
        taken = {}
        for room in (0, 64 * 1024 * 1024):
            PIPELINE_CACHE.clear()
            bench.handler = make(room)
            bench.draw(LoadOptions())
            taken[room] = statistics.median(bench.draw(LoadOptions())[0] for _ in range(3))
        ratios.append(taken[64 * 1024 * 1024] / taken[0])
    print(line(f"{bench.model_id}, {bench.steps} steps, a prompt that comes again", ratios))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    asked = parser.parse_args()
    runs, steps = (1, 2) if asked.short else (asked.runs, asked.steps)
    with tempfile.TemporaryDirectory(prefix="dh-options-") as name:
        folder = Path(name)
        (folder / "demo").symlink_to(DEMO)
        save_sd(folder / "sd")
        save_flux(folder / "flux")

        def make(room: int) -> DiffusersHandler:
            return DiffusersHandler(
                models_dir=folder, hub_cache=folder, device="cpu", max_cached_models=2, prompt_cache_bytes=room
            )

        sizes = {"demo": 64, "sd": 128, "flux": 128}
        for model_id in sizes:
            options_of(Bench(make(0), model_id, steps=steps, size=sizes[model_id]), runs, list(SITUATIONS))
            PIPELINE_CACHE.clear()
        threads(Bench(make(0), "sd", steps=steps, size=128), runs)
        print("\n| PROMPT_CACHE_BYTES | time |\n| --- | --- |")
        for model_id, few in (("demo", 4), ("demo", 25), ("sd", 4)):
            remembered(make, Bench(make(0), model_id, steps=few, size=sizes[model_id]), runs)


if __name__ == "__main__":
    main()
