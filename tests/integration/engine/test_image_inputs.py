"""What begins with a picture: drawn by the parts of the loaded pipeline, on tiny ones and the demo model."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, PNDMScheduler, StableDiffusionPipeline
from PIL import Image, ImageDraw

from tasks_app.engine.diffusers import memory
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.diffusers.image_inputs import pipeline_for
from tasks_app.engine.types import GenerationRequest, GenerationResult, Progress
from tasks_app.errors import GenerationAbortedError, InvalidParamsError
from tests.integration.engine.families.builders import build
from tests.integration.engine.families.test_families import psnr
from tests.integration.engine.test_handler import DEMO, key
from tests.integration.engine.test_handler import request as of_model
from tests.support import tiny

SIDE = 64


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.save_sd(folder / "sd")
    tiny.save_sdxl(folder / "sdxl")
    (folder / "demo").symlink_to(DEMO / "demo")
    return folder


@pytest.fixture
def handler(models: Path, tmp_path: Path) -> Any:
    PIPELINE_CACHE.clear()
    yield DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu")
    PIPELINE_CACHE.clear()


def picture() -> Image.Image:
    drawn = Image.new("RGB", (SIDE, SIDE), (200, 180, 60))
    ImageDraw.Draw(drawn).ellipse((16, 16, 48, 48), fill=(40, 60, 170))
    return drawn


def mask() -> Image.Image:
    """Return one whose right half is to be drawn anew."""
    drawn = Image.new("RGB", (SIDE, SIDE))
    drawn.paste((255, 255, 255), (SIDE // 2, 0, SIDE, SIDE))
    return drawn


def request(model_id: str = "demo", **more: Any) -> GenerationRequest:
    size = {"width": SIDE, "height": SIDE}
    return of_model(model_id, **{"image": picture(), "strength": 0.5, "steps": 8, **size, **more})


def run(handler: DiffusersHandler, request: GenerationRequest) -> GenerationResult:
    (result,) = handler.run([request], lambda progress: None)
    return result


def draw(handler: DiffusersHandler, **more: Any) -> Image.Image:
    return run(handler, request(**more)).images[0].image


def test_the_less_strength_the_nearer_to_the_picture(handler: DiffusersHandler) -> None:
    near = [psnr(picture(), draw(handler, strength=strength)) for strength in (0.125, 0.5, 1.0)]
    assert near == sorted(near, reverse=True)
    assert near[0] > 20
    assert near[0] - near[-1] > 6


@pytest.mark.parametrize("model_id", ["sd", "sdxl"])
@pytest.mark.parametrize("masked", [False, True], ids=["image", "inpaint"])
def test_the_steps_that_are_taken_are_those_that_are_told(
    handler: DiffusersHandler, model_id: str, masked: bool
) -> None:
    reports: list[Progress] = []
    wanted = request(model_id, steps=10, strength=0.45, mask=mask() if masked else None)
    (result,) = handler.run([wanted], reports.append)
    assert wanted.total_steps == 4
    assert {report.total_steps for report in reports} == {4}
    assert [report.step for report in reports if report.phase == "denoising"] == [0, 1, 2, 3, 4]
    assert reports[-1].phase == "decoding"
    assert result.images[0].image.size == (SIDE, SIDE)


def test_it_stops_at_a_step(handler: DiffusersHandler) -> None:
    def report(progress: Progress) -> None:
        if progress.step == 2:
            raise GenerationAbortedError

    with pytest.raises(GenerationAbortedError):
        handler.run([request()], report)


def test_pictures_of_one_request_differ_and_each_has_its_seed(handler: DiffusersHandler) -> None:
    made = run(handler, request(num_images=2, seed=5)).images
    assert [image.seed for image in made] == [5, 6]
    alone = [draw(handler, seed=seed) for seed in (5, 6)]
    assert all(psnr(image.image, other) > 40 for image, other in zip(made, alone, strict=True))
    assert psnr(*alone) < 40


def test_a_picture_is_drawn_in_the_size_that_is_asked_for(handler: DiffusersHandler) -> None:
    odd = picture().resize((70, 50))
    assert draw(handler, image=odd, width=64, height=48).size == (64, 48)
    assert draw(handler, model_id="sd", image=odd, mask=mask().resize((70, 50)), width=64, height=48).size == (64, 48)


def test_outside_of_the_mask_no_pixel_changes(handler: DiffusersHandler) -> None:
    drawn = draw(handler, model_id="sd", mask=mask(), strength=1.0)
    left, right = (0, 0, SIDE // 2, SIDE), (SIDE // 2, 0, SIDE, SIDE)
    assert drawn.crop(left).tobytes() == picture().crop(left).tobytes()
    assert psnr(drawn.crop(right), picture().crop(right)) < 30


@pytest.mark.parametrize("more", [{}, {"mask": mask()}], ids=["image", "inpaint"])
def test_a_family_that_can_not_says_so(handler: DiffusersHandler, models: Path, more: dict[str, Any]) -> None:
    if not (models / "sana").exists():
        build("sana").save_pretrained(models / "sana")
    with pytest.raises(InvalidParamsError, match=f"doesn't support {'inpainting' if more else 'image-to-image'}"):
        run(handler, request("sana", **more))


def test_a_network_that_can_not_be_masked_says_so(handler: DiffusersHandler) -> None:
    with pytest.raises(InvalidParamsError, match="inpainting"):
        run(handler, request("demo", mask=mask()))  # its latents have 8 channels


@pytest.mark.parametrize("model_id", ["sd", "sdxl"])
def test_nothing_is_in_memory_twice(handler: DiffusersHandler, model_id: str) -> None:
    run(handler, of_model(model_id))
    with PIPELINE_CACHE.lease(key(model_id), pytest.fail, capacity=1) as loaded:
        before = memory.get_pipeline_size(loaded)
    for more in ({}, {"mask": mask()}):
        run(handler, request(model_id, **more))
    assert PIPELINE_CACHE.keys() == [key(model_id)]
    with PIPELINE_CACHE.lease(key(model_id), pytest.fail, capacity=1) as loaded:
        assert memory.get_pipeline_size(loaded) == before
        derived = [pipeline_for(loaded, request("demo", **more)) for more in ({}, {"mask": mask()})]
        assert len({type(pipeline) for pipeline in (loaded, *derived)}) == 3
        for pipeline in derived:
            assert _weights(pipeline) == _weights(loaded)


def _weights(pipeline: DiffusionPipeline) -> set[int]:
    """Return where the tensors of all its parts lie."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return {tensor.data_ptr() for part in parts for tensor in (*part.parameters(), *part.buffers())}


