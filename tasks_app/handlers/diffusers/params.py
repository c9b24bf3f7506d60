"""The parameters of `text-to-image` with diffusers. The web loads this module: DRF, and nothing heavy."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from tasks_app.strict import StrictCharField, StrictChoiceField, StrictFloatField, StrictIntegerField, StrictSerializer

MAX_PROMPT = 4000
MAX_SEED = 2**32 - 1


class TextToImageParams(StrictSerializer):
    """The fields of `params`; the context brings `max_pixels`, `max_images` and `default_model_id`.

    Absent values that others choose stay None: the seed, which the server draws, and the size, which is the model's.
    """

    provider = StrictChoiceField(["diffusers"], default="diffusers")
    model_id = StrictCharField(min_length=1, max_length=255, required=False)
    prompt = StrictCharField(min_length=1, max_length=MAX_PROMPT)
    negative_prompt = StrictCharField(max_length=MAX_PROMPT, allow_blank=True, default="")
    steps = StrictIntegerField(min_value=1, max_value=150, default=30)
    guidance_scale = StrictFloatField(min_value=0, max_value=50, default=7.5)
    seed = StrictIntegerField(min_value=0, max_value=MAX_SEED, default=None)
    width = StrictIntegerField(min_value=32, max_value=2048, multiple_of=8, default=None, allow_null=True)
    height = StrictIntegerField(min_value=32, max_value=2048, multiple_of=8, default=None, allow_null=True)
    num_images = StrictIntegerField(min_value=1, max_value=64, default=1)

    def validate_num_images(self, value: int) -> int:
        """Hold the server's own limit."""
        if value > self.context["max_images"]:
            raise serializers.ValidationError(f"Must be between 1 and {self.context['max_images']}.", code="range")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Hold the server's limit of pixels, and fill in its default model."""
        width, height = attrs["width"], attrs["height"]
        if width and height and width * height > self.context["max_pixels"]:
            message = f"width × height must be at most {self.context['max_pixels']} pixels."
            raise serializers.ValidationError({"width": [message], "height": [message]}, code="range")
        attrs.setdefault("model_id", self.context["default_model_id"])
        return attrs
