"""A1111's names for our schedulers: a sampler, and since its version 1.9 a separate schedule type.

Schedulers that A1111 doesn't have are named in its style; those of flow models are named as in SD.Next.
"""

from __future__ import annotations

from collections.abc import Mapping

SCHEDULERS_BY_SAMPLER: Mapping[str, str] = {
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "PLMS": "pndm",
    "Euler": "euler",
    "Euler Karras": "euler_karras",
    "Euler a": "euler_a",
    "Heun": "heun",
    "Heun Karras": "heun_karras",
    "LMS": "lms",
    "LMS Karras": "lms_karras",
    "DPM2": "dpm2",
    "DPM2 Karras": "dpm2_karras",
    "DPM2 a": "dpm2_a",
    "DPM2 a Karras": "dpm2_a_karras",
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M Karras": "dpmpp_2m_karras",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ 2M SDE Karras": "dpmpp_2m_sde_karras",
    "DPM++ 2M SDE Exponential": "dpmpp_2m_sde_exponential",
    "DPM++ SDE": "dpmpp_sde",
    "DPM++ SDE Karras": "dpmpp_sde_karras",
    "DEIS": "deis",
    "UniPC": "unipc",
    "UniPC Karras": "unipc_karras",
    "LCM": "lcm",
    "TCD": "tcd",
    "Euler FlowMatch": "flow_match_euler",
    "Euler FlowMatch Karras": "flow_match_euler_karras",
    "Euler FlowMatch Exponential": "flow_match_euler_exponential",
    "LCM FlowMatch": "flow_match_lcm",
}
SAMPLERS_BY_SCHEDULER: Mapping[str, str] = {scheduler: name for name, scheduler in SCHEDULERS_BY_SAMPLER.items()}
SAMPLER_ALIASES: Mapping[str, tuple[str, ...]] = {
    "DDIM": ("ddim",),
    "PLMS": ("plms",),
    "Euler": ("k_euler",),
    "Euler a": ("k_euler_a", "k_euler_ancestral"),
    "Heun": ("k_heun",),
    "LMS": ("k_lms",),
    "LMS Karras": ("k_lms_ka",),
    "DPM2": ("k_dpm_2",),
    "DPM2 Karras": ("k_dpm_2_ka",),
    "DPM2 a": ("k_dpm_2_a",),
    "DPM2 a Karras": ("k_dpm_2_a_ka",),
    "DPM++ 2M": ("k_dpmpp_2m",),
    "DPM++ 2M Karras": ("k_dpmpp_2m_ka",),
    "DPM++ 2M SDE": ("k_dpmpp_2m_sde",),
    "DPM++ 2M SDE Karras": ("k_dpmpp_2m_sde_ka",),
    "DPM++ 2M SDE Exponential": ("k_dpmpp_2m_sde_exp",),
    "DPM++ SDE": ("k_dpmpp_sde",),
    "DPM++ SDE Karras": ("k_dpmpp_sde_ka",),
    "UniPC": ("unipc",),
    "LCM": ("k_lcm",),
}
# Schedule types and A1111's labels.
SCHEDULE_LABELS: Mapping[str, str] = {
    "automatic": "Automatic",
    "uniform": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
}
_SCHEDULERS_BY_NAME = {
    alias.casefold(): scheduler
    for name, scheduler in SCHEDULERS_BY_SAMPLER.items()
    for alias in (name, *SAMPLER_ALIASES.get(name, ()))
}
# A1111's automatic schedule by scheduler, if it is not the uniform one.
_AUTOMATIC_SCHEDULES: Mapping[str, str] = {
    **dict.fromkeys(("dpm2", "dpm2_a", "dpmpp_2m", "dpmpp_sde"), "karras"),
    "dpmpp_2m_sde": "exponential",
}


def is_known_sampler(sampler: str) -> bool:
    """Return whether the sampler is known, by one of A1111's names for it."""
    return sampler.casefold() in _SCHEDULERS_BY_NAME


def find_scheduler(sampler: str, schedule: str) -> str | None:
    """Return our scheduler for a known sampler and a schedule, or None if they can't be combined.

    Clients that don't know schedule types pass an empty schedule.
    """
    ours, wanted = _SCHEDULERS_BY_NAME[sampler.casefold()], schedule.casefold() or "uniform"
    named = ours.rpartition("_")[2]
    if named in SCHEDULE_LABELS:
        # The sampler's name already contains the schedule.
        return ours if not schedule or wanted in ("automatic", named) else None
    if wanted == "automatic":
        wanted = _AUTOMATIC_SCHEDULES.get(ours, "uniform")
    found = ours if wanted == "uniform" else f"{ours}_{wanted}"
    return found if found in SAMPLERS_BY_SCHEDULER and wanted in SCHEDULE_LABELS else None
