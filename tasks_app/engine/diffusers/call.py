"""One call of a pipeline: its arguments, steps and images, and the state to reset before and after it."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from PIL import Image

from tasks_app.engine.diffusers.arguments import PipelineArguments
from tasks_app.engine.diffusers.image_inputs import BASE_ATTRIBUTE, get_base_pipeline, resize_input
from tasks_app.engine.diffusers.previews import NO_PREVIEWS, Previews, PreviewSchedule
from tasks_app.engine.diffusers.schedulers import SCHEDULERS, build_config, get_compatible_schedulers, is_flow_matching
from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import GeneratedImage, GenerationRequest, Progress
from tasks_app.errors import InvalidParamsError

SEED_COUNT = 2**32


class PipelineCall:
    """One call of a pipeline for several requests, with the arguments that this pipeline supports."""

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        requests: Sequence[GenerationRequest],
        report: ProgressCallback,
        *,
        pace: PreviewSchedule = NO_PREVIEWS,
    ) -> None:
        """Prepare a call for requests that differ only in prompt, negative prompt and seed."""
        self._pipeline = pipeline
        self._requests = requests
        self._request = requests[0]
        self._report = report
        self._previews = Previews(pipeline, pace, height=self._request.height, width=self._request.width)
        self._denoised_latents: torch.Tensor | None = None
        self._pipeline_arguments = PipelineArguments(pipeline)
        self.last_step_at = time.monotonic()

    def __call__(self) -> Any:
        """Run the pipeline and return its output."""
        arguments = self._build_arguments()  # also rejects pipelines that have no scheduler
        self._watch_scheduler()
        self._report(Progress(phase="denoising", total_steps=self._request.total_steps))
        with _get_inference_mode(self._pipeline):
            return self._pipeline(**arguments)

    def _watch_scheduler(self) -> None:
        """Capture the scheduler's estimate of the final latents: a preview of the noisy latents shows mostly noise."""
        step = self._pipeline.scheduler.step

        @functools.wraps(step)  # pipelines inspect the signature of a scheduler's step
        def watched(*args: Any, **kwargs: Any) -> Any:
            output = step(*args, **kwargs)
            expected = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            self._denoised_latents = expected if isinstance(expected, torch.Tensor) else None
            return output

        self._pipeline.scheduler.step = watched

    def _build_arguments(self) -> dict[str, Any]:
        request = self._request
        arguments: dict[str, Any] = {
            **self._build_text_arguments("prompt"),
            "num_inference_steps": request.steps,
            "generator": self._build_generators(),
            **self._pipeline_arguments.build_size(request),
            **self._pipeline_arguments.build_image_inputs(request),
            **self._build_count_arguments(),
            **self._build_guidance_arguments(),
            **self._build_callback_arguments(),
        }
        self._pipeline_arguments.check_supported(arguments)
        return {**arguments, **self._pipeline_arguments.overrides}

    def _build_generators(self) -> list[torch.Generator]:
        # On the CPU, so that a seed gives the same image on every device; one each, so that image i has seed + i.
        seeds = (seed for request in self._requests for seed in _get_seeds(request))
        return [torch.Generator().manual_seed(seed) for seed in seeds] * self._pipeline_arguments.generator_copies

    def _build_text_arguments(self, name: str) -> dict[str, Any]:
        """Return an argument that holds texts, one for each image."""
        first, *others = self._requests
        if not others:
            # Not every pipeline takes lists, and a single request needs none.
            return {name: getattr(first, name)}
        # Not `num_images_per_prompt`: with it, some pipelines apply one prompt's attention mask to another.
        return {name: [getattr(each, name) for each in self._requests for _ in range(each.num_images)]}

    def _build_guidance_arguments(self) -> dict[str, Any]:
        guidance = self._pipeline_arguments.build_guidance(self._request)
        return guidance | self._build_text_arguments("negative_prompt") if "negative_prompt" in guidance else guidance

    def _build_count_arguments(self) -> dict[str, int]:
        alone = len(self._requests) == 1 and self._request.num_images > 1
        return {"num_images_per_prompt": self._request.num_images} if alone else {}

    def _build_callback_arguments(self) -> dict[str, Any]:
        takes = self._pipeline_arguments.parameters
        prior = {"prior_callback_on_step_end": self._on_prior_step_end}
        before = prior if prior.keys() <= takes.keys() else {}
        if "callback_on_step_end" in takes:
            return {"callback_on_step_end": self._on_step_end, **before}
        if "callback" in takes:
            return {"callback": lambda index, timestep, latents: self._report_step(index, latents)}
        raise InvalidParamsError("This model isn't supported: its pipeline can't report progress or be canceled.")

    def _on_prior_step_end(self, pipeline: DiffusionPipeline, index: int, timestep: int, values: dict[str, Any]) -> Any:
        # The prior's steps don't count as steps of the request, but the run can be aborted at each of them.
        self._report(Progress(phase="denoising", total_steps=self._request.total_steps))
        return values

    def _on_step_end(self, pipeline: DiffusionPipeline, index: int, timestep: int, values: dict[str, Any]) -> Any:
        self._report_step(index, values.get("latents"))
        return values

    def _report_step(self, index: int, latents: torch.Tensor | None) -> None:
        total = self._count_total_steps()
        shown = latents if self._denoised_latents is None else self._denoised_latents
        preview = (
            None if shown is None else self._previews.capture_preview(index + 1, shown[:: self._request.num_images])
        )
        self._report(Progress(phase="denoising", step=min(index + 1, total), total_steps=total, preview=preview))
        self.last_step_at = time.monotonic()
        if index + 1 >= total:
            self._report(Progress(phase="decoding", step=total, total_steps=total))

    def _count_total_steps(self) -> int:
        expected = self._request.total_steps
        taken: int = getattr(self._pipeline, "_num_timesteps", 0) or expected
        # Some schedulers take more steps than requested; with an input image, each pipeline rounds in its own way.
        return max(expected, taken) if self._request.image is None else taken


