"""Conversion of weights files from a family's original layout to pipeline components, as implemented in diffusers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import GGUFQuantizationConfig, pipelines
from diffusers.loaders import FromOriginalModelMixin
from diffusers.loaders.single_file import load_single_file_sub_model
from diffusers.loaders.single_file_utils import (
    SingleFileComponentError,
    is_clip_model_in_single_file,
    is_t5_in_single_file,
    load_single_file_checkpoint,
)
from safetensors import SafetensorError
from transformers import T5EncoderModel

from tasks_app.engine.model_files import INDEX_FILE
from tasks_app.errors import ModelLoadError

# Components that are published as GGUF.
GGUF_COMPONENTS = ("transformer", "unet")
# Errors that conversions raise for unexpected weights; no weights are on a device yet.
_CONVERSION_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)
# Arguments of a component's loader.
LoaderOptions = dict[str, Any]


def load_components(file: Path, base: Path, dtype: torch.dtype) -> dict[str, torch.nn.Module]:
    """Return by name the components in the file, with the configuration of the pipeline in the folder `base`.

    Raises:
        ModelLoadError: The file contains no component, or its weights differ from those of the base.
    """
    try:
        found = _convert_components(file, base, dtype)
    except _CONVERSION_ERRORS as error:
        why = f"different or missing weights ({type(error).__name__})"
        raise ModelLoadError(f"{file.name} does not fit its base model: {why}.") from error
    lacking = [name for name, part in found.items() if any(weight.is_meta for weight in part.parameters())]
    if lacking or not found:
        raise ModelLoadError(
            f"{file.name} does not fit its base model: no weights for {', '.join(lacking) or 'any component'}."
        )
    return found


def _convert_components(file: Path, base: Path, dtype: torch.dtype) -> dict[str, torch.nn.Module]:
    checkpoint = load_single_file_checkpoint(str(file), local_files_only=True)
    options: LoaderOptions = {"torch_dtype": dtype}
    kinds = dict(_iter_component_classes(base))
    if file.suffix == ".gguf":
        kinds = {name: kind for name, kind in kinds.items() if name in GGUF_COMPONENTS}
        options["quantization_config"] = GGUFQuantizationConfig(compute_dtype=dtype)
    brought = {name: kind for name, kind in kinds.items() if _has_weights_for(kind, checkpoint)}
    tried = {name: _convert_component(kind, name, checkpoint, base, options) for name, kind in brought.items()}
    return {name: part for name, part in tried.items() if part is not None}


def _iter_component_classes(base: Path) -> Iterator[tuple[str, type]]:
    """Yield the name and class of each component of the pipeline that is from diffusers or transformers."""
    for name, value in json.loads((base / INDEX_FILE).read_text()).items():
        if isinstance(value, list) and value[0] in ("diffusers", "transformers"):
            yield name, getattr(importlib.import_module(value[0]), value[1])


def _has_weights_for(kind: type, checkpoint: dict[str, torch.Tensor]) -> bool:
    if issubclass(kind, FromOriginalModelMixin):
        return True  # only the conversion itself shows whether it has
    if issubclass(kind, T5EncoderModel):
        return bool(is_t5_in_single_file(checkpoint))
    return bool(is_clip_model_in_single_file(kind, checkpoint))


def _convert_component(
    kind: type, name: str, checkpoint: dict[str, torch.Tensor], base: Path, options: LoaderOptions
) -> torch.nn.Module | None:
    """Return the component; None if the file has none of its weights."""
    try:
        part: torch.nn.Module = load_single_file_sub_model(
            library_name=kind.__module__.partition(".")[0],
            class_name=kind.__name__,
            name=name,
            checkpoint=dict(checkpoint),  # a copy, because conversions empty it
            pipelines=pipelines,
            is_pipeline_module=False,
            cached_model_config_path=str(base),
            local_files_only=True,
            **options,
        )
    except SingleFileComponentError:
        return None
    return part
