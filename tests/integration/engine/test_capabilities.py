"""Which models can begin with a picture: the table says what diffusers says, the files say the rest."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from diffusers.pipelines import auto_pipeline

from tasks_app.engine.diffusers import capabilities
from tasks_app.engine.diffusers.capabilities import get_native_pixels, supports_image_input
from tests.integration.engine.test_handler import DEMO
from tests.support import tiny

MAPPINGS = {
    False: auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    True: auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
}
CLASSES = sorted({kind.__name__ for kind in auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()})
NONE_BUT_THESE = (
    capabilities.IMAGE_AND_INPAINTING | capabilities.IMAGE_ONLY | capabilities.INPAINTING_ONLY | capabilities.TEXT_ONLY
)


def model(folder: Path, pipeline: str, **unet: Any) -> Path:
    (folder / "unet").mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    (folder / "unet" / "config.json").write_text(json.dumps(unet))
    return folder


def diffusers_can(pipeline: str, *, masked: bool) -> bool:
    try:
        derived = auto_pipeline._get_task_class(MAPPINGS[masked], pipeline)
    except ValueError:
        return False
    return inspect.signature(derived.__call__).parameters.keys() >= {"strength", "callback_on_step_end"}


@pytest.mark.parametrize("masked", MAPPINGS)
@pytest.mark.parametrize("pipeline", CLASSES)
def test_the_table_says_what_diffusers_says(tmp_path: Path, pipeline: str, masked: bool) -> None:
    assert supports_image_input(model(tmp_path, pipeline), masked=masked) is diffusers_can(pipeline, masked=masked)


def test_the_table_names_no_others() -> None:
    assert {f"{name}Pipeline" for name in NONE_BUT_THESE} == set(CLASSES)


@pytest.mark.parametrize(("channels", "can"), [(4, True), (9, True), (8, False)])
def test_a_network_takes_a_mask_by_its_channels(tmp_path: Path, channels: int, can: bool) -> None:
    folder = model(tmp_path, "StableDiffusionPipeline", in_channels=channels)
    assert (supports_image_input(folder, masked=True), supports_image_input(folder, masked=False)) == (can, True)


def test_the_demo_model_can_but_for_a_mask() -> None:
    assert [supports_image_input(DEMO / "demo", masked=masked) for masked in (False, True)] == [True, False]


def test_a_model_was_made_for_what_its_networks_say(tmp_path: Path) -> None:
    assert get_native_pixels(DEMO / "demo") == 64 * 64
    tiny.save_sdxl(tmp_path / "sdxl")  # latents of 8 pixels a side, of which the autoencoder makes twice as many
    assert get_native_pixels(tmp_path / "sdxl") == 16 * 16
    assert get_native_pixels(model(tmp_path / "other", "StableDiffusionPipeline", sample_size=[64, 64])) is None


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"_class_name": "TheirsPipeline"}'])
def test_of_what_is_not_known_nothing_is_said(tmp_path: Path, index: str) -> None:
    assert supports_image_input(tmp_path, masked=False) is None
    (tmp_path / "model_index.json").write_text(index)
    assert supports_image_input(tmp_path, masked=False) is None
