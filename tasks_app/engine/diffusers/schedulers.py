"""Schedulers by the names that people know, for the parameters as for the call: no torch here, the web loads it.

A model is trained to predict either noise along a schedule of sigmas or the velocity of a flow; a scheduler of the one
kind draws noise with a model of the other. Which classes diffusers' own can be exchanged for stands here as a table, so
that it can be told without torch; a test holds it to what diffusers says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NamedScheduler:
    """One of diffusers' scheduler classes and what its configuration gets on top of the model's own."""

    class_name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def _spaced(class_name: str, *, karras: bool = False, exponential: bool = False, **options: Any) -> NamedScheduler:
    """Return one whose sigmas are spaced just so, whatever the model's own scheduler does."""
    spacing = {"use_karras_sigmas": karras, "use_exponential_sigmas": exponential, "use_beta_sigmas": False}
    return NamedScheduler(class_name=class_name, options={**spacing, **options})


def _dpmpp(class_name: str, *, sde: bool = False, **spacing: bool) -> NamedScheduler:
    algorithm = "sde-dpmsolver++" if sde else "dpmsolver++"
    # The second order, which "2M" means; DPM-Solver++ asks for a last sigma of zero.
    return _spaced(class_name, algorithm_type=algorithm, solver_order=2, final_sigmas_type="zero", **spacing)


SCHEDULERS: Mapping[str, NamedScheduler] = {
    "ddim": NamedScheduler(class_name="DDIMScheduler"),
    "ddpm": NamedScheduler(class_name="DDPMScheduler"),
    # With its first steps left out it is PLMS, and takes as many steps as were asked for.
    "pndm": NamedScheduler(class_name="PNDMScheduler", options={"skip_prk_steps": True}),
    "euler": _spaced("EulerDiscreteScheduler"),
    "euler_karras": _spaced("EulerDiscreteScheduler", karras=True),
    "euler_a": NamedScheduler(class_name="EulerAncestralDiscreteScheduler"),
    "heun": _spaced("HeunDiscreteScheduler"),
    "heun_karras": _spaced("HeunDiscreteScheduler", karras=True),
    "lms": _spaced("LMSDiscreteScheduler"),
    "lms_karras": _spaced("LMSDiscreteScheduler", karras=True),
    "dpm2": _spaced("KDPM2DiscreteScheduler"),
    "dpm2_karras": _spaced("KDPM2DiscreteScheduler", karras=True),
    "dpm2_a": _spaced("KDPM2AncestralDiscreteScheduler"),
    "dpm2_a_karras": _spaced("KDPM2AncestralDiscreteScheduler", karras=True),
    "dpmpp_2m": _dpmpp("DPMSolverMultistepScheduler"),
    "dpmpp_2m_karras": _dpmpp("DPMSolverMultistepScheduler", karras=True),
    "dpmpp_2m_sde": _dpmpp("DPMSolverMultistepScheduler", sde=True),
    "dpmpp_2m_sde_karras": _dpmpp("DPMSolverMultistepScheduler", sde=True, karras=True),
    "dpmpp_2m_sde_exponential": _dpmpp("DPMSolverMultistepScheduler", sde=True, exponential=True),
    "dpmpp_sde": _dpmpp("DPMSolverSinglestepScheduler", sde=True),
    "dpmpp_sde_karras": _dpmpp("DPMSolverSinglestepScheduler", sde=True, karras=True),
    "deis": _spaced("DEISMultistepScheduler", algorithm_type="deis"),
    "unipc": _spaced("UniPCMultistepScheduler"),
    "unipc_karras": _spaced("UniPCMultistepScheduler", karras=True),
    "lcm": NamedScheduler(class_name="LCMScheduler"),
    "tcd": NamedScheduler(class_name="TCDScheduler"),
    "flow_match_euler": _spaced("FlowMatchEulerDiscreteScheduler"),
    "flow_match_euler_karras": _spaced("FlowMatchEulerDiscreteScheduler", karras=True),
    "flow_match_euler_exponential": _spaced("FlowMatchEulerDiscreteScheduler", exponential=True),
    "flow_match_lcm": NamedScheduler(class_name="FlowMatchLCMScheduler"),
}

# diffusers' KarrasDiffusionSchedulers: each can stand in for each.
NOISE = frozenset(
    f"{kind}Scheduler"
    for kind in (
        *("DDIM", "DDPM", "PNDM", "LMSDiscrete", "EulerDiscrete", "HeunDiscrete", "EulerAncestralDiscrete"),
        *("DPMSolverMultistep", "DPMSolverSinglestep", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DEISMultistep"),
        *("UniPCMultistep", "DPMSolverSDE", "EDMEuler"),
    )
)
# Those of them that also follow flows, when `use_flow_sigmas` is set, as Sana's does.
EITHER = frozenset({"DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"}) | {
    "UniPCMultistepScheduler"
}
FLOW = frozenset({"FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler"})
# Pipelines whose own code drives few.
FEW: Mapping[str, tuple[str, ...]] = {
    # It hands every scheduler a generator, and its network predicts variances beside the noise.
    "KandinskyV22CombinedPipeline": ("ddim", "ddpm"),
}
LEARNS_VARIANCE = frozenset({"DDPMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"})
# Made for distilled weights, which most often are put into a model of the other kind's; diffusers doesn't list them.
DISTILLED = frozenset({"LCMScheduler", "TCDScheduler"})


def is_flow(class_name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a model with this scheduler and its configuration follows flows."""
    return class_name in FLOW or bool(config.get("use_flow_sigmas"))


def accepted(pipeline: str, class_name: str, config: Mapping[str, Any]) -> list[str]:
    """Return the names of the schedulers that a model takes, by the classes of its pipeline and its own scheduler."""
    if pipeline in FEW:
        return list(FEW[pipeline])
    if class_name in NOISE and config.get("use_flow_sigmas"):
        return [name for name in _of(EITHER) if not _respaced(SCHEDULERS[name])]
    for group, also in ((NOISE, DISTILLED), (FLOW, frozenset())):
        if class_name in group:
            return _of(group | also)
    return _of({class_name})


def accepted_in(folder: Path) -> list[str]:
    """Return the names of the schedulers that the model in a folder takes; none when its own is not known."""
    try:
        pipeline = json.loads((folder / "model_index.json").read_text())
        config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    except (OSError, ValueError):
        return []
    return accepted(pipeline.get("_class_name", ""), config.get("_class_name", ""), config)


def configured(named: NamedScheduler, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a named scheduler that takes the place of the model's own."""
    # Pipelines look there, too, whether the scheduler takes the variances that a network predicts; most don't.
    dropped = set() if named.class_name in LEARNS_VARIANCE else {"variance_type"}
    return {**{name: value for name, value in own.items() if name not in dropped}, **named.options}


def _of(class_names: Iterable[str]) -> list[str]:
    wanted = set(class_names)
    return [name for name, named in SCHEDULERS.items() if named.class_name in wanted]


def _respaced(named: NamedScheduler) -> bool:
    """Return whether it spaces sigmas of noise, which goes before those of a flow."""
    return any(named.options.get(option) for option in ("use_karras_sigmas", "use_exponential_sigmas"))
