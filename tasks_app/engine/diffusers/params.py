"""Parameters of the diffusers task types. The web process imports this module: it uses DRF and nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from rest_framework import serializers

from tasks_app.engine import addon_files
from tasks_app.engine.diffusers.capabilities import get_native_pixels, supports_image_input
from tasks_app.engine.diffusers.schedulers import SCHEDULERS, read_compatible_schedulers
from tasks_app.engine.types import OutputFormat, UploadInfo, count_run_steps
from tasks_app.fields import (
    StrictCharField,
    StrictChoiceField,
    StrictFloatField,
    StrictIntegerField,
    StrictListField,
    StrictSerializer,
    StrictUUIDField,
    get_field_errors,
)

MAX_PROMPT_LENGTH = 4000
MAX_SEED = 2**32 - 1
MAX_LORAS = 8
MAX_EMBEDDINGS = 8
MODEL_HELP = "Name of a model that this server allows. Default: the server's default model."
IMAGES_HELP = "Image i uses the seed `seed + i` and its own random generator."
SIDE_OPTIONS: dict[str, Any] = {
    "min_value": 32,
    "max_value": 2048,
    "multiple_of": 8,
    "default": None,
    "allow_null": True,
    "help_text": "In pixels. Default: the model's native size.",
}


class LoraField(StrictCharField):
    """The name of a LoRA on this server."""

    default_error_messages = {"unknown": "Unknown LoRA. GET /loras lists the available ones."}

    def to_internal_value(self, data: Any) -> str:
        """Return the name; fail if the server has no LoRA of this name."""
        if data not in addon_files.get_addon_paths(self.context["loras_dir"]):
            self.fail("unknown")
        return str(data)


class LoraParams(StrictSerializer):
    """A LoRA and the factor with which it is added to the model's weights."""

    id = LoraField(min_length=1, max_length=255)
    weight = StrictFloatField(min_value=-4, max_value=4, default=1.0)


class EmbeddingField(StrictCharField):
    """The name of an embedding on this server."""

    default_error_messages = {"unknown": "Unknown embedding. GET /embeddings lists the available ones."}

    def to_internal_value(self, data: Any) -> str:
        """Return the name; fail if the server has no embedding of this name."""
        name = super().to_internal_value(data)
        if name not in addon_files.get_addon_paths(self.context["embeddings_dir"]):
            self.fail("unknown")
        return name


class TextToImageParams(StrictSerializer):
    """Parameters of a text-to-image task.

    The context provides `max_pixels`, `max_images`, `model_defaults`, `loras_dir` and `embeddings_dir`.

    `model_defaults` maps fields to values that override the defaults here; `model_folder` is the folder with the
    model's configuration, if it is known.

    Omitted values that are chosen later stay None: the seed, which the server picks, and the size, which is the
    model's own.
    """

    required_together = ("width", "height")
    # Parameters that some models don't support.
    optional_support = ("guidance_scale", "negative_prompt")
    # Parameters that name uploads.
    upload_params: tuple[str, ...] = ()
    # Parameters that may differ between the requests of one call; without any, each request runs in a call of its own.
    per_image_params: tuple[str, ...] = ("prompt", "negative_prompt", "seed", "output_format")

    provider = StrictChoiceField(["diffusers"], default="diffusers")
    model_id = StrictCharField(min_length=1, max_length=255, required=False, help_text=MODEL_HELP)
    prompt = StrictCharField(min_length=1, max_length=MAX_PROMPT_LENGTH, help_text="What to generate.")
    negative_prompt = StrictCharField(
        max_length=MAX_PROMPT_LENGTH, allow_blank=True, default="", help_text="What to avoid."
    )
    steps = StrictIntegerField(min_value=1, max_value=150, default=30)
    guidance_scale = StrictFloatField(min_value=0, max_value=50, default=7.5)
    seed = StrictIntegerField(min_value=0, max_value=MAX_SEED, default=None, help_text="Random if omitted.")
    width = StrictIntegerField(**SIDE_OPTIONS)
    height = StrictIntegerField(**SIDE_OPTIONS)

    scheduler = StrictChoiceField(
        list(SCHEDULERS), default=None, allow_null=True, help_text="Default: the model's own scheduler."
    )
    loras = StrictListField(child=LoraParams(), most=MAX_LORAS, default=list, help_text="LoRAs to apply to the model.")
    embeddings = StrictListField(
        child=EmbeddingField(min_length=1, max_length=255),
        most=MAX_EMBEDDINGS,
        default=list,
        help_text="Textual-inversion embeddings to load. Use their names in the prompts.",
    )
    output_format = StrictChoiceField(
        list(get_args(OutputFormat)), default="png", help_text="Format of the image files."
    )

    @staticmethod
    def get_native_pixels(folder: Path) -> int | None:
        """Return the number of pixels that the model in a folder generates by default; None if unknown."""
        return get_native_pixels(folder)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Return the fields with the server's limit on images and the model's own defaults."""
        fields = super().get_fields()
        for name, value in self.context["model_defaults"].items():
            fields[name].default = value
        many = self.context["max_images"]
        return {
            **fields,
            "num_images": StrictIntegerField(min_value=1, max_value=many, default=1, help_text=IMAGES_HELP),
        }

    @staticmethod
    def get_schedulers(folder: Path) -> list[str]:
        """Return the schedulers that the model in a folder supports; none if unknown."""
        return read_compatible_schedulers(folder)

    @staticmethod
    def supports_model(folder: Path) -> bool | None:
        """Return whether the model in a folder supports this task type; None if unknown."""
        return True

    def validate_scheduler(self, name: str | None) -> str | None:
        """Reject a scheduler that a local model does not support; for other models, the worker checks it."""
        folder = self.context["model_folder"]
        takes = self.get_schedulers(folder) if name and folder else []
        if takes and name not in takes:
            raise serializers.ValidationError(f"This model supports: {', '.join(takes)}.", code="invalid_choice")
        return name

    def validate_loras(self, loras: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Reject a LoRA that is named twice."""
        if len({lora["id"] for lora in loras}) < len(loras):
            raise serializers.ValidationError("Must not contain duplicates.", code="repeated")
        return loras

    def validate_embeddings(self, names: list[str]) -> list[str]:
        """Reject an embedding that is named twice, in the same or in different case."""
        if len({name.casefold() for name in names}) < len(names):
            raise serializers.ValidationError("Must not contain duplicates.", code="repeated")
        return names

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the values, and report an invalid size together with all other errors."""
        wrong_size = self._find_size_errors(data)
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({**wrong_size, **get_field_errors(error)}) from None
        if wrong_size:
            raise serializers.ValidationError(wrong_size)
        return values

    def _find_size_errors(self, data: Any) -> dict[str, Any]:
        width, height = (data.get(name) if isinstance(data, dict) else None for name in self.required_together)
        if (width is None) != (height is None):
            missing = "width" if width is None else "height"
            return {missing: [serializers.ErrorDetail("Set both width and height, or neither.", code="required")]}
        if type(width) is int and type(height) is int and width * height > self.context["max_pixels"]:
            message = f"width × height must be at most {self.context['max_pixels']} pixels."
            return {name: [serializers.ErrorDetail(message, code="range")] for name in ("width", "height")}
        return {}


class UploadField(StrictUUIDField):
    """The id of an image that the caller uploaded; the context's `uploaded` looks it up."""

    default_error_messages = {"unknown": "Upload not found or expired."}

    def to_internal_value(self, data: Any) -> Any:
        """Return the upload."""
        found: UploadInfo | None = self.context["uploaded"](super().to_internal_value(data))
        if found is None:
            self.fail("unknown")
        return found


