"""Pipelines that begin with a picture, made of the parts of the one that is loaded: nothing is in memory twice."""

from __future__ import annotations

from diffusers import DiffusionPipeline, SchedulerMixin
from PIL import Image

from tasks_app.engine.diffusers.capabilities import UNET_CHANNELS
from tasks_app.engine.diffusers.prompts.weighting import weigh
from tasks_app.engine.types import GenerationRequest
from tasks_app.errors import InvalidParams

# What the two are called as attributes of each other: they are collected together once the cache lets go.
ORIGIN, _DERIVED = "_derived_from", "_derived"


def pipeline_for(pipeline: DiffusionPipeline, request: GenerationRequest) -> DiffusionPipeline:
    """Return the pipeline that carries the request out: the loaded one, or one derived of it at the first use.

    Raises:
        InvalidParams: the request begins with a picture, and the model can't.
    """
    if request.image is None:
        return pipeline
    # Only now: with them come all of diffusers' pipelines, for 0.3 s.
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting

    auto = AutoPipelineForImage2Image if request.mask is None else AutoPipelineForInpainting
    derived: dict[type, DiffusionPipeline] = pipeline.__dict__.setdefault(_DERIVED, {})
    if auto not in derived:
        derived[auto] = _derive(pipeline, auto, masked=request.mask is not None)
        if request.options.prompt_weighting:
            weigh(derived[auto], type(pipeline).__name__)
    return derived[auto]


def origin(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """Return the pipeline that was loaded, of which this one may be derived."""
    return getattr(pipeline, ORIGIN, pipeline)


def fitted(picture: Image.Image, request: GenerationRequest) -> Image.Image:
    """Return a request's picture or mask in the size that is to be drawn."""
    size = request.width or picture.width, request.height or picture.height
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _derive(pipeline: DiffusionPipeline, auto: type, *, masked: bool) -> DiffusionPipeline:
    # Some pipelines change their scheduler's configuration when they are made.
    schedulers = {
        name: type(part).from_config(part.config)
        for name, part in pipeline.components.items()
        if isinstance(part, SchedulerMixin)
    }
    try:
        derived = auto.from_pipe(pipeline, **schedulers)  # type: ignore[attr-defined]
    except ValueError:  # as diffusers says that the family has none
        raise InvalidParams("This model can't begin with a picture in this way.") from None
    if masked and not _can_inpaint(derived):
        raise InvalidParams("This model's network can't be used for inpainting.")
    derived.set_progress_bar_config(disable=True)
    setattr(derived, ORIGIN, pipeline)
    return derived


def _can_inpaint(pipeline: DiffusionPipeline) -> bool:
    unet = getattr(pipeline, "unet", None)
    return unet is None or unet.config.in_channels in UNET_CHANNELS
