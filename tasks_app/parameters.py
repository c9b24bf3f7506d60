"""The parameters of a task type, as the serializer that its provider brings takes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from rest_framework import serializers

from tasks_app.task_types import TEXT_TO_IMAGE, TaskType


def serializer(
    entry: TaskType, data: Any, *, defaults: Mapping[str, Any], max_images: int, folder: Path | None = None
) -> serializers.Serializer[Any]:
    """Return the serializer of these parameters; `defaults` go before its own, `folder` is where the model may lie."""
    context = {
        "max_pixels": settings.MAX_PIXELS,
        "max_images": max_images,
        "model_defaults": defaults,
        "model_folder": folder,
    }
    found: serializers.Serializer[Any] = import_string(entry.params)(data=data, context=context)
    return found


def refusable(entry: TaskType) -> frozenset[str]:
    """Return the names of the parameters that not every model heeds."""
    return frozenset(import_string(entry.params).refusable)


def batch_key(
    entry: TaskType, model_id: str, revision: str, params: Mapping[str, Any], *, sent: Iterable[str] = ()
) -> str:
    """Return what requests have in common that one call can draw, as 32 hexadecimal digits.

    Of the parameters these are all but those that the serializer calls `individual`; whether there is a negative prompt
    counts, since a pipeline does without one what it doesn't do with an empty one. `sent` counts, since it is refused
    of all or of none.
    """
    individual = import_string(entry.params).individual
    common = {name: value for name, value in params.items() if name not in individual}
    shape = [entry.name, entry.provider, model_id, revision, bool(params["negative_prompt"]), common, sorted(sent)]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:32]


def wrong_defaults(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return by name what is wrong with values that shall stand in for parameters of a request."""
    checked = _serializer({"prompt": "any", **values})
    return {} if checked.is_valid() else {name: [str(why) for why in found] for name, found in checked.errors.items()}


def fields() -> Mapping[str, serializers.Field[Any, Any, Any, Any]]:
    """Return the fields of the parameters, for their bounds, choices and defaults."""
    return _serializer({}).fields


def _serializer(data: Mapping[str, Any]) -> serializers.Serializer[Any]:
    return serializer(TEXT_TO_IMAGE, data, defaults={}, max_images=settings.MAX_IMAGES)
