"""Schedulers by the names that people know, for the parameters as for the call: no torch here, the web loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NamedScheduler:
    """One of diffusers' scheduler classes and what its configuration gets on top of the model's own."""

    class_name: str
    options: Mapping[str, Any] = field(default_factory=dict)


SCHEDULERS: Mapping[str, NamedScheduler] = {
    "ddim": NamedScheduler(class_name="DDIMScheduler"),
    "ddpm": NamedScheduler(class_name="DDPMScheduler"),
    "pndm": NamedScheduler(class_name="PNDMScheduler"),
    "euler": NamedScheduler(class_name="EulerDiscreteScheduler"),
    "euler_a": NamedScheduler(class_name="EulerAncestralDiscreteScheduler"),
    "heun": NamedScheduler(class_name="HeunDiscreteScheduler"),
    "dpmpp_2m": NamedScheduler(class_name="DPMSolverMultistepScheduler"),
    "dpmpp_2m_karras": NamedScheduler(class_name="DPMSolverMultistepScheduler", options={"use_karras_sigmas": True}),
    "unipc": NamedScheduler(class_name="UniPCMultistepScheduler"),
}
