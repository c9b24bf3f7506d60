"""LoRAs on a loaded pipeline: adapter layers beside the model's own, attached for the calls that use them.

The weights of the model itself are never modified, so that without LoRAs its results are the same as before, bit for
bit. Attached LoRAs stay until a call uses other ones.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from tasks_app.engine import addon_files
from tasks_app.engine.diffusers.loading.snapshots import hash_file
from tasks_app.engine.types import LoadOptions, RequestedLora
from tasks_app.errors import InvalidParamsError, ModelLoadError

# Several adapters at once are intended, and a file need not have weights for every component.
warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
for _name in ("diffusers.loaders.peft", "diffusers.loaders.lora_base"):
    logging.getLogger(_name).setLevel(logging.ERROR)

_ACTIVE_ATTRIBUTE = "_worn_loras"
# Fused projections are not the layers that LoRAs are made for; a compiled model would be recompiled for each LoRA.
_CONFLICTING_OPTIONS = ("fuse_qkv", "compile_blocks")
# Two matrices for each layer, with PEFT's names: B · A is added to its weight.
_MATRIX_PATTERN = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
# Other weights that a file may have: learned scales and biases.
_EXTRA_WEIGHT_PATTERN = re.compile(r".+\.(alpha|lora_B\.bias|lora_magnitude_vector(\.weight)?)")
# Errors that diffusers and PEFT raise for files that they can't interpret.
_LOAD_ERRORS = (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """The file of a LoRA and its weight; equal instances give equal images."""

    id: str
    sha256: str
    weight: float
    path: Path = field(compare=False)


def find_loras(uses: Iterable[RequestedLora], loras_dir: Path) -> tuple[Lora, ...]:
    """Return the files of LoRAs.

    Raises:
        ModelUnavailableError: A LoRA is not on this worker.
    """
    return tuple(_find_lora(use, loras_dir) for use in uses)


def check_loras(pipeline: DiffusionPipeline, loras: Iterable[Lora], options: LoadOptions) -> None:
    """Reject LoRAs with layers that the model lacks or has in another size; the pipeline is not modified.

    diffusers itself ignores these layers, or widens those of the model.

    Raises:
        InvalidParamsError: The named LoRA does not fit, or the model or its named load options don't support LoRAs.
        ModelLoadError: The file of the named LoRA is damaged.
    """
    on = {lora.sha256 for lora in get_active_loras(pipeline)}
    for lora in loras:
        if lora.sha256 in on:
            continue
        if not hasattr(pipeline, "load_lora_weights"):
            raise InvalidParamsError("This model doesn't support LoRAs.")
        if clashes := [name for name in _CONFLICTING_OPTIONS if getattr(options, name)]:
            raise InvalidParamsError(f"LoRAs can't be combined with this model's load options: {', '.join(clashes)}.")
        if strange := next(_find_unmatched(pipeline, lora), None):
            raise _mismatch_error(lora, f"no layer of the model matches {strange}")


def apply_loras(pipeline: DiffusionPipeline, loras: tuple[Lora, ...]) -> bool:
    """Apply these LoRAs, already checked, and no others; return whether the size of the pipeline has changed.

    After any error the pipeline must not be used again.

    Raises:
        InvalidParamsError: The named LoRA does not fit, for a reason that only loading it shows.
    """
    before = get_active_loras(pipeline)
    names = [f"lora_{index}" for index in range(len(loras))]
    anew = [lora.sha256 for lora in loras] != [lora.sha256 for lora in before]
    if anew:
        _detach_loras(pipeline)
        for name, lora in zip(names, loras, strict=True):
            _attach_lora(pipeline, name, lora)
    if loras and loras != before:
        pipeline.set_adapters(names, [lora.weight for lora in loras])
    setattr(pipeline, _ACTIVE_ATTRIBUTE, loras)
    return anew


def get_active_loras(pipeline: DiffusionPipeline) -> tuple[Lora, ...]:
    """Return the active LoRAs."""
    return getattr(pipeline, _ACTIVE_ATTRIBUTE, ())


def build_provenance(loras: Iterable[Lora]) -> dict[str, str]:
    """Return the sha256 of each file, by its key in the provenance."""
    return {f"lora:{lora.id}": lora.sha256 for lora in loras}


def _find_lora(use: RequestedLora, loras_dir: Path) -> Lora:
    path = addon_files.find_addon_path(loras_dir, use.id, kind="LoRA", setting="LORAS_DIR")
    return Lora(id=use.id, sha256=hash_file(path), weight=use.weight, path=path)


def _detach_loras(pipeline: DiffusionPipeline) -> None:
    if get_active_loras(pipeline):
        pipeline.unload_lora_weights()


def _attach_lora(pipeline: DiffusionPipeline, name: str, lora: Lora) -> None:
    try:
        pipeline.load_lora_weights(**_build_load_arguments(lora), adapter_name=name)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except _LOAD_ERRORS as error:
        raise _mismatch_error(lora, type(error).__name__) from error


def _find_unmatched(pipeline: DiffusionPipeline, lora: Lora) -> Iterator[str]:
    """Yield the weights of the file that match nothing in the pipeline."""
    by_part = _group_by_component(pipeline, lora)
    if not by_part:
        yield "any of its weights"
    for name, weights in by_part.items():
        part = getattr(pipeline, name, None) if name in pipeline._lora_loadable_modules else None
        yield from ([name] if part is None else _find_unmatched_weights(part, weights))


def _find_unmatched_weights(part: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> Iterator[str]:
    layers = dict(part.named_modules())
    for key, weight in weights.items():
        matrix = _MATRIX_PATTERN.fullmatch(key)
        if matrix is None:
            fits = _EXTRA_WEIGHT_PATTERN.fullmatch(key) is not None
        else:
            fits = _get_layer_size(layers.get(matrix["layer"]), matrix["side"]) == weight.shape[matrix["side"] == "A"]
        if not fits:
            yield f"{type(part).__name__}.{key}"


def _get_layer_size(layer: torch.nn.Module | None, side: str) -> Any:
    """Return the number of input (A) or output (B) features or channels of a layer."""
    kinds = ("in_features", "in_channels") if side == "A" else ("out_features", "out_channels")
    return next((getattr(layer, kind) for kind in kinds if hasattr(layer, kind)), None)


def _group_by_component(pipeline: DiffusionPipeline, lora: Lora) -> dict[str, Mapping[str, torch.Tensor]]:
    """Return the weights of the file for each component of the pipeline, under PEFT's names."""
    try:
        found: dict[str, dict[str, torch.Tensor]] = {}
        for key, weight in _load_weights(pipeline, lora).items():
            prefix, _, name = key.partition(".")
            found.setdefault(prefix, {})[name] = weight
        return {prefix: _convert_to_peft(getattr(pipeline, prefix, None), weights) for prefix, weights in found.items()}
    except (OSError, SafetensorError) as error:
        raise ModelLoadError(f"The LoRA {lora.id} can't be read: it is not a valid safetensors file.") from error
    except _LOAD_ERRORS as error:
        raise _mismatch_error(lora, f"unknown file format ({type(error).__name__})") from error


