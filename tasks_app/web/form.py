"""What the form offers: the bounds and defaults that the API itself holds a request to."""

from __future__ import annotations

from dataclasses import dataclass

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


PRIORITY = NumberInput(name="priority", minimum=LOWEST_PRIORITY, maximum=HIGHEST_PRIORITY, step=1, value=0)


@dataclass(frozen=True, kw_only=True)
class Form:
    """Everything that the form's template asks for."""

    models: list[str]
    model: str
    max_prompt: int | None
    numbers: dict[str, NumberInput]


def form() -> Form:
    """Return the form as this server's limits make it."""
    fields = parameters.fields()
    numbers = [_number(field) for field in fields.values() if isinstance(field, StrictIntegerField | StrictFloatField)]
    prompt = fields["prompt"]
    assert isinstance(prompt, serializers.CharField)
    return Form(
        models=catalog.plain_names(),
        model=settings.DEFAULT_MODEL_ID,
        max_prompt=prompt.max_length,
        numbers={number.name: number for number in [*numbers, PRIORITY]},
    )


def _number(field: StrictIntegerField | StrictFloatField) -> NumberInput:
    return NumberInput(
        name=str(field.field_name),
        minimum=field.min_value,
        maximum=field.max_value,
        step=field.multiple_of if isinstance(field, StrictIntegerField) else 0.5,
        value=field.default,
    )
