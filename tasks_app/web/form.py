"""What the form offers: the bounds and defaults that the API itself holds a request to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from rest_framework import serializers

from tasks_app import catalog, parameters
from tasks_app.models import HIGHEST_PRIORITY, LOWEST_PRIORITY
from tasks_app.strict import StrictFloatField, StrictIntegerField


@dataclass(frozen=True, kw_only=True)
class NumberInput:
    """A number to be entered; one without a value is left to the server or the model."""

    name: str
    minimum: float
    maximum: float
    step: float
    value: float | None


# Fields of the form that a model may have defaults of its own for.
SHOWN = ("steps", "guidance_scale", "width", "height", "negative_prompt")
PRIORITY = NumberInput(name="priority", minimum=LOWEST_PRIORITY, maximum=HIGHEST_PRIORITY, step=1, value=0)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A model to choose; `defaults` are what the fields have until somebody changes them, as JSON."""

    name: str
    chosen: bool
    defaults: str


@dataclass(frozen=True, kw_only=True)
class Form:
    """Everything that the form's template asks for."""

    models: list[Choice]
    max_prompt: int | None
    negative_prompt: str
    numbers: dict[str, NumberInput]


def form() -> Form:
    """Return the form as this server's limits and models make it."""
    fields = parameters.fields()
    common = {name: fields[name].default for name in SHOWN}
    models = {name: common | _shown(own) for name, own in catalog.defaults_by_name().items()}
    chosen = models.get(settings.DEFAULT_MODEL_ID, common)
    numbers = [
        _number(field, chosen) for field in fields.values() if isinstance(field, StrictIntegerField | StrictFloatField)
    ]
    prompt = fields["prompt"]
    assert isinstance(prompt, serializers.CharField)
    return Form(
        models=[
            Choice(name=name, chosen=name == settings.DEFAULT_MODEL_ID, defaults=json.dumps(own))
            for name, own in models.items()
        ],
        max_prompt=prompt.max_length,
        negative_prompt=str(chosen["negative_prompt"]),
        numbers={number.name: number for number in [*numbers, PRIORITY]},
    )


def _shown(defaults: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in defaults.items() if name in SHOWN}


def _number(field: StrictIntegerField | StrictFloatField, defaults: dict[str, Any]) -> NumberInput:
    return NumberInput(
        name=str(field.field_name),
        minimum=field.min_value,
        maximum=field.max_value,
        step=field.multiple_of if isinstance(field, StrictIntegerField) else 0.5,
        value=defaults.get(str(field.field_name), field.default),
    )
