"""What the form offers: the bounds and defaults that the API itself holds a request to."""

from __future__ import annotations

import json
from dataclasses import dataclass

from django.conf import settings
from rest_framework import serializers

from tasks_app.catalog import capabilities, resolve
from tasks_app.catalog.resolve import ResolvedModel
from tasks_app.engine import addon_files
from tasks_app.fields import StrictChoiceField, StrictFloatField, StrictIntegerField
from tasks_app.models import HIGHEST_PRIORITY, LOWEST_PRIORITY
from tasks_app.task_types import parameters
from tasks_app.task_types.registry import IMAGE_TO_IMAGE


@dataclass(frozen=True, kw_only=True)
class NumberInput:
    """A number to be entered. One that is left empty gets the default, which the model may say or the server draw."""

    name: str
    minimum: float
    maximum: float
    step: float
    default: float | None


@dataclass(frozen=True, kw_only=True)
class ModelOption:
    """A model to be chosen, and as JSON what is known of it: defaults, schedulers, types of tasks, pixels it draws."""

    name: str
    chosen: bool
    defaults: str = "{}"
    schedulers: str = "null"
    types: str = "null"
    area: str = "null"


@dataclass(frozen=True, kw_only=True)
class Form:
    """Everything that the form's template asks for."""

    models: list[ModelOption]
    schedulers: list[str]
    loras: list[str]
    lora_weight: NumberInput
    embeddings: list[str]
    formats: list[str]
    max_prompt: int | None
    max_pixels: int
    numbers: dict[str, NumberInput]


PRIORITY = NumberInput(name="priority", minimum=LOWEST_PRIORITY, maximum=HIGHEST_PRIORITY, step=1, default=0)


def form() -> Form:
    """Return the form as this server's limits and models make it."""
    fields = parameters.fields()
    numbers = [_number(field) for field in fields.values() if isinstance(field, StrictIntegerField | StrictFloatField)]
    prompt = fields["prompt"]
    assert isinstance(prompt, serializers.CharField)
    return Form(
        models=_models(),
        schedulers=_choices(fields["scheduler"]),
        loras=list(addon_files.paths(settings.LORAS_DIR)),
        lora_weight=_number(_lora_weight(fields["loras"])),
        embeddings=list(addon_files.paths(settings.EMBEDDINGS_DIR)),
        formats=_choices(fields["output_format"]),
        max_prompt=prompt.max_length,
        max_pixels=settings.MAX_PIXELS,
        numbers={number.name: number for number in [*numbers, _number(_strength()), PRIORITY]},
    )


def _models() -> list[ModelOption]:
    default, named = resolve.menu()
    return [_option(name, model, chosen=name == default) for name, model in named.items()]


def _option(name: str, model: ResolvedModel | None, *, chosen: bool) -> ModelOption:
    if model is None:
        return ModelOption(name=name, chosen=chosen)
    told = {
        "defaults": model.defaults,
        "schedulers": capabilities.schedulers(model.model_id, model.revision),
        "types": capabilities.types(model.model_id, model.revision),
        "area": capabilities.area(model.model_id, model.revision),
    }
    return ModelOption(name=name, chosen=chosen, **{key: json.dumps(value) for key, value in told.items()})


def _choices(field: object) -> list[str]:
    assert isinstance(field, StrictChoiceField)
    return field.choices


def _strength() -> StrictFloatField:
    strength = parameters.fields(IMAGE_TO_IMAGE)["strength"]
    assert isinstance(strength, StrictFloatField)
    return strength


def _lora_weight(loras: object) -> StrictFloatField:
    assert isinstance(loras, serializers.ListField)
    assert isinstance(loras.child, serializers.Serializer)
    weight = loras.child.fields["weight"]
    assert isinstance(weight, StrictFloatField)
    return weight


def _number(field: StrictIntegerField | StrictFloatField) -> NumberInput:
    return NumberInput(
        name=str(field.field_name),
        minimum=field.min_value,
        maximum=field.max_value,
        step=field.multiple_of if isinstance(field, StrictIntegerField) else _step(field.max_value),
        default=field.default,
    )


def _step(maximum: float) -> float:
    """Return how far a slider of so long a way goes at once."""
    return 0.5 if maximum > 1 else 0.05
