"""Our schedulers by A1111's names: a sampler, and since its version 1.9 the type of its schedule beside it."""

from __future__ import annotations

from collections.abc import Mapping

SAMPLERS: Mapping[str, str] = {
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "PLMS": "pndm",
    "Euler": "euler",
    "Euler a": "euler_a",
    "Heun": "heun",
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M Karras": "dpmpp_2m_karras",
    "UniPC": "unipc",
}
NAMES: Mapping[str, str] = {scheduler: name for name, scheduler in SAMPLERS.items()}
ALIASES: Mapping[str, tuple[str, ...]] = {
    "DDIM": ("ddim",),
    "PLMS": ("plms",),
    "Euler": ("k_euler",),
    "Euler a": ("k_euler_a", "k_euler_ancestral"),
    "Heun": ("k_heun",),
    "DPM++ 2M": ("k_dpmpp_2m",),
    "DPM++ 2M Karras": ("k_dpmpp_2m_ka",),
    "UniPC": ("unipc",),
}
# Types of schedules, with A1111's labels.
SCHEDULES: Mapping[str, str] = {"automatic": "Automatic", "uniform": "Uniform", "karras": "Karras"}
_BY_NAME = {
    alias.casefold(): scheduler for name, scheduler in SAMPLERS.items() for alias in (name, *ALIASES.get(name, ()))
}
# What differs by the schedule; "" is a client that knows of none. A1111's automatic schedule of DPM++ 2M is Karras'.
_BY_SCHEDULE: Mapping[str, Mapping[str, str]] = {
    "dpmpp_2m": {"": "dpmpp_2m", "uniform": "dpmpp_2m", "automatic": "dpmpp_2m_karras", "karras": "dpmpp_2m_karras"},
    "dpmpp_2m_karras": dict.fromkeys(("", "automatic", "karras"), "dpmpp_2m_karras"),
}


def known(sampler: str) -> bool:
    """Return whether there is such a sampler, by one of A1111's names for it."""
    return sampler.casefold() in _BY_NAME


def scheduler(sampler: str, schedule: str) -> str | None:
    """Return our scheduler for a sampler that is known, with the schedule; None when it can't have that."""
    ours = _BY_NAME[sampler.casefold()]
    plain = dict.fromkeys(("", "automatic", "uniform"), ours)
    return _BY_SCHEDULE.get(ours, plain).get(schedule.casefold())
