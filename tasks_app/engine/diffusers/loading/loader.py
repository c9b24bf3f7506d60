"""Loading of a pipeline from a model's folder onto the device."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from tasks_app.engine.diffusers.loading import optimizations, overheads, weights
from tasks_app.engine.diffusers.loading.snapshots import Snapshot, get_variant
from tasks_app.engine.model_files import INDEX_FILE
from tasks_app.engine.types import LoadOptions
from tasks_app.errors import ModelLoadError


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Device and precision of a pipeline."""

    device: str
    dtype: torch.dtype


def choose_placement(device: str, dtype: str, folder: Path) -> Placement:
    """Return the placement; `auto` is the accelerator that torch finds (CUDA, MPS, …), else the CPU.

    On CUDA, diffusion transformers get bfloat16, in which they are published, and all others float16; other devices get
    float32.
    """
    device = resolve_device(device)
    if dtype == "auto":
        dtype = _choose_half_precision(folder) if device.startswith("cuda") else "float32"
    return Placement(device=device, dtype=getattr(torch, dtype))


def resolve_device(device: str) -> str:
    """Return the name of the device, with `auto` resolved."""
    if device != "auto":
        return device
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found else "cpu"


def load_pipeline(
    snapshot: Snapshot, placement: Placement, *, safety_checker: bool, options: LoadOptions
) -> DiffusionPipeline:
    """Load a pipeline from safetensors or GGUF files only, without running code other than diffusers' own.

    `offload` keeps only the active component (`model`) or only its active layer (`sequential`) on an accelerator.

    Raises:
        ModelLoadError: The files are not a pipeline, or not one that can run with these options.
        RuntimeError: Raised by torch if the device is full or has failed.
    """
    fewer_bits = optimizations.build_quantization_arguments(options, _read_index(snapshot.path), placement.dtype)
    try:
        arguments = _build_load_arguments(snapshot.path, placement, safety_checker=safety_checker) | fewer_bits
        if snapshot.weights is not None:
            arguments |= weights.load_components(snapshot.weights, snapshot.path, placement.dtype)
        pipeline = _from_pretrained(snapshot.path, arguments)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, SafetensorError) as error:
        raise ModelLoadError(
            f"The model's files can't be loaded as a text-to-image pipeline ({type(error).__name__})."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    optimizations.apply_optimizations(pipeline, options)
    if not options.compile_blocks:  # compiled blocks inspect no signatures at run time
        overheads.cache_signatures(pipeline)
    if options.offload == "none" or placement.device == "cpu":
        pipeline.to(placement.device)
        overheads.cache_device(pipeline)
    elif options.offload == "model":
        pipeline.enable_model_cpu_offload(device=placement.device)
    else:
        pipeline.enable_sequential_cpu_offload(device=placement.device)
    return pipeline


def _build_load_arguments(folder: Path, placement: Placement, *, safety_checker: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "dtype": placement.dtype,
        "use_safetensors": True,
        "local_files_only": True,
        "variant": get_variant(folder),
    }
    if not safety_checker and "safety_checker" in _read_index(folder):
        options |= {"safety_checker": None, "requires_safety_checker": False}
    return options


def _from_pretrained(folder: Path, options: dict[str, Any]) -> DiffusionPipeline:
    own = getattr(diffusers, str(_read_index(folder).get("_class_name")), None)
    if own is not None and is_text_to_image(own):
        return own.from_pretrained(folder, **options)
    # Imported here because this import loads all of diffusers' pipelines, which takes 0.3 s.
    from diffusers import AutoPipelineForText2Image

    try:
        return AutoPipelineForText2Image.from_pretrained(folder, **options)
    except ValueError as error:
        # AutoPipeline has a table of families; diffusers can load more than those.
        if "can't find a pipeline" not in str(error):
            raise
    return DiffusionPipeline.from_pretrained(folder, **options)


def is_text_to_image(pipeline: type[DiffusionPipeline]) -> bool:
    """Return whether a pipeline generates from a prompt alone; AutoPipeline has no other pipeline for its model."""
    takes = inspect.signature(pipeline.__call__).parameters
    return "prompt" in takes and not any(name.startswith(("image", "mask", "control")) for name in takes)


def _read_index(folder: Path) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((folder / INDEX_FILE).read_text())
    return index


def _choose_half_precision(folder: Path) -> str:
    return "bfloat16" if (folder / "transformer").is_dir() and torch.cuda.is_bf16_supported() else "float16"
