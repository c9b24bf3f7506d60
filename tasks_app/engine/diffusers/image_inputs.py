"""Pipelines that start from an image; they share the loaded pipeline's components, so nothing is in memory twice."""

from __future__ import annotations

from diffusers import DiffusionPipeline, SchedulerMixin
from PIL import Image

from tasks_app.engine.diffusers.capabilities import INPAINTING_UNET_CHANNELS
from tasks_app.engine.diffusers.prompts.weighting import enable_prompt_weighting
from tasks_app.engine.types import GenerationRequest
from tasks_app.errors import InvalidParamsError

# The two pipelines refer to each other by these attributes, so that they are garbage-collected together.
BASE_ATTRIBUTE, _DERIVED_ATTRIBUTE = "_derived_from", "_derived"


def pipeline_for(pipeline: DiffusionPipeline, request: GenerationRequest) -> DiffusionPipeline:
    """Return the pipeline for the request: the loaded one, or one that is derived from it at first use.

    Raises:
        InvalidParamsError: The request has an image, and the model does not support image inputs.
    """
    if request.image is None:
        return pipeline
    # Imported here because this import loads all of diffusers' pipelines, which takes 0.3 s.
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting

    auto = AutoPipelineForImage2Image if request.mask is None else AutoPipelineForInpainting
    derived: dict[type, DiffusionPipeline] = pipeline.__dict__.setdefault(_DERIVED_ATTRIBUTE, {})
    if auto not in derived:
        derived[auto] = _derive_pipeline(pipeline, auto, masked=request.mask is not None)
        if request.options.prompt_weighting:
            enable_prompt_weighting(derived[auto], type(pipeline).__name__)
    return derived[auto]


def get_base_pipeline(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """Return the loaded pipeline, which is this one or the one that it was derived from."""
    return getattr(pipeline, BASE_ATTRIBUTE, pipeline)


def resize_input(picture: Image.Image, request: GenerationRequest) -> Image.Image:
    """Return a request's image or mask, resized to the output size."""
    size = request.width or picture.width, request.height or picture.height
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _derive_pipeline(pipeline: DiffusionPipeline, auto: type, *, masked: bool) -> DiffusionPipeline:
    # New schedulers, because some pipelines change their scheduler's configuration when they are created.
    schedulers = {
        name: type(part).from_config(part.config)
        for name, part in pipeline.components.items()
        if isinstance(part, SchedulerMixin)
    }
    try:
        derived = auto.from_pipe(pipeline, **schedulers)  # type: ignore[attr-defined]
    except ValueError:  # diffusers has no pipeline of this kind for the family
        kind = "inpainting" if masked else "image-to-image"
        raise InvalidParamsError(f"This model doesn't support {kind}.") from None
    if masked and not _can_inpaint(derived):
        raise InvalidParamsError("This model doesn't support inpainting.")
    derived.set_progress_bar_config(disable=True)
    setattr(derived, BASE_ATTRIBUTE, pipeline)
    return derived


def _can_inpaint(pipeline: DiffusionPipeline) -> bool:
    unet = getattr(pipeline, "unet", None)
    return unet is None or unet.config.in_channels in INPAINTING_UNET_CHANNELS
