"""Caches of values that diffusers computes at every call: signatures of attention processors, and the device.

Computing them takes longer than some of the kernels that need them: 5 % of the demo model's time with four steps.
"""

from __future__ import annotations

import inspect
from typing import Any

from diffusers import DiffusionPipeline
from torch import nn


def cache_signatures(pipeline: DiffusionPipeline) -> None:
    """Cache the signatures of a pipeline's current attention processors, which attention inspects at every call."""
    networks = (part for part in pipeline.components.values() if isinstance(part, nn.Module))
    processors = (getattr(module, "processor", None) for network in networks for module in network.modules())
    for processor in processors:
        if callable(processor) and not isinstance(processor, nn.Module):
            # Calls of the processor use the method of its class; only `inspect` reads this attribute.
            processor.__call__ = _SignedProcessor(processor)


def cache_device(pipeline: DiffusionPipeline) -> None:
    """Cache the device of a pipeline that stays there; otherwise it searches all its modules for offloading hooks.

    The pipeline gets a subclass of the same name, in which the device replaces the property that computes it.
    """
    kind = type(pipeline)
    stays = {"_execution_device": pipeline.device, "__module__": kind.__module__}
    pipeline.__class__ = type(kind.__name__, (kind,), stays)


class _SignedProcessor:
    """The `__call__` of a processor, with the attribute in which `inspect` first looks for a signature."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.__signature__ = inspect.signature(type(processor).__call__.__get__(processor))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._processor(*args, **kwargs)