def _load_weights(pipeline: DiffusionPipeline, lora: Lora) -> Mapping[str, torch.Tensor]:
    """Return the weights of the file in one of diffusers' naming schemes, prefixed with their component's name."""
    with safe_open(lora.path, "pt") as file:
        if any("dora_scale" in key for key in file.keys()):  # noqa: SIM118 - it is not a mapping
            raise _mismatch_error(lora, "DoRA files are not supported")  # diffusers would ignore half of its weights
    unet = getattr(pipeline, "unet", None)
    found = pipeline.lora_state_dict(
        **_build_load_arguments(lora), **({} if unet is None else {"unet_config": unet.config})
    )
    weights: Mapping[str, torch.Tensor] = found[0] if isinstance(found, tuple) else found
    return weights


def _convert_to_peft(part: torch.nn.Module | None, weights: dict[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Return the weights of a component under PEFT's names, converted as diffusers does it."""
    found: dict[str, torch.Tensor]
    if not isinstance(part, PreTrainedModel):
        found = convert_unet_state_dict_to_peft(weights)
        return found
    found = convert_state_dict_to_peft(convert_state_dict_to_diffusers(weights))
    # Since transformers 5, a CLIP text model may lack the `text_model` level.
    return found if hasattr(part, "text_model") else {key.removeprefix("text_model."): found[key] for key in found}


def _build_load_arguments(lora: Lora) -> dict[str, Any]:
    where = {"pretrained_model_name_or_path_or_dict": str(lora.path.parent), "weight_name": lora.path.name}
    return {**where, "local_files_only": True, "use_safetensors": True}


def _mismatch_error(lora: Lora, why: str) -> InvalidParamsError:
    return InvalidParamsError(f"The LoRA {lora.id} doesn't fit this model: {why}.")
