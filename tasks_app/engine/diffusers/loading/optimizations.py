"""Optimizations for speed and memory: the load options of a model, each applied once while it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from diffusers import (
    BitsAndBytesConfig,
    DiffusionPipeline,
    FirstBlockCacheConfig,
    PipelineQuantizationConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
    TorchAoConfig,
)
from diffusers.models.attention_dispatch import attention_backend

from tasks_app.engine.diffusers.prompts.weighting import enable_prompt_weighting
from tasks_app.engine.types import LoadOptions
from tasks_app.errors import ModelLoadError

# Names of the denoiser in pipelines.
DENOISER_NAMES = ("unet", "transformer", "transformer_2")
# Options that visibly change an image; the others change only the rounding.
_PROVENANCE_OPTIONS = ("quantization", "step_cache", "attention_backend", "vae_tiling", "prompt_weighting")
_TORCHAO_CONFIGS = {
    "int8": "Int8WeightOnlyConfig",
    "int8_dynamic": "Int8DynamicActivationInt8WeightConfig",
    "float8": "Float8WeightOnlyConfig",
}
# Errors that diffusers raises for unavailable options: a missing method, a missing package, an unknown class.
_OPTION_ERRORS = (AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)


def build_quantization_arguments(options: LoadOptions, names: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments with which `from_pretrained` quantizes the denoiser.

    `names` are the components of the pipeline; `dtype` is the compute dtype.

    Raises:
        ModelLoadError: The pipeline has no denoiser, or this machine lacks the requirements.
    """
    if not options.quantization:
        return {}
    with _translate_option_errors("quantization"):
        found = [name for name in DENOISER_NAMES if name in names]
        if not found:
            raise LookupError("no denoiser to quantize")
        config = _build_quantization_config(options.quantization, dtype)
        return {"quantization_config": PipelineQuantizationConfig(quant_mapping=dict.fromkeys(found, config))}


def apply_optimizations(pipeline: DiffusionPipeline, options: LoadOptions) -> None:
    """Apply the options to a pipeline that is not on its device yet; sequential offload allows no later changes.

    Raises:
        ModelLoadError: This pipeline or this machine does not support the named option.
    """
    for name, step in _OPTION_SETTERS.items():
        chosen = getattr(options, name)
        if chosen:
            with _translate_option_errors(name):
                step(pipeline, chosen)


def build_provenance(options: LoadOptions) -> dict[str, str]:
    """Return the enabled options that change images."""
    return {name: str(getattr(options, name)).lower() for name in _PROVENANCE_OPTIONS if getattr(options, name)}


@contextmanager
def _translate_option_errors(option: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except _OPTION_ERRORS as error:
        kind = type(error).__name__
        raise ModelLoadError(f"This model can't run on this worker with the load option {option} ({kind}).") from error


def _build_quantization_config(name: str, dtype: torch.dtype) -> Any:
    if name == "nf4":
        if find_spec("bitsandbytes") is None or not torch.accelerator.is_available():
            raise ImportError("nf4 needs bitsandbytes and an accelerator")
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return TorchAoConfig(getattr(import_module("torchao.quantization"), _TORCHAO_CONFIGS[name])())


def _get_denoisers(pipeline: DiffusionPipeline) -> list[Any]:
    parts = pipeline.components
    found = [parts[name] for name in DENOISER_NAMES if parts.get(name) is not None]
    if not found:
        raise LookupError("no denoiser")
    return found


def _check_quantized(pipeline: DiffusionPipeline, name: str) -> None:
    # The configuration has no effect on a network that was loaded from a separate file.
    for part in _get_denoisers(pipeline):
        if getattr(part, "quantization_method", None) not in ("torchao", "bitsandbytes"):
            raise LookupError("its weights were not quantized")


def _set_channels_last(pipeline: DiffusionPipeline, chosen: bool) -> None:
    for part in (*_get_denoisers(pipeline), pipeline.vae):
        part.to(memory_format=torch.channels_last)


def _fuse_qkv(pipeline: DiffusionPipeline, chosen: bool) -> None:
    for part in _get_denoisers(pipeline):
        part.fuse_qkv_projections()
        _check_applied(part, "fused_projections")


def _set_attention_backend(pipeline: DiffusionPipeline, name: str) -> None:
    # `set_attention_backend` also changes the process's default; the context restores it for other models.
    with attention_backend():
        for part in _get_denoisers(pipeline):
            part.set_attention_backend(name)
            _check_applied(part, "processor._attention_backend")


def _check_applied(part: torch.nn.Module, path: str) -> None:
    """Raise an error if no layer of this component took the option, which diffusers ignores silently."""
    first, _, rest = path.partition(".")
    values = (getattr(module, first, None) for module in part.modules())
    if not any(getattr(value, rest, None) if rest else value for value in values):
        raise LookupError("no layer supports it")


def _enable_step_cache(pipeline: DiffusionPipeline, name: str) -> None:
    for part in _get_denoisers(pipeline):
        part.enable_cache(_STEP_CACHE_CONFIGS[name](pipeline))


def _compile_blocks(pipeline: DiffusionPipeline, chosen: bool) -> None:
    for part in _get_denoisers(pipeline):
        part.compile_repeated_blocks()


# Thresholds and intervals are those from the documentation of diffusers.
_STEP_CACHE_CONFIGS: Mapping[str, Callable[[DiffusionPipeline], Any]] = {
    "first_block": lambda pipeline: FirstBlockCacheConfig(),
    "taylorseer": lambda pipeline: TaylorSeerCacheConfig(),
    "pyramid_attention": lambda pipeline: PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: pipeline.current_timestep
    ),
}
# The order matters: fused projections are new layers, and compilation comes after all changes to the network.
_OPTION_SETTERS: Mapping[str, Callable[[DiffusionPipeline, Any], None]] = {
    "quantization": _check_quantized,
    "fuse_qkv": _fuse_qkv,
    "channels_last": _set_channels_last,
    "attention_backend": _set_attention_backend,
    "step_cache": _enable_step_cache,
    "vae_slicing": lambda pipeline, chosen: pipeline.vae.enable_slicing(),
    "vae_tiling": lambda pipeline, chosen: pipeline.vae.enable_tiling(),
    "compile_blocks": _compile_blocks,
    "prompt_weighting": lambda pipeline, chosen: enable_prompt_weighting(pipeline, type(pipeline).__name__),
}
