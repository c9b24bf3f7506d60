"""Mapping of a request to a pipeline's call arguments, based on its signature and its network's configuration.

A parameter that the client set and the model does not support is rejected; a default that it does not support is
omitted.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from diffusers import DiffusionPipeline

from tasks_app.engine.diffusers.image_inputs import get_base_pipeline, resize_input
from tasks_app.engine.types import GenerationRequest
from tasks_app.errors import InvalidParamsError

# Arguments that some pipelines need in addition to those of the request.
PIPELINE_OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    # Otherwise it generates the nearest of ten sizes instead of the requested one.
    "HunyuanDiTPipeline": {"use_resolution_binning": False},
}
# Width and height must be multiples of this, if not of 8: with others, some pipelines fail and some round.
SIDE_MULTIPLES: Mapping[str, int] = {
    **dict.fromkeys(("AuraFlowPipeline", "HunyuanDiTPipeline", "Lumina2Pipeline", "StableDiffusion3Pipeline"), 16),
    **dict.fromkeys(("ChromaPipeline", "FluxPipeline", "QwenImagePipeline", "ZImagePipeline"), 16),
    "KandinskyV22CombinedPipeline": 64,
}
# Copies of the generator list, if not one: its prior also samples for the negative prompts, after the prompts.
GENERATOR_COPIES: Mapping[str, int] = {"KandinskyV22CombinedPipeline": 2}
_FIELDS_BY_ARGUMENT = {"num_images_per_prompt": "num_images", "num_inference_steps": "steps", "mask_image": "mask"}


class PipelineArguments:
    """Call arguments that one pipeline supports."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        """Inspect the signature of the pipeline's call."""
        self._pipeline = pipeline
        self.parameters = inspect.signature(pipeline.__call__).parameters
        family = type(get_base_pipeline(pipeline)).__name__
        self.overrides = PIPELINE_OVERRIDES.get(family, {})
        self._side_multiple = SIDE_MULTIPLES.get(family, 8)
        self.generator_copies = GENERATOR_COPIES.get(family, 1)

    def check_supported(self, names: Iterable[str]) -> None:
        """Reject arguments that the pipeline does not support.

        Raises:
            InvalidParamsError: There are unsupported arguments; the message lists them by their names in a request.
        """
        if unknown := sorted(_FIELDS_BY_ARGUMENT.get(name, name) for name in set(names) - self.parameters.keys()):
            raise InvalidParamsError(f"This model doesn't support: {', '.join(unknown)}.")

    def build_size(self, request: GenerationRequest) -> dict[str, int]:
        """Return the arguments for the size, none for the model's own.

        Raises:
            InvalidParamsError: The model can't generate exactly this size.
        """
        given = {"width": request.width, "height": request.height}
        sides = {name: side for name, side in given.items() if side is not None}
        if wrong := sorted(name for name, side in sides.items() if side % self._side_multiple):
            raise InvalidParamsError(
                f"{' and '.join(wrong)}: must be a multiple of {self._side_multiple} for this model."
            )
        # An input image determines the size itself if the pipeline has no parameters for it.
        return {name: side for name, side in sides.items() if request.image is None or name in self.parameters}

    def build_image_inputs(self, request: GenerationRequest) -> dict[str, Any]:
        """Return the arguments for the request's image, mask and strength."""
        if request.image is None:
            return {}
        given = (
            {"image": request.image} if request.mask is None else {"image": request.image, "mask_image": request.mask}
        )
        sized = {name: resize_input(picture, request) for name, picture in given.items()}
        # One input per output: not all pipelines repeat it, and each has to be encoded with its own generator.
        many = request.num_images
        return {
            "strength": request.strength,
            **{name: [each] * many if many > 1 else each for name, each in sized.items()},
        }

    def build_guidance(self, request: GenerationRequest) -> dict[str, Any]:
        """Return the arguments for the guidance and the negative prompt.

        In pipelines that have both, `true_cfg_scale` weighs the prompt against a negative one, and `guidance_scale` is
        an input of a distilled network.

        Raises:
            InvalidParamsError: The client set one of them, and the model does not support it.
        """
        name = self._find_guidance_parameter(request)
        if name is None:
            return self._reject_explicit(request, "guidance_scale") | self._build_negative_prompt(request, heeded=False)
        heeded = self._uses_negative_prompt(name, request.guidance_scale)
        return {name: request.guidance_scale} | self._build_negative_prompt(request, heeded=heeded)

    def _find_guidance_parameter(self, request: GenerationRequest) -> str | None:
        true_cfg = self.parameters.get("true_cfg_scale")
        if true_cfg is not None:
            if request.negative_prompt or true_cfg.default > 1:
                return "true_cfg_scale"
            return "guidance_scale" if self._is_distilled() else None
        return "guidance_scale" if "guidance_scale" in self.parameters else None

    def _is_distilled(self) -> bool:
        return bool(getattr(self._pipeline.transformer.config, "guidance_embeds", False))

    def _uses_negative_prompt(self, name: str, guidance: float) -> bool:
        """Return whether the pipeline uses a negative prompt with this guidance."""
        if name == "guidance_scale":
            # `do_classifier_free_guidance` reads this attribute; the call sets it again.
            self._pipeline._guidance_scale = guidance
            return bool(getattr(self._pipeline, "do_classifier_free_guidance", guidance > 1))
        return guidance > 1

    def _build_negative_prompt(self, request: GenerationRequest, *, heeded: bool) -> dict[str, Any]:
        if "negative_prompt" not in self.parameters:
            return self._reject_explicit(request, "negative_prompt")
        if not heeded and request.negative_prompt and "negative_prompt" in request.explicit_params:
            raise InvalidParamsError("This model uses negative_prompt only with a guidance_scale above 1.")
        # Some pipelines apply no guidance unless they get a negative prompt, even an empty one.
        return (
            {"negative_prompt": request.negative_prompt}
            if request.negative_prompt or self._needs_negative_prompt()
            else {}
        )

    def _needs_negative_prompt(self) -> bool:
        true_cfg = self.parameters.get("true_cfg_scale")
        return true_cfg is not None and true_cfg.default > 1

    def _reject_explicit(self, request: GenerationRequest, field: str) -> dict[str, Any]:
        if field in request.explicit_params and getattr(request, field) != "":
            raise InvalidParamsError(f"This model doesn't support: {field}.")
        return {}
