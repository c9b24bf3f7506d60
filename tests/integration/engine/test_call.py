"""How a pipeline is called: its tensors in the leanest mode that it can be run in."""

from pathlib import Path

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import StableDiffusionPipeline

from tasks_app.engine.diffusers.call import PipelineCall
from tasks_app.engine.diffusers.previews import PreviewSchedule
from tasks_app.engine.types import Progress
from tests.integration.engine.test_handler import request
from tests.support import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sd"
    tiny.save_sd(folder)
    return folder


@pytest.fixture
def pipeline(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def modes(pipeline: StableDiffusionPipeline) -> set[bool]:
    """Return in which modes the steps were taken: inference mode or not."""
    found = set()

    def report(progress: Progress) -> None:
        if progress.step:
            found.add(torch.is_inference_mode_enabled())

    PipelineCall(pipeline, [request()], report, pace=PreviewSchedule(every=1))()
    return found


def test_steps_are_taken_in_inference_mode(pipeline: StableDiffusionPipeline) -> None:
    assert modes(pipeline) == {True}


def test_a_pipeline_whose_weights_come_and_go_is_run_without(pipeline: StableDiffusionPipeline) -> None:
    add_hook_to_module(pipeline.unet, ModelHook())
    assert modes(pipeline) == {False}


def test_the_picture_is_the_very_one_of_a_plain_call(pipeline: StableDiffusionPipeline) -> None:
    plain = pipeline(
        "a house", num_inference_steps=3, guidance_scale=4.0, generator=torch.Generator().manual_seed(11)
    ).images[0]
    ours = PipelineCall(pipeline, [request()], lambda progress: None)().images[0]
    assert ours.tobytes() == plain.tobytes()
