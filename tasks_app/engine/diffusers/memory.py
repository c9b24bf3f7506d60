"""Memory of the device: errors, sizes, and a low-memory mode."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from diffusers import DiffusionPipeline
from torch._dynamo.exc import TorchDynamoException
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from tasks_app.engine.types import EngineState, ModelUsage, WarmModel
from tasks_app.errors import DeviceLostError, ModelLoadError, OutOfMemoryError

# CUDA raises its own class of error; the CPU's allocator and Apple's Metal report it only in the message.
_OUT_OF_MEMORY_PHRASES = ("can't allocate memory", "not enough memory", "out of memory")


@contextmanager
def translate_device_errors() -> Iterator[None]:
    """Translate torch's device errors into the service's own errors.

    Raises:
        OutOfMemoryError: The device does not have enough memory.
        DeviceLostError: The device failed in another way, and this process can no longer rely on its results.
        ModelLoadError: The model can't be compiled, which happens at its first use.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
            word in str(error) for word in _OUT_OF_MEMORY_PHRASES
        ):
            raise OutOfMemoryError("Not enough device memory for this task.") from error
        if isinstance(error, torch.AcceleratorError):
            raise DeviceLostError("The device failed; the worker is restarting.") from error
        if isinstance(error, TorchDynamoException):
            raise ModelLoadError("This model can't run on this worker with the load option compile_blocks.") from error
        raise


def build_engine_state(device: str, warm: tuple[WarmModel, ...], uses: tuple[ModelUsage, ...]) -> EngineState:
    """Return the state of the device; memory is in bytes, and on a CPU the used memory is that of this process."""
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        used, name = total - free, torch.cuda.get_device_name(device)
    else:
        used, total = psutil.Process().memory_info().rss, psutil.virtual_memory().total
        name = platform.processor() or platform.machine()
    return EngineState(device=device, device_name=name, memory_used=used, memory_total=total, warm=warm, uses=uses)


def get_pipeline_size(pipeline: DiffusionPipeline) -> int:
    """Return the bytes of a pipeline's parameters and buffers, each counted once."""
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = {id(tensor): tensor for part in modules for tensor in (*part.parameters(), *part.buffers())}
    return sum(_get_tensor_size(tensor) for tensor in tensors.values())


def _get_tensor_size(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor; a quantized one reports its unquantized size, so its inner tensors are counted."""
    if not is_traceable_wrapper_subclass(tensor):
        return tensor.nbytes
    names, _ = tensor.__tensor_flatten__()
    return sum(_get_tensor_size(getattr(tensor, name)) for name in names)


@contextmanager
def low_memory(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Make a pipeline use as little memory as possible, at the cost of speed."""
    vae = getattr(pipeline, "vae", None)
    pipeline.enable_attention_slicing()
    # Leave alone those that the model's options have enabled permanently.
    switched = [name for name in ("slicing", "tiling") if getattr(vae, f"use_{name}", None) is False]
    for name in switched:
        getattr(vae, f"enable_{name}")()
    try:
        yield
    finally:
        pipeline.disable_attention_slicing()
        for name in switched:
            getattr(vae, f"disable_{name}")()
