"""Text to image with diffusers: parameters -> one pipeline call -> pictures. Knows neither Django nor Redis."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, SchedulerMixin

from tasks_app.contracts import GeneratedImage, GenerationRequest, GenerationResult, Progress, Report
from tasks_app.errors import InvalidParams, OutOfMemory, RunStopped
from tasks_app.handlers.diffusers import loading, snapshots
from tasks_app.handlers.diffusers.cache import PipelineCache

SEEDS = 2**32


def _empty_device_cache() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


PIPELINES = PipelineCache(on_evict=_empty_device_cache)


class DiffusersHandler:
    """Runs any text-to-image pipeline that diffusers loads."""

    def __init__(
        self,
        *,
        models_dir: Path,
        hub_cache: Path,
        offline: bool = False,
        hub_endpoint: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        max_cached_models: int = 1,
        safety_checker: bool = True,
    ) -> None:
        self._places = snapshots.Places(
            models_dir=models_dir, hub_cache=hub_cache, offline=offline, endpoint=hub_endpoint
        )
        self._device = device
        self._dtype = dtype
        self._max_cached_models = max_cached_models
        self._safety_checker = safety_checker

    def run(self, request: GenerationRequest, report: Report) -> GenerationResult:
        """Generate the pictures of one request; see `contracts.Handler`."""
        started = time.monotonic()
        snapshot = self._fetch(request.model_id, request.revision, report, request.steps)
        key = request.model_id, snapshot.revision
        with PIPELINES.lease(key, lambda: self._load(snapshot), capacity=self._max_cached_models) as pipeline:
            loaded = time.monotonic()
            with _clean(pipeline):
                call = _Call(pipeline, request, report)
                output = call()
        images = _images(output, request.seed)
        timings = {"loading": loaded - started, "denoising": call.denoised - loaded}
        timings["decoding"] = time.monotonic() - call.denoised
        rounded = {name: round(seconds, 3) for name, seconds in timings.items()}
        return GenerationResult(images=images, revision=snapshot.revision, timings=rounded)

    def pull(self, model_id: str, revision: str, report: Report) -> str:
        """Fetch a model's files; see `contracts.Handler`."""
        return self._fetch(model_id, revision, report, 0).revision

    def _fetch(self, model_id: str, revision: str, report: Report, steps: int) -> snapshots.Snapshot:
        def on_bytes(done: int, total: int) -> None:
            try:
                report(Progress(phase="loading", total_steps=steps, bytes_done=done, bytes_total=total))
            except RunStopped:
                # A download can't be stopped half-way; the first step will see it.
                return

        report(Progress(phase="loading", total_steps=steps))
        return snapshots.fetch(model_id, revision, self._places, on_bytes)

    def _load(self, snapshot: snapshots.Snapshot) -> DiffusionPipeline:
        placement = loading.choose(self._device, self._dtype, snapshot.path)
        return loading.load(snapshot.path, placement, safety_checker=self._safety_checker)


class _Call:
    """One call of a pipeline, in the words that this pipeline knows."""

    def __init__(self, pipeline: DiffusionPipeline, request: GenerationRequest, report: Report) -> None:
        self._pipeline = pipeline
        self._request = request
        self._report = report
        self._takes = inspect.signature(pipeline.__call__).parameters
        self.denoised = time.monotonic()

    def __call__(self) -> Any:
        self._report(Progress(phase="denoising", total_steps=self._request.steps))
        try:
            return self._pipeline(**self._arguments())
        except torch.OutOfMemoryError as error:
            raise OutOfMemory("The device has not enough memory for this task.") from error

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
def _clean(pipeline: DiffusionPipeline) -> Iterator[None]:
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


def _images(output: Any, seed: int) -> tuple[GeneratedImage, ...]:
    flags = getattr(output, "nsfw_content_detected", None) or [False] * len(output.images)
    seeds = _seeds(seed, len(output.images))
    return tuple(
        GeneratedImage(seed=image_seed, image=image, flagged=bool(flag))
        for image_seed, image, flag in zip(seeds, output.images, flags, strict=True)
    )
