"""The parameters of a task type, as the serializer that its provider brings takes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string
from rest_framework import serializers

from tasks_app.engine.types import UploadInfo
from tasks_app.task_types.registry import TEXT_TO_IMAGE, TaskType

FindUpload = Callable[[UUID], UploadInfo | None]


def build_serializer(
    entry: TaskType,
    data: Any,
    *,
    defaults: Mapping[str, Any],
    max_images: int,
    folder: Path | None = None,
    uploaded: FindUpload = lambda upload_id: None,
) -> serializers.Serializer[Any]:
    """Return the serializer of these parameters; `defaults` go before its own.

    `folder` says what the model consists of, where this host has it. `uploaded` finds the uploads that the parameters
    may name.
    """
    context = {
        "max_pixels": settings.MAX_PIXELS,
        "max_images": max_images,
        "model_defaults": defaults,
        "model_folder": folder,
        "loras_dir": settings.LORAS_DIR,
        "embeddings_dir": settings.EMBEDDINGS_DIR,
        "uploaded": uploaded,
    }
    found: serializers.Serializer[Any] = import_string(entry.params)(data=data, context=context)
    return found


def get_schedulers(folder: Path, entry: TaskType = TEXT_TO_IMAGE) -> list[str]:
    """Return the schedulers that the model in a folder takes; none where it can't be told."""
    found: list[str] = import_string(entry.params).get_schedulers(folder)
    return found


def supports_model(folder: Path, entry: TaskType) -> bool | None:
    """Return whether the model in a folder can be asked for tasks of a type; None where it can't be told."""
    found: bool | None = import_string(entry.params).supports_model(folder)
    return found


def get_native_pixels(folder: Path, entry: TaskType = TEXT_TO_IMAGE) -> int | None:
    """Return how many pixels the model in a folder draws by itself; None where it can't be told."""
    found: int | None = import_string(entry.params).get_native_pixels(folder)
    return found


def get_optional_support(entry: TaskType) -> frozenset[str]:
    """Return the names of the parameters that not every model heeds."""
    return frozenset(import_string(entry.params).optional_support)


def get_upload_ids(entry: TaskType, params: Mapping[str, Any]) -> dict[str, UUID]:
    """Return the uploads that validated parameters name, by the parameters' names."""
    return {name: UUID(params[name]) for name in import_string(entry.params).upload_params}


def build_batch_key(
    entry: TaskType, model_id: str, revision: str, params: Mapping[str, Any], *, explicit_params: Iterable[str] = ()
) -> str:
    """Return what requests have in common that one call can draw, as 32 hexadecimal digits.

    Of the parameters these are all but those that the serializer calls `individual`; whether there is a negative prompt
    counts, since a pipeline does without one what it doesn't do with an empty one. `explicit_params` counts, since
    they are refused for all or for none. Empty where nothing may differ: such requests run alone.
    """
    individual = import_string(entry.params).per_image_params
    if not individual:
        return ""
    common = {name: value for name, value in params.items() if name not in individual}
    shape = [
        entry.name,
        entry.provider,
        model_id,
        revision,
        bool(params["negative_prompt"]),
        common,
        sorted(explicit_params),
    ]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:32]


def find_default_errors(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return by name what is wrong with values that shall stand in for parameters of a request."""
    checked = _build_default_serializer({"prompt": "any", **values})
    return {} if checked.is_valid() else {name: [str(why) for why in found] for name, found in checked.errors.items()}


def get_param_fields(entry: TaskType = TEXT_TO_IMAGE) -> Mapping[str, serializers.Field[Any, Any, Any, Any]]:
    """Return the fields of the parameters, for their bounds, choices and defaults."""
    return _build_default_serializer({}, entry).fields


def _build_default_serializer(data: Mapping[str, Any], entry: TaskType = TEXT_TO_IMAGE) -> serializers.Serializer[Any]:
    return build_serializer(entry, data, defaults={}, max_images=settings.MAX_IMAGES)
