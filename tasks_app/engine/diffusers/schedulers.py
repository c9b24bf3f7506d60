"""Schedulers by their common names, for request parameters and pipeline calls.

A model is trained to predict either noise along a schedule of sigmas or the velocity of a flow; a scheduler of one kind
generates only noise with a model of the other. The tables of interchangeable classes avoid an import of torch, since
the web process imports this module; a test compares them with diffusers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SchedulerPreset:
    """A scheduler class of diffusers and the options that are added to the model's own configuration."""

    class_name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def _build_spaced(
    class_name: str, *, karras: bool = False, exponential: bool = False, **options: Any
) -> SchedulerPreset:
    """Return a preset with this spacing of sigmas, regardless of the model's own scheduler."""
    spacing = {"use_karras_sigmas": karras, "use_exponential_sigmas": exponential, "use_beta_sigmas": False}
    return SchedulerPreset(class_name=class_name, options={**spacing, **options})


def _build_dpmpp(class_name: str, *, sde: bool = False, **spacing: bool) -> SchedulerPreset:
    algorithm = "sde-dpmsolver++" if sde else "dpmsolver++"
    # "2M" means second order; DPM-Solver++ requires a final sigma of zero.
    return _build_spaced(class_name, algorithm_type=algorithm, solver_order=2, final_sigmas_type="zero", **spacing)


SCHEDULERS: Mapping[str, SchedulerPreset] = {
    "ddim": SchedulerPreset(class_name="DDIMScheduler"),
    "ddpm": SchedulerPreset(class_name="DDPMScheduler"),
    # Without its first steps (PRK) it is PLMS, and takes exactly the requested number of steps.
    "pndm": SchedulerPreset(class_name="PNDMScheduler", options={"skip_prk_steps": True}),
    "euler": _build_spaced("EulerDiscreteScheduler"),
    "euler_karras": _build_spaced("EulerDiscreteScheduler", karras=True),
    "euler_a": SchedulerPreset(class_name="EulerAncestralDiscreteScheduler"),
    "heun": _build_spaced("HeunDiscreteScheduler"),
    "heun_karras": _build_spaced("HeunDiscreteScheduler", karras=True),
    "lms": _build_spaced("LMSDiscreteScheduler"),
    "lms_karras": _build_spaced("LMSDiscreteScheduler", karras=True),
    "dpm2": _build_spaced("KDPM2DiscreteScheduler"),
    "dpm2_karras": _build_spaced("KDPM2DiscreteScheduler", karras=True),
    "dpm2_a": _build_spaced("KDPM2AncestralDiscreteScheduler"),
    "dpm2_a_karras": _build_spaced("KDPM2AncestralDiscreteScheduler", karras=True),
    "dpmpp_2m": _build_dpmpp("DPMSolverMultistepScheduler"),
    "dpmpp_2m_karras": _build_dpmpp("DPMSolverMultistepScheduler", karras=True),
    "dpmpp_2m_sde": _build_dpmpp("DPMSolverMultistepScheduler", sde=True),
    "dpmpp_2m_sde_karras": _build_dpmpp("DPMSolverMultistepScheduler", sde=True, karras=True),
    "dpmpp_2m_sde_exponential": _build_dpmpp("DPMSolverMultistepScheduler", sde=True, exponential=True),
    "dpmpp_sde": _build_dpmpp("DPMSolverSinglestepScheduler", sde=True),
    "dpmpp_sde_karras": _build_dpmpp("DPMSolverSinglestepScheduler", sde=True, karras=True),
    "deis": _build_spaced("DEISMultistepScheduler", algorithm_type="deis"),
    "unipc": _build_spaced("UniPCMultistepScheduler"),
    "unipc_karras": _build_spaced("UniPCMultistepScheduler", karras=True),
    "lcm": SchedulerPreset(class_name="LCMScheduler"),
    "tcd": SchedulerPreset(class_name="TCDScheduler"),
    "flow_match_euler": _build_spaced("FlowMatchEulerDiscreteScheduler"),
    "flow_match_euler_karras": _build_spaced("FlowMatchEulerDiscreteScheduler", karras=True),
    "flow_match_euler_exponential": _build_spaced("FlowMatchEulerDiscreteScheduler", exponential=True),
    "flow_match_lcm": SchedulerPreset(class_name="FlowMatchLCMScheduler"),
}

