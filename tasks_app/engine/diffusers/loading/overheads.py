"""What diffusers would find out anew at every call, kept: signatures of attention processors, and the device.

Both take longer than some of the kernels that they are found out for: 5 % of the demo model's time in four steps.
"""

from __future__ import annotations

import inspect
from typing import Any

from diffusers import DiffusionPipeline
from torch import nn


def cache_signatures(pipeline: DiffusionPipeline) -> None:
    """Let each attention processor that a pipeline has by now keep its signature: attention asks at every call."""
    networks = (part for part in pipeline.components.values() if isinstance(part, nn.Module))
    processors = (getattr(module, "processor", None) for network in networks for module in network.modules())
    for processor in processors:
        if callable(processor) and not isinstance(processor, nn.Module):
            # A call of the processor finds its class's method; only who asks for the attribute finds this.
            processor.__call__ = _SignedProcessor(processor)


def cache_device(pipeline: DiffusionPipeline) -> None:
    """Let a pipeline that stays where it is know that: it would look for hooks of offloading in all of its modules.

    It becomes one of a class of the same name that has the device in the place of the property that finds it out.
    """
    kind = type(pipeline)
    stays = {"_execution_device": pipeline.device, "__module__": kind.__module__}
    pipeline.__class__ = type(kind.__name__, (kind,), stays)


class _SignedProcessor:
    """A processor's `__call__` with the signature that `inspect` looks for first."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.__signature__ = inspect.signature(type(processor).__call__.__get__(processor))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._processor(*args, **kwargs)