def test_it_is_made_once_and_goes_with_what_it_was_made_of(handler: DiffusersHandler) -> None:
    run(handler, request("sd"))
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as loaded:
        derived = weakref.ref(pipeline_for(loaded, request("sd")))
        assert pipeline_for(loaded, request("sd")) is derived()
        weights = weakref.ref(loaded.unet)
        del loaded
    gc.disable()
    try:
        PIPELINE_CACHE.clear()  # collects once, before it gives the device its memory back
        assert derived() is None
        assert weights() is None
    finally:
        gc.enable()


def test_text_to_image_is_as_if_nothing_had_been(handler: DiffusersHandler, models: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(models / "sd")
    pipeline.scheduler = PNDMScheduler(
        steps_offset=1
    )  # which an inpainting pipeline reconfigures: it skips no PRK steps
    pipeline.save_pretrained(models / "pndm")
    before = run(handler, of_model("pndm", steps=8)).images[0].image
    with pytest.raises(GenerationAbortedError):
        handler.run([request("pndm", mask=mask())], _stopping)
    run(handler, request("pndm", mask=mask()))
    assert run(handler, of_model("pndm", steps=8)).images[0].image.tobytes() == before.tobytes()
    with PIPELINE_CACHE.lease(key("pndm"), pytest.fail, capacity=1) as loaded:
        assert loaded.scheduler.config.skip_prk_steps is False


def _stopping(progress: Progress) -> None:
    if progress.step:
        raise GenerationAbortedError


def test_hooks_of_the_loaded_pipeline_are_freed(handler: DiffusersHandler) -> None:
    run(handler, request("sd"))
    freed: list[str] = []
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as loaded:
        loaded.maybe_free_model_hooks = lambda: freed.append("freed")
    with pytest.raises(GenerationAbortedError):
        handler.run([request("sd")], _stopping)
    assert freed == ["freed"]


def test_a_named_scheduler_counts(handler: DiffusersHandler) -> None:
    assert psnr(draw(handler, scheduler="euler_a"), draw(handler, scheduler="ddim")) < 60
    with pytest.raises(InvalidParamsError, match="flow_match_euler"):
        draw(handler, scheduler="flow_match_euler")
