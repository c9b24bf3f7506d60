"""What diffusers would find out anew at every call, kept: signatures of attention processors, and the device.

Both take longer than some of the kernels that they are found out for: 5 % of the demo model's time in four steps.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn


def signatures(pipeline: DiffusionPipeline) -> None:
    """Let each attention processor that a pipeline has by now keep its signature: attention asks at every call."""
    networks = (part for part in pipeline.components.values() if isinstance(part, nn.Module))
    processors = (getattr(module, "processor", None) for network in networks for module in network.modules())
    for processor in processors:
        if callable(processor) and not isinstance(processor, nn.Module):
            # A call of the processor finds its class's method; only who asks for the attribute finds this.
            processor.__call__ = _Signed(processor)


def device(pipeline: DiffusionPipeline) -> None:
    """Let a pipeline that stays where it is know that: it would look for hooks of offloading in all of its modules."""
    pipeline.__class__ = _staying(type(pipeline), pipeline.device)


@cache
def _staying(kind: type[DiffusionPipeline], device: torch.device) -> type[DiffusionPipeline]:
    """Return the class with the device in the place of the property that finds it out; of the same name."""
    return type(kind.__name__, (kind,), {"_execution_device": device, "__module__": kind.__module__})


class _Signed:
    """A processor's `__call__` with the signature that `inspect` looks for first."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.__signature__ = inspect.signature(type(processor).__call__.__get__(processor))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._processor(*args, **kwargs)
