"""A1111's names of our schedulers."""

import pytest

from tasks_app.engine.diffusers.schedulers import SCHEDULERS
from tasks_app.images.metadata import a1111_samplers


def test_every_scheduler_has_a_name_there() -> None:
    assert set(a1111_samplers.SAMPLERS_BY_SCHEDULER) == set(SCHEDULERS)
    assert len(a1111_samplers.SAMPLERS_BY_SCHEDULER) == len(a1111_samplers.SCHEDULERS_BY_SAMPLER)


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
        ("Euler", "karras", "euler_karras"),
        ("Euler", "a", None),
        ("DPM++ 2M SDE", "automatic", "dpmpp_2m_sde_exponential"),
        ("DPM++ 2M SDE", "Exponential", "dpmpp_2m_sde_exponential"),
        ("DPM++ SDE", "Automatic", "dpmpp_sde_karras"),
        ("DPM2 a", "", "dpm2_a"),
        ("k_dpm_2_a_ka", "karras", "dpm2_a_karras"),
        ("DPM2 a Karras", "uniform", None),
        ("Euler FlowMatch", "exponential", "flow_match_euler_exponential"),
    ],
)
def test_a_sampler_and_a_schedule_are_one_scheduler(sampler: str, schedule: str, scheduler: str | None) -> None:
    assert a1111_samplers.is_known_sampler(sampler)
    assert a1111_samplers.find_scheduler(sampler, schedule) == scheduler


def test_no_sampler_has_an_automatic_schedule_that_there_is_none_of() -> None:
    assert all(a1111_samplers.find_scheduler(name, "automatic") for name in a1111_samplers.SCHEDULERS_BY_SAMPLER)


def test_other_names_are_not_known() -> None:
    assert not a1111_samplers.is_known_sampler("DPM fast")
    assert not a1111_samplers.is_known_sampler("dpmpp_2m")
