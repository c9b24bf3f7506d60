"""The tables of schedulers say what diffusers says."""

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.schedulers import KarrasDiffusionSchedulers

from tasks_app.engine.diffusers import schedulers
from tasks_app.engine.diffusers.schedulers import SCHEDULERS

ALL = schedulers.NOISE_SCHEDULERS | schedulers.FLOW_SCHEDULERS | schedulers.DISTILLED_SCHEDULERS


def kind(class_name: str) -> Any:
    return getattr(diffusers, class_name)


def takes(class_name: str, option: str) -> bool:
    return option in inspect.signature(kind(class_name).__init__).parameters


def test_those_of_noise_are_those_that_diffusers_exchanges() -> None:
    assert {member.name for member in KarrasDiffusionSchedulers} == schedulers.NOISE_SCHEDULERS


@pytest.mark.parametrize("class_name", sorted({named.class_name for named in SCHEDULERS.values()}))
def test_a_class_is_exchanged_for_those_that_diffusers_says(class_name: str) -> None:
    compatible = set(kind(class_name)._compatibles) | {class_name}
    expected = {name for name, named in SCHEDULERS.items() if named.class_name in compatible}
    accepted = set(schedulers.get_compatible_schedulers("AnyPipeline", class_name, {}))
    also = {
        name
        for name, named in SCHEDULERS.items()
        if named.class_name in schedulers.DISTILLED_SCHEDULERS | schedulers.FLOW_SCHEDULERS
    }
    assert expected <= accepted <= expected | also


def test_those_of_noise_and_of_flows_are_never_exchanged() -> None:
    noise, flow = (
        {SCHEDULERS[name].class_name for name in schedulers.get_compatible_schedulers("AnyPipeline", own, {})}
        for own in ("DDIMScheduler", "FlowMatchEulerDiscreteScheduler")
    )
    assert not noise & flow
    assert flow == schedulers.FLOW_SCHEDULERS


def test_a_noise_scheduler_that_follows_flows_is_exchanged_for_those_that_can() -> None:
    assert {
        name for name in schedulers.NOISE_SCHEDULERS if takes(name, "use_flow_sigmas")
    } == schedulers.FLOW_CAPABLE_SCHEDULERS
    own = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    names = schedulers.get_compatible_schedulers("SanaPipeline", "DPMSolverMultistepScheduler", own.config)
    assert names == ["dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "deis", "unipc"]
    for name in names:
        made = kind(SCHEDULERS[name].class_name).from_config(schedulers.build_config(SCHEDULERS[name], own.config))
        made.set_timesteps(4)
        # Of flows they end between none and all of the noise; those of noise reach far above.
        assert made.sigmas.max() <= 1


def test_variances_are_left_to_those_that_take_them() -> None:
    assert {name for name in ALL if takes(name, "variance_type")} == schedulers.LEARNED_VARIANCE_SCHEDULERS
    learned = {"variance_type": "learned_range", "beta_end": 0.5}
    assert schedulers.build_config(SCHEDULERS["ddim"], learned) == {"beta_end": 0.5}
    assert schedulers.build_config(SCHEDULERS["ddpm"], learned) == learned


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_name_means_its_options_whatever_the_models_own_has(name: str) -> None:
    own = {"use_karras_sigmas": True, "algorithm_type": "dpmsolver", "solver_order": 3, "skip_prk_steps": False}
    named = SCHEDULERS[name]
    config = kind(named.class_name).from_config(schedulers.build_config(named, own)).config
    assert {option: config[option] for option in named.options if takes(named.class_name, option)} == {
        option: value for option, value in named.options.items() if takes(named.class_name, option)
    }
    if takes(named.class_name, "use_karras_sigmas") and named.class_name != "FlowMatchLCMScheduler":
        assert config["use_karras_sigmas"] == name.endswith("_karras")


def test_the_names_are_told_by_the_files_of_a_model(tmp_path: Path) -> None:
    assert schedulers.read_compatible_schedulers(tmp_path) == []
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    assert {"ddim", "euler", "lcm"} <= set(schedulers.read_compatible_schedulers(tmp_path))
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "scheduler")
    assert "flow_match_euler" in schedulers.read_compatible_schedulers(tmp_path)
    assert "euler" not in schedulers.read_compatible_schedulers(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyV22CombinedPipeline"}))
    assert schedulers.read_compatible_schedulers(tmp_path) == ["ddim", "ddpm"]
