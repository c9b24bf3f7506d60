"""How a pipeline is told what to draw: by which names, as its signature and its network's configuration say.

What a client sent and the model can't heed is refused; a default that only stands in for what nobody sent is left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from diffusers import DiffusionPipeline

from tasks_app.engine.diffusers.image_inputs import get_base_pipeline, resize_input
from tasks_app.engine.types import GenerationRequest
from tasks_app.errors import InvalidParamsError

# Arguments that some pipelines need beside those that a request brings.
PIPELINE_OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    # It draws the nearest of ten sizes otherwise, whatever size was asked for.
    "HunyuanDiTPipeline": {"use_resolution_binning": False},
}
# Of how many pixels a side is a multiple, where not of eight: some fail at others, some round them.
SIDE_MULTIPLES: Mapping[str, int] = {
    **dict.fromkeys(("AuraFlowPipeline", "HunyuanDiTPipeline", "Lumina2Pipeline", "StableDiffusion3Pipeline"), 16),
    **dict.fromkeys(("ChromaPipeline", "FluxPipeline", "QwenImagePipeline", "ZImagePipeline"), 16),
    "KandinskyV22CombinedPipeline": 64,
}
# How often all generators are handed over, where not once: its prior draws for the negative prompts behind the prompts.
GENERATOR_COPIES: Mapping[str, int] = {"KandinskyV22CombinedPipeline": 2}
_FIELDS_BY_ARGUMENT = {"num_images_per_prompt": "num_images", "num_inference_steps": "steps", "mask_image": "mask"}


class PipelineArguments:
    """The words that one pipeline knows."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        """Look at what its call takes."""
        self._pipeline = pipeline
        self.parameters = inspect.signature(pipeline.__call__).parameters
        family = type(get_base_pipeline(pipeline)).__name__
        self.overrides = PIPELINE_OVERRIDES.get(family, {})
        self._side_multiple = SIDE_MULTIPLES.get(family, 8)
        self.generator_copies = GENERATOR_COPIES.get(family, 1)

    def check_supported(self, names: Iterable[str]) -> None:
        """Refuse, under the names that a request has for them, arguments that it doesn't take.

        Raises:
            InvalidParams: there are such.
        """
        if unknown := sorted(_FIELDS_BY_ARGUMENT.get(name, name) for name in set(names) - self.parameters.keys()):
            raise InvalidParamsError(f"This model doesn't take: {', '.join(unknown)}.")

    def build_size(self, request: GenerationRequest) -> dict[str, int]:
        """Return the arguments for the size, none for the model's own.

        Raises:
            InvalidParams: the model can't draw just that.
        """
        given = {"width": request.width, "height": request.height}
        sides = {name: side for name, side in given.items() if side is not None}
        if wrong := sorted(name for name, side in sides.items() if side % self._side_multiple):
            raise InvalidParamsError(f"{' and '.join(wrong)}: this model takes multiples of {self._side_multiple}.")
        # A picture that is begun with says its size itself, unless it is asked for.
        return {name: side for name, side in sides.items() if request.image is None or name in self.parameters}

    def build_image_inputs(self, request: GenerationRequest) -> dict[str, Any]:
        """Return the arguments for what the request begins with."""
        if request.image is None:
            return {}
        given = (
            {"image": request.image} if request.mask is None else {"image": request.image, "mask_image": request.mask}
        )
        sized = {name: resize_input(picture, request) for name, picture in given.items()}
        # One for each that is drawn: not all pipelines repeat it, and each is to be encoded by its own generator.
        many = request.num_images
        return {
            "strength": request.strength,
            **{name: [each] * many if many > 1 else each for name, each in sized.items()},
        }

    def build_guidance(self, request: GenerationRequest) -> dict[str, Any]:
        """Return the arguments that a guidance and a negative prompt become.

        In pipelines that have both, `true_cfg_scale` weighs the prompt against a negative one, and `guidance_scale` is
        an input of a distilled network.

        Raises:
            InvalidParams: the client sent one of them, and the model can't heed it.
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
        """Return whether the pipeline looks at a negative prompt with this guidance."""
        if name == "guidance_scale":
            # What its property of that name answers by; the call sets it anew.
            self._pipeline._guidance_scale = guidance
            return bool(getattr(self._pipeline, "do_classifier_free_guidance", guidance > 1))
        return guidance > 1

    def _build_negative_prompt(self, request: GenerationRequest, *, heeded: bool) -> dict[str, Any]:
        if "negative_prompt" not in self.parameters:
            return self._reject_explicit(request, "negative_prompt")
        if not heeded and request.negative_prompt and "negative_prompt" in request.explicit_params:
            raise InvalidParamsError("This model heeds a negative_prompt only with a guidance_scale above 1.")
        # Without one, even an empty one, some pipelines don't guide at all.
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
            raise InvalidParamsError(f"This model doesn't take: {field}.")
        return {}
