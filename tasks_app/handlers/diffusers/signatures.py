"""The signatures of attention processors, kept: diffusers' attention asks for one at every call, in every layer.

Making a signature takes longer than some of the kernels that it is made for: 3 % of the demo model's time.
"""

from __future__ import annotations

import inspect
from typing import Any

from diffusers import DiffusionPipeline
from torch import nn


def keep(pipeline: DiffusionPipeline) -> None:
    """Let each attention processor that a pipeline has by now keep its signature."""
    networks = (part for part in pipeline.components.values() if isinstance(part, nn.Module))
    processors = (getattr(module, "processor", None) for network in networks for module in network.modules())
    for processor in processors:
        if callable(processor) and not isinstance(processor, nn.Module):
            # A call of the processor finds its class's method; only who asks for the attribute finds this.
            processor.__call__ = _Signed(processor)


class _Signed:
    """A processor's `__call__` with the signature that `inspect` looks for first."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.__signature__ = inspect.signature(type(processor).__call__.__get__(processor))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._processor(*args, **kwargs)
