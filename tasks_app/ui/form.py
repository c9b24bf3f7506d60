"""Contents of the web UI's form, with the same bounds and defaults that the API applies to a request."""

from __future__ import annotations

import json
from dataclasses import dataclass

from django.conf import settings
from rest_framework import serializers

from tasks_app.catalog import capabilities
from tasks_app.catalog import choices as model_choices
from tasks_app.catalog.resolve import ResolvedModel
from tasks_app.engine import addon_files
from tasks_app.fields import StrictChoiceField, StrictFloatField, StrictIntegerField
from tasks_app.models import HIGHEST_PRIORITY, LOWEST_PRIORITY
from tasks_app.task_types import parameters
from tasks_app.task_types.registry import IMAGE_TO_IMAGE


@dataclass(frozen=True, kw_only=True)
class NumberInput:
    """A number input. `default` applies if it is left empty; None if the model or the server provides the value."""

    name: str
    minimum: float
    maximum: float
    step: float
    default: float | None


@dataclass(frozen=True, kw_only=True)
class ModelOption:
    """A model to choose, with its defaults, schedulers, task types and native area in pixels as JSON."""

    name: str
    chosen: bool
    defaults: str = "{}"
    schedulers: str = "null"
    types: str = "null"
    area: str = "null"


@dataclass(frozen=True, kw_only=True)
class Form:
    """All variables of the form's template."""

    models: list[ModelOption]
    schedulers: list[str]
    loras: list[str]
    lora_weight: NumberInput
    embeddings: list[str]
    formats: list[str]
    max_prompt: int | None
    max_pixels: int
    numbers: dict[str, NumberInput]


PRIORITY_INPUT = NumberInput(name="priority", minimum=LOWEST_PRIORITY, maximum=HIGHEST_PRIORITY, step=1, default=0)


def build_form() -> Form:
    """Return the form for this server's limits and models."""
    fields = parameters.get_param_fields()
    numbers = [
        _build_number_input(field)
        for field in fields.values()
        if isinstance(field, StrictIntegerField | StrictFloatField)
    ]
    prompt = fields["prompt"]
    assert isinstance(prompt, serializers.CharField)
    return Form(
        models=_build_model_options(),
        schedulers=_get_choices(fields["scheduler"]),
        loras=list(addon_files.get_addon_paths(settings.LORAS_DIR)),
        lora_weight=_build_number_input(_get_lora_weight_field(fields["loras"])),
        embeddings=list(addon_files.get_addon_paths(settings.EMBEDDINGS_DIR)),
        formats=_get_choices(fields["output_format"]),
        max_prompt=prompt.max_length,
        max_pixels=settings.MAX_PIXELS,
        numbers={
            number.name: number for number in [*numbers, _build_number_input(_get_strength_field()), PRIORITY_INPUT]
        },
    )


def _build_model_options() -> list[ModelOption]:
    default, named = model_choices.get_model_choices()
    return [_build_model_option(name, model, chosen=name == default) for name, model in named.items()]


def _build_model_option(name: str, model: ResolvedModel | None, *, chosen: bool) -> ModelOption:
    if model is None:
        return ModelOption(name=name, chosen=chosen)
    told = {
        "defaults": model.defaults,
        "schedulers": capabilities.get_schedulers(model.model_id, model.revision),
        "types": capabilities.get_supported_task_types(model.model_id, model.revision),
        "area": capabilities.get_native_pixels(model.model_id, model.revision),
    }
    return ModelOption(name=name, chosen=chosen, **{key: json.dumps(value) for key, value in told.items()})


def _get_choices(field: object) -> list[str]:
    assert isinstance(field, StrictChoiceField)
    return field.choices


def _get_strength_field() -> StrictFloatField:
    strength = parameters.get_param_fields(IMAGE_TO_IMAGE)["strength"]
    assert isinstance(strength, StrictFloatField)
    return strength


def _get_lora_weight_field(loras: object) -> StrictFloatField:
    assert isinstance(loras, serializers.ListField)
    assert isinstance(loras.child, serializers.Serializer)
    weight = loras.child.fields["weight"]
    assert isinstance(weight, StrictFloatField)
    return weight


def _build_number_input(field: StrictIntegerField | StrictFloatField) -> NumberInput:
    return NumberInput(
        name=str(field.field_name),
        minimum=field.min_value,
        maximum=field.max_value,
        step=field.multiple_of if isinstance(field, StrictIntegerField) else _get_slider_step(field.max_value),
        default=field.default,
    )


def _get_slider_step(maximum: float) -> float:
    """Return the step of a slider with this maximum."""
    return 0.5 if maximum > 1 else 0.05