class ImageToImageParams(TextToImageParams):
    """Parameters of an image-to-image task; the result has the size of the image, rounded down to multiples of 8."""

    upload_params: tuple[str, ...] = ("image",)
    per_image_params = ()

    image = UploadField(help_text="Id of the uploaded source image.")
    strength = StrictFloatField(
        min_value=0, max_value=1, default=0.8, help_text="How much to change: 0 keeps the image, 1 ignores it."
    )

    @staticmethod
    def supports_model(folder: Path) -> bool | None:
        """Return whether the model in a folder can start from an image; None if unknown."""
        return supports_image_input(folder, masked=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Return the fields without the model's own size, which does not apply here."""
        fields = super().get_fields()
        for name in self.required_together:
            fields[name].default = None
            fields[name].help_text = "In pixels. Default: the size of the source image; no other size is accepted."
        return fields

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values with the size and the uploads' ids.

        Raises:
            ValidationError: The model does not support this, the size differs from the image's, or no step is left.
        """
        image = values["image"]
        size = {"width": image.width // 8 * 8, "height": image.height // 8 * 8}
        wrong = {
            name: [f"Must be {side} to match the source image, or omitted."]
            for name, side in size.items()
            if values[name] not in (None, side)
        }
        if count_run_steps(values["steps"], values["strength"]) < 1:
            wrong["strength"] = ["steps × strength must be at least 1."]
        folder = self.context["model_folder"]
        if folder and self.supports_model(folder) is False:
            wrong["model_id"] = ["This model doesn't support this task type."]
        wrong |= self._find_upload_errors(values)
        if wrong:
            raise serializers.ValidationError(wrong)
        return {**values, **size, **{name: str(values[name].id) for name in self.upload_params}}

    def _find_upload_errors(self, values: dict[str, Any]) -> dict[str, list[str]]:
        return {}


class InpaintingParams(ImageToImageParams):
    """Parameters of an inpainting task, which regenerates only the white area of the mask."""

    upload_params = ("image", "mask")

    mask = UploadField(
        help_text="Id of an uploaded mask of the same size: white areas are regenerated, black areas are kept."
    )

    @staticmethod
    def supports_model(folder: Path) -> bool | None:
        """Return whether the model in a folder can be used for inpainting; None if unknown."""
        return supports_image_input(folder, masked=True)

    def _find_upload_errors(self, values: dict[str, Any]) -> dict[str, list[str]]:
        image, mask = values["image"], values["mask"]
        if (mask.width, mask.height) == (image.width, image.height):
            return {}
        return {"mask": [f"Must have the size of the source image, {image.width} × {image.height} pixels."]}