@contextmanager
def fresh_schedulers(pipeline: DiffusionPipeline, scheduler: str | None) -> Iterator[None]:
    """Give the call fresh schedulers, since they hold a request's state, and free its hooks even if it is aborted.

    `scheduler` names a different scheduler for the pipeline itself; None keeps the model's own.

    Raises:
        InvalidParamsError: The model does not support this scheduler.
    """
    own = [
        (pipe, name, component)
        for pipe in _get_nested_pipelines(pipeline)
        for name, component in pipe.components.items()
        if isinstance(component, SchedulerMixin)
    ]
    # Copies of schedulers that no call has used: to create them from their configurations takes six times as long.
    # A nested pipeline shares its scheduler with the pipeline that contains it.
    fresh = {id(component): copy.deepcopy(component) for _, _, component in own}
    if scheduler is not None:
        fresh[id(pipeline.scheduler)] = _build_scheduler(scheduler, pipeline)
    for pipe, name, component in own:
        setattr(pipe, name, fresh[id(component)])
    try:
        yield
    finally:
        for pipe, name, component in own:
            setattr(pipe, name, component)
        for pipe in _get_nested_pipelines(pipeline):
            pipe.maybe_free_model_hooks()


def _build_scheduler(name: str, pipeline: DiffusionPipeline) -> SchedulerMixin:
    own = pipeline.scheduler
    takes = get_compatible_schedulers(type(get_base_pipeline(pipeline)).__name__, type(own).__name__, own.config)
    if name not in takes:
        kind = "flow matching" if is_flow_matching(type(own).__name__, own.config) else "noise prediction"
        names = ", ".join(takes) or "only its own"
        raise InvalidParamsError(f"This model ({kind}) doesn't support the scheduler {name}. Supported: {names}.")
    named = SCHEDULERS[name]
    return getattr(diffusers, named.class_name).from_config(build_config(named, own.config))


def _get_nested_pipelines(pipeline: DiffusionPipeline) -> list[DiffusionPipeline]:
    nested = [getattr(pipeline, name, None) for name in ("prior_pipe", "decoder_pipe", BASE_ATTRIBUTE)]
    return [pipeline, *(pipe for pipe in nested if pipe is not None)]


def _get_inference_mode(pipeline: DiffusionPipeline) -> AbstractContextManager[Any]:
    """Return the context to call the pipeline in: `inference_mode`, or `no_grad` if it is offloaded.

    accelerate's offloading hooks need the tensors' version counters, which `inference_mode` disables.
    """
    offloaded = any(hasattr(part, "_hf_hook") for part in pipeline.components.values())
    return torch.no_grad() if offloaded else torch.inference_mode()


def _get_seeds(request: GenerationRequest) -> list[int]:
    return [(request.seed + index) % SEED_COUNT for index in range(request.num_images)]


def build_images(output: Any, requests: Sequence[GenerationRequest]) -> Iterator[tuple[GeneratedImage, ...]]:
    """Yield the images of each request, with their seeds, from a pipeline's output."""
    flags = getattr(output, "nsfw_content_detected", None) or [False] * len(output.images)
    made = zip(output.images, flags, strict=True)
    for request in requests:
        yield tuple(
            GeneratedImage(
                seed=seed, image=_restore_unmasked(image, request), flagged=bool(flag), blank=_is_blank(image)
            )
            for seed, (image, flag) in zip(_get_seeds(request), islice(made, request.num_images), strict=True)
        )


def _restore_unmasked(image: Image.Image, request: GenerationRequest) -> Image.Image:
    """Return the image with the area outside the mask restored, which encoding and decoding changes slightly."""
    if request.image is None or request.mask is None:
        return image
    return Image.composite(
        image, resize_input(request.image, request), resize_input(request.mask, request).convert("L")
    )


def _is_blank(image: Image.Image) -> bool:
    """Return whether an image is all black, which is the result of NaN and of overflows in half precision."""
    extrema = image.convert("L").getextrema()
    return extrema == (0, 0)