# diffusers' KarrasDiffusionSchedulers, which are interchangeable.
NOISE_SCHEDULERS = frozenset(
    f"{kind}Scheduler"
    for kind in (
        *("DDIM", "DDPM", "PNDM", "LMSDiscrete", "EulerDiscrete", "HeunDiscrete", "EulerAncestralDiscrete"),
        *("DPMSolverMultistep", "DPMSolverSinglestep", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DEISMultistep"),
        *("UniPCMultistep", "DPMSolverSDE", "EDMEuler"),
    )
)
# Noise schedulers that also support flow matching if `use_flow_sigmas` is set, as for Sana.
FLOW_CAPABLE_SCHEDULERS = frozenset(
    {"DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"}
) | {"UniPCMultistepScheduler"}
FLOW_SCHEDULERS = frozenset({"FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler"})
# Pipelines whose code works with only a few schedulers.
RESTRICTED_PIPELINES: Mapping[str, tuple[str, ...]] = {
    # It passes a generator to every scheduler, and its network predicts variances in addition to the noise.
    "KandinskyV22CombinedPipeline": ("ddim", "ddpm"),
}
LEARNED_VARIANCE_SCHEDULERS = frozenset(
    {"DDPMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"}
)
# Made for distilled weights, which are mostly loaded into a model with a noise scheduler; diffusers doesn't list them.
DISTILLED_SCHEDULERS = frozenset({"LCMScheduler", "TCDScheduler"})


def is_flow_matching(class_name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a model with this scheduler class and configuration uses flow matching."""
    return class_name in FLOW_SCHEDULERS or bool(config.get("use_flow_sigmas"))


def get_compatible_schedulers(pipeline: str, class_name: str, config: Mapping[str, Any]) -> list[str]:
    """Return the names of the schedulers for a model, given the classes of its pipeline and of its own scheduler."""
    if pipeline in RESTRICTED_PIPELINES:
        return list(RESTRICTED_PIPELINES[pipeline])
    if class_name in NOISE_SCHEDULERS and config.get("use_flow_sigmas"):
        return [name for name in _names_of_classes(FLOW_CAPABLE_SCHEDULERS) if not _has_noise_spacing(SCHEDULERS[name])]
    for group, also in ((NOISE_SCHEDULERS, DISTILLED_SCHEDULERS), (FLOW_SCHEDULERS, frozenset())):
        if class_name in group:
            return _names_of_classes(group | also)
    return _names_of_classes({class_name})


def read_compatible_schedulers(folder: Path) -> list[str]:
    """Return the names of the schedulers that the model in a folder supports; none if its own is not known."""
    try:
        pipeline = json.loads((folder / "model_index.json").read_text())
        config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    except (OSError, ValueError):
        return []
    return get_compatible_schedulers(pipeline.get("_class_name", ""), config.get("_class_name", ""), config)


def build_config(named: SchedulerPreset, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a preset that replaces the model's own scheduler."""
    # Pipelines also read `variance_type` to decide whether the scheduler uses predicted variances; most don't.
    dropped = set() if named.class_name in LEARNED_VARIANCE_SCHEDULERS else {"variance_type"}
    return {**{name: value for name, value in own.items() if name not in dropped}, **named.options}


def _names_of_classes(class_names: Iterable[str]) -> list[str]:
    wanted = set(class_names)
    return [name for name, named in SCHEDULERS.items() if named.class_name in wanted]


def _has_noise_spacing(named: SchedulerPreset) -> bool:
    """Return whether a preset sets a spacing of noise sigmas, which takes precedence over flow sigmas."""
    return any(named.options.get(option) for option in ("use_karras_sigmas", "use_exponential_sigmas"))
