"""A1111's names of our schedulers."""

import pytest

from tasks_app import samplers
from tasks_app.handlers.diffusers.schedulers import SCHEDULERS


def test_every_scheduler_has_a_name_there() -> None:
    assert set(samplers.NAMES) == set(SCHEDULERS)
    assert len(samplers.NAMES) == len(samplers.SAMPLERS)


@pytest.mark.parametrize(
    ("sampler", "schedule", "scheduler"),
    [
        ("Euler a", "", "euler_a"),
        ("euler A", "Automatic", "euler_a"),
        ("k_euler_ancestral", "uniform", "euler_a"),
        ("Euler a", "karras", None),
        ("DPM++ 2M", "", "dpmpp_2m"),
        ("DPM++ 2M", "uniform", "dpmpp_2m"),
        ("DPM++ 2M", "automatic", "dpmpp_2m_karras"),
        ("DPM++ 2M", "Karras", "dpmpp_2m_karras"),
        ("DPM++ 2M", "exponential", None),
        ("DPM++ 2M Karras", "", "dpmpp_2m_karras"),
        ("DPM++ 2M Karras", "karras", "dpmpp_2m_karras"),
        ("DPM++ 2M Karras", "uniform", None),
        ("PLMS", "", "pndm"),
    ],
)
def test_a_sampler_and_a_schedule_are_one_scheduler(sampler: str, schedule: str, scheduler: str | None) -> None:
    assert samplers.known(sampler)
    assert samplers.scheduler(sampler, schedule) == scheduler


def test_other_names_are_not_known() -> None:
    assert not samplers.known("DPM fast")
    assert not samplers.known("dpmpp_2m")
