"""When the device's memory runs out, or the device itself is lost."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from diffusers import DiffusionPipeline

from tasks_app.contracts import EngineState, ModelUse, WarmModel
from tasks_app.errors import DeviceLost, OutOfMemory

# CUDA has a class of its own for it; the CPU's allocator and Apple's Metal say it in words.
_FULL = ("can't allocate memory", "not enough memory", "out of memory")


@contextmanager
def watched() -> Iterator[None]:
    """Say in the service's own errors what the device says in torch's.

    Raises:
        OutOfMemory: the memory does not suffice.
        DeviceLost: the device failed otherwise, and nothing that this process does on it can be trusted any more.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in _FULL):
            raise OutOfMemory("The device has not enough memory for this task.") from error
        if isinstance(error, torch.AcceleratorError):
            raise DeviceLost("The device failed; its worker starts anew.") from error
        raise


def state(device: str, warm: tuple[WarmModel, ...], uses: tuple[ModelUse, ...]) -> EngineState:
    """Return the device with its memory in bytes: the accelerator's own; on a CPU what this process uses of it."""
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        used, name = total - free, torch.cuda.get_device_name(device)
    else:
        used, total = psutil.Process().memory_info().rss, psutil.virtual_memory().total
        name = platform.processor() or platform.machine()
    return EngineState(device=device, device_name=name, memory_used=used, memory_total=total, warm=warm, uses=uses)


@contextmanager
def thrift(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Let a pipeline use as little memory as it can, at the price of time."""
    vae = getattr(pipeline, "vae", None)
    pipeline.enable_attention_slicing()
    for name in ("enable_slicing", "enable_tiling"):
        if hasattr(vae, name):
            getattr(vae, name)()
    try:
        yield
    finally:
        pipeline.disable_attention_slicing()
        for name in ("disable_slicing", "disable_tiling"):
            if hasattr(vae, name):
                getattr(vae, name)()
