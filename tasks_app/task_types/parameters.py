"""Parameters of a task type, accessed through the serializer that its provider supplies."""

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
    """Return the serializer of these parameters; `defaults` override its own defaults.

    `folder` contains the model's configuration, if this host has it. `uploaded` looks up the uploads that the
    parameters name.
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
    """Return the schedulers that the model in a folder supports; empty if they can't be determined."""
    found: list[str] = import_string(entry.params).get_schedulers(folder)
    return found


def supports_model(folder: Path, entry: TaskType) -> bool | None:
    """Return whether the model in a folder supports a task type; None if that can't be determined."""
    found: bool | None = import_string(entry.params).supports_model(folder)
    return found


def get_native_pixels(folder: Path, entry: TaskType = TEXT_TO_IMAGE) -> int | None:
    """Return the pixel count of the native size of the model in a folder; None if it can't be determined."""
    found: int | None = import_string(entry.params).get_native_pixels(folder)
    return found


def get_optional_support(entry: TaskType) -> frozenset[str]:
    """Return the names of the parameters that some models don't support."""
    return frozenset(import_string(entry.params).optional_support)


def get_upload_ids(entry: TaskType, params: Mapping[str, Any]) -> dict[str, UUID]:
    """Return the upload ids in validated parameters, by parameter name."""
    return {name: UUID(params[name]) for name in import_string(entry.params).upload_params}


def build_batch_key(
    entry: TaskType, model_id: str, revision: str, params: Mapping[str, Any], *, explicit_params: Iterable[str] = ()
) -> str:
    """Return a key shared by requests that can run in one call, as 32 hexadecimal digits.

    The key covers all parameters except the serializer's `per_image_params`. It also covers the presence of a negative
    prompt, since a pipeline treats a missing one differently from an empty one, and `explicit_params`, since
    a model rejects these parameters for the whole call. The key is empty if no parameter may differ:
    such requests run unbatched.
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
    """Return by name the errors of values that are to be defaults of request parameters."""
    checked = _build_default_serializer({"prompt": "any", **values})
    return {} if checked.is_valid() else {name: [str(why) for why in found] for name, found in checked.errors.items()}


def get_param_fields(entry: TaskType = TEXT_TO_IMAGE) -> Mapping[str, serializers.Field[Any, Any, Any, Any]]:
    """Return the fields of the parameters, with their bounds, choices and defaults."""
    return _build_default_serializer({}, entry).fields


def _build_default_serializer(data: Mapping[str, Any], entry: TaskType = TEXT_TO_IMAGE) -> serializers.Serializer[Any]:
    return build_serializer(entry, data, defaults={}, max_images=settings.MAX_IMAGES)
