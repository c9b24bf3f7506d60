"""Every family that docs/reference/models.md says works, through the real handler: what it says of each is so."""

import inspect
import math
from pathlib import Path
from typing import Any

import diffusers
import pytest
from PIL import Image, ImageChops, ImageStat

from tasks_app.engine.diffusers import memory
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.diffusers.schedulers import SCHEDULERS, read_compatible_schedulers
from tasks_app.engine.types import GenerationRequest, GenerationResult, Progress, RequestedLora
from tasks_app.errors import GenerationAbortedError, InvalidParamsError
from tests.integration.engine.families import documented
from tests.integration.engine.families.builders import BUILDERS
from tests.integration.engine.families.documented import Family
from tests.integration.engine.test_handler import key
from tests.integration.engine.test_handler import request as of_model
from tests.support import loras

DOCUMENTED = documented.families()
SIDE = 64
# What is drawn together and alone differs by rounding alone.
ALIKE = 40.0
MORE = 20.0
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers' use of numpy


@pytest.fixture
def told(family: str) -> Family:
    return DOCUMENTED[family]


def request(family: str, **more: Any) -> GenerationRequest:
    return of_model(family, **{"width": SIDE, "height": SIDE, "steps": 2, **more})


def run(handler: DiffusersHandler, *requests: GenerationRequest) -> list[GenerationResult]:
    return handler.run(requests, lambda progress: None)


