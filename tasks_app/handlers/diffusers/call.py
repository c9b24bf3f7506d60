"""One call of a pipeline: its arguments, its steps, its pictures, and what has to be clean before and after it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from PIL import Image

from tasks_app.contracts import GeneratedImage, GenerationRequest, Progress, Report
from tasks_app.errors import InvalidParams

SEEDS = 2**32


class Call:
    """One call of a pipeline, in the words that this pipeline knows."""

    def __init__(self, pipeline: DiffusionPipeline, request: GenerationRequest, report: Report) -> None:
        self._pipeline = pipeline
        self._request = request
        self._report = report
        self._takes = inspect.signature(pipeline.__call__).parameters
        self.denoised = time.monotonic()

    def __call__(self) -> Any:
        """Run the pipeline and return its output."""
        self._report(Progress(phase="denoising", total_steps=self._request.steps))
        return self._pipeline(**self._arguments())

    def _arguments(self) -> dict[str, Any]:
        request = self._request
        arguments: dict[str, Any] = {
            "prompt": request.prompt,
            "num_inference_steps": request.steps,
            # On the CPU, so that a seed means the same picture on every device; one each, so that image i has seed + i.
            "generator": [torch.Generator().manual_seed(seed) for seed in _seeds(request.seed, request.num_images)],
            **self._guidance(),
            **self._callback(),
        }
        if request.num_images > 1:
            arguments["num_images_per_prompt"] = request.num_images
        if request.negative_prompt:
            arguments["negative_prompt"] = request.negative_prompt
        if request.width:
            arguments["width"] = request.width
        if request.height:
            arguments["height"] = request.height
        if unknown := arguments.keys() - self._takes.keys():
            raise InvalidParams(f"This model doesn't take: {', '.join(sorted(unknown))}.")
        return arguments

    def _guidance(self) -> dict[str, float]:
        # In pipelines that have both, `guidance_scale` is an input of a distilled network.
        for name in ("true_cfg_scale", "guidance_scale"):
            if name in self._takes:
                return {name: self._request.guidance_scale}
        return {}

    def _callback(self) -> dict[str, Any]:
        if "callback_on_step_end" in self._takes:
            return {"callback_on_step_end": self._on_step_end}
        if "callback" in self._takes:
            return {"callback": lambda index, timestep, latents: self._stepped(index)}
        raise InvalidParams("This model's pipeline can neither report its steps nor be stopped.")

    def _on_step_end(self, pipeline: DiffusionPipeline, index: int, timestep: int, values: dict[str, Any]) -> Any:
        self._stepped(index)
        return values

    def _stepped(self, index: int) -> None:
        # Some schedulers take more steps than were asked for.
        total = max(self._request.steps, getattr(self._pipeline, "_num_timesteps", 0) or 0)
        self._report(Progress(phase="denoising", step=min(index + 1, total), total_steps=total))
        self.denoised = time.monotonic()
        if index + 1 >= total:
            self._report(Progress(phase="decoding", step=total, total_steps=total))


@contextmanager
def clean(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Give the call fresh schedulers, which hold a request's state, and free its hooks even if it is broken off."""
    for pipe in _with_nested(pipeline):
        for name, component in pipe.components.items():
            if isinstance(component, SchedulerMixin):
                setattr(pipe, name, type(component).from_config(component.config))
    try:
        yield
    finally:
        for pipe in _with_nested(pipeline):
            pipe.maybe_free_model_hooks()


def _with_nested(pipeline: DiffusionPipeline) -> list[DiffusionPipeline]:
    nested = [getattr(pipeline, name, None) for name in ("prior_pipe", "decoder_pipe")]
    return [pipeline, *(pipe for pipe in nested if pipe is not None)]


def _seeds(seed: int, count: int) -> list[int]:
    return [(seed + index) % SEEDS for index in range(count)]


def images(output: Any, seed: int) -> tuple[GeneratedImage, ...]:
    """Return a pipeline's pictures with their seeds."""
    flags = getattr(output, "nsfw_content_detected", None) or [False] * len(output.images)
    seeds = _seeds(seed, len(output.images))
    return tuple(
        GeneratedImage(seed=image_seed, image=image, flagged=bool(flag), black=_is_black(image))
        for image_seed, image, flag in zip(seeds, output.images, flags, strict=True)
    )


def _is_black(image: Image.Image) -> bool:
    """Return whether nothing was drawn, which is what NaN and overflows of half precision come out as."""
    extrema = image.convert("L").getextrema()
    return extrema == (0, 0)