def draw(handler: DiffusersHandler, family: str, **more: Any) -> Image.Image:
    return run(handler, request(family, **more))[0].images[0].image


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Return how alike two pictures are, in decibels."""
    squares = ImageStat.Stat(ImageChops.difference(one, other)).sum2
    error = sum(squares) / (3 * one.width * one.height)
    return 10 * math.log10(255**2 / error) if error else math.inf


def test_every_family_that_works_has_a_model_here_and_the_other_way_round() -> None:
    assert {name for name, family in DOCUMENTED.items() if family.works == "yes"} == BUILDERS.keys()


def test_it_is_loaded_as_its_own_pipeline(handler: DiffusersHandler, family: str, told: Family) -> None:
    run(handler, request(family))
    with PIPELINE_CACHE.lease(key(family), pytest.fail, capacity=1) as pipeline:
        assert type(pipeline).__name__ == told.pipeline


def test_every_step_is_reported_with_a_preview_where_there_is_one(
    handler: DiffusersHandler, family: str, told: Family
) -> None:
    reports: list[Progress] = []
    handler.run([request(family, steps=3)], reports.append)
    steps = [report for report in reports if report.phase == "denoising" and report.step]
    assert [(report.step, report.total_steps) for report in steps] == [(1, 3), (2, 3), (3, 3)]
    assert reports[-1].phase == "decoding"
    previews = [report.preview(0) for report in steps if report.preview is not None]
    assert bool(previews) == (told.preview == "yes")
    assert all(preview.getbbox() for preview in previews)


def test_it_stops_at_a_step_and_the_next_run_is_as_if_nothing_had_been(handler: DiffusersHandler, family: str) -> None:
    expected = draw(handler, family)
    seen: list[int] = []

    def stop(progress: Progress) -> None:
        seen.append(progress.step)
        if progress.step == 1:
            raise GenerationAbortedError

    with pytest.raises(GenerationAbortedError):
        handler.run([request(family)], stop)
    assert max(seen) == 1
    assert draw(handler, family) == expected


@pytest.mark.parametrize("family", ["kandinsky22"], indirect=True)
def test_a_prior_can_be_stopped_at_its_steps(handler: DiffusersHandler, family: str) -> None:
    told: list[Progress] = []

    def stop_in_the_midst(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 10:
            raise GenerationAbortedError

    with pytest.raises(GenerationAbortedError):
        handler.run([request(family)], stop_in_the_midst)
    assert {report.step for report in told} == {0}


def test_a_seed_means_one_picture_and_image_i_has_the_seed_plus_i(handler: DiffusersHandler, family: str) -> None:
    first = draw(handler, family, seed=11)
    assert draw(handler, family, seed=11) == first
    assert draw(handler, family, seed=12) != first
    (both,) = run(handler, request(family, seed=10, num_images=2))
    assert [image.seed for image in both.images] == [10, 11]
    assert psnr(both.images[1].image, first) >= ALIKE


def test_prompts_and_guidance_count(handler: DiffusersHandler, family: str, told: Family) -> None:
    first = draw(handler, family)
    assert draw(handler, family, prompt="mountains") != first
    assert (draw(handler, family, guidance_scale=9.0) == first) == (told.guidance == "none")


@pytest.mark.parametrize("negative", ["", "rain"], ids=["plain", "negative"])
def test_two_requests_in_one_call_are_drawn_as_alone(handler: DiffusersHandler, family: str, negative: str) -> None:
    each = [
        request(family, prompt="a house", seed=3, num_images=2, negative_prompt=negative),
        request(family, prompt="a long river by mountains", seed=9, num_images=2, negative_prompt=negative and "snow"),
    ]
    together = run(handler, *each)
    # Pictures of few colors are alike anyway: it is the right one only if it is much more so.
    best = max(ALIKE, MORE + psnr(together[0].images[0].image, together[1].images[0].image))
    for alone, result in zip(each, together, strict=True):
        expected = run(handler, alone)[0].images
        assert [image.seed for image in result.images] == [image.seed for image in expected]
        assert min(psnr(one.image, other.image) for one, other in zip(result.images, expected, strict=True)) >= best


def test_it_takes_loras_where_it_is_said_to_and_draws_as_before_without(
    handler: DiffusersHandler, family: str, told: Family, models: Path
) -> None:
    base = draw(handler, family)
    chosen = {"loras": (RequestedLora(id=family, weight=1.0),)}
    with PIPELINE_CACHE.lease(key(family), pytest.fail, capacity=1) as pipeline:
        parts = [name for name in ("unet", "transformer") if getattr(pipeline, name, None) is not None]
        loras.save_lora(models / "loras", family, loras.make_weights(pipeline, *parts))
    if told.loras == "yes":
        assert draw(handler, family, **chosen) != base
    else:
        with pytest.raises(InvalidParamsError, match="LoRAs"):
            draw(handler, family, **chosen)
    assert draw(handler, family) == base


def test_sizes_are_as_asked_for_up_to_its_multiple(handler: DiffusersHandler, family: str, told: Family) -> None:
    multiple = int(told.multiple)
    assert draw(handler, family, width=2 * SIDE, height=SIDE).size == (2 * SIDE, SIDE)
    if multiple == 8:
        assert draw(handler, family, width=SIDE + 8, height=SIDE).size == (SIDE + 8, SIDE)
        return
    for wrong, sides in ({"width"}, (SIDE + 8, SIDE)), ({"height", "width"}, (SIDE + 8, SIDE - 8)):
        with pytest.raises(InvalidParamsError, match=f"^{' and '.join(sorted(wrong))}: .* {multiple}"):
            draw(handler, family, width=sides[0], height=sides[1])


def test_a_negative_prompt_counts_where_it_is_said_to_and_is_refused_elsewhere(
    handler: DiffusersHandler, family: str, told: Family
) -> None:
    low, high = ({"guidance_scale": scale, "explicit_params": frozenset({"negative_prompt"})} for scale in (0.5, 4.0))
    takes = {"refused": [], "above 0": [low, high], "above 1": [high]}[told.negative]
    for given in (low, high):
        if given in takes:
            assert draw(handler, family, negative_prompt="rain", **given) != draw(handler, family, **given)
        else:
            with pytest.raises(InvalidParamsError, match="negative_prompt"):
                draw(handler, family, negative_prompt="rain", **given)


def test_only_a_guidance_that_was_sent_is_refused(handler: DiffusersHandler, family: str, told: Family) -> None:
    assert draw(handler, family)
    insisting = request(family, explicit_params=frozenset({"guidance_scale"}))
    if told.guidance == "none":
        with pytest.raises(InvalidParamsError, match="guidance_scale"):
            run(handler, insisting)
    else:
        assert run(handler, insisting)


def test_what_nobody_sent_is_never_refused(handler: DiffusersHandler, family: str) -> None:
    # As a model's row may have them.
    assert draw(handler, family, guidance_scale=1.0, negative_prompt="rain")


def test_it_draws_with_each_scheduler_that_it_takes_and_the_next_run_has_its_own(
    handler: DiffusersHandler, family: str, models: Path
) -> None:
    own = draw(handler, family, steps=3)
    takes = read_compatible_schedulers(models / family)
    pictures = [draw(handler, family, steps=3, scheduler=name) for name in takes]
    assert all(picture.getbbox() for picture in pictures)  # none is black
    assert len({picture.tobytes() for picture in pictures}) > len(takes) / 2
    assert draw(handler, family, steps=3) == own


def test_it_refuses_all_other_schedulers_in_words(handler: DiffusersHandler, family: str, models: Path) -> None:
    takes = read_compatible_schedulers(models / family)
    others = SCHEDULERS.keys() - set(takes)
    assert takes
    assert others
    for name in others:
        with pytest.raises(InvalidParamsError, match=f"scheduler {name}[.] Supported: {', '.join(takes)}"):
            draw(handler, family, scheduler=name)


def test_its_schedulers_are_those_that_are_documented(family: str, told: Family, models: Path) -> None:
    named = documented.schedulers().get(told.schedulers) or set(told.schedulers.split("`")[::2])
    assert set(read_compatible_schedulers(models / family)) == named


def test_every_scheduler_is_documented() -> None:
    assert set().union(*documented.schedulers().values()) == SCHEDULERS.keys()


def test_its_own_defaults_are_those_that_are_documented(told: Family) -> None:
    takes = inspect.signature(getattr(diffusers, told.pipeline).__call__).parameters
    scale = "true_cfg_scale" if told.pipeline == "QwenImagePipeline" else "guidance_scale"
    assert (told.own_steps, told.own_guidance) == (
        str(takes["num_inference_steps"].default),
        str(takes[scale].default),
    )


def test_its_memory_knobs_are_those_that_are_documented(handler: DiffusersHandler, family: str, told: Family) -> None:
    expected = draw(handler, family)
    with PIPELINE_CACHE.lease(key(family), pytest.fail, capacity=1) as pipeline:
        vae = getattr(pipeline, "vae", None)
        knobs = ["offload"] if pipeline.model_cpu_offload_seq else []
        knobs += [name for name in ("slicing", "tiling") if hasattr(vae, f"enable_{name}")]
        assert told.memory == ", ".join(knobs)
        with memory.low_memory(pipeline):
            pass
    assert draw(handler, family) == expected
