"""Long prompts and weighted words, on tiny pipelines and the demo model, whose encoder reads 32 tokens at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image

from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.diffusers.prompts.weighting import enable_prompt_weighting
from tasks_app.engine.types import GenerationRequest, GenerationResult, LoadOptions
from tasks_app.errors import InvalidParamsError, ModelLoadError
from tests.integration.engine.families.builders import build
from tests.integration.engine.families.test_families import psnr
from tests.integration.engine.test_handler import DEMO
from tests.integration.engine.test_handler import request as of_model
from tests.support import tiny

SIDE = 64
WEIGHTED = ("sdxl", "lcm", "demo")
REFUSED = ("flux", "kandinsky22")
# In decibels: what differs by rounding alone.
ROUNDED = 50.0
LONG = "a red house by the sea" + ", snow on the roof" * 12


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.save_sd(folder / "sd")
    tiny.save_sdxl(folder / "sdxl")
    tiny.save_flux(folder / "flux")
    for family in ("lcm", "kandinsky22"):
        build(family).save_pretrained(folder / family)
    (folder / "demo").symlink_to(DEMO / "demo")
    return folder


@pytest.fixture
def handler(models: Path, tmp_path: Path) -> Iterator[DiffusersHandler]:
    PIPELINE_CACHE.clear()
    yield DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", max_cached_models=2)
    PIPELINE_CACHE.clear()


def request(model_id: str, prompt: str, *, on: bool = True, **more: Any) -> GenerationRequest:
    size = {"width": SIDE, "height": SIDE}
    return of_model(model_id, prompt=prompt, options=LoadOptions(prompt_weighting=on), **{**size, **more})


def run(handler: DiffusersHandler, *requests: GenerationRequest) -> list[GenerationResult]:
    return handler.run(requests, lambda progress: None)


def draw(handler: DiffusersHandler, model_id: str, prompt: str, **more: Any) -> Image.Image:
    return run(handler, request(model_id, prompt, **more))[0].images[0].image


@pytest.mark.parametrize("model_id", WEIGHTED)
def test_a_plain_prompt_is_drawn_bit_by_bit_as_without(handler: DiffusersHandler, model_id: str) -> None:
    for negative in ("", "rain"):
        without, on = (draw(handler, model_id, "a fox", on=on, negative_prompt=negative) for on in (False, True))
        assert on.tobytes() == without.tobytes()


@pytest.mark.parametrize("model_id", WEIGHTED)
def test_weights_change_the_picture_and_a_weight_of_1_does_not(handler: DiffusersHandler, model_id: str) -> None:
    prompts = ("a red house", "a (red:2) house", "a [[[red]]] house", "a (red:0) house")
    plain, *weighted = (draw(handler, model_id, prompt) for prompt in prompts)
    assert len({picture.tobytes() for picture in (plain, *weighted)}) == len(prompts)
    assert psnr(draw(handler, model_id, "(a red house:1)"), plain) >= ROUNDED


def test_the_heavier_a_word_the_further_its_picture_from_the_plain_one(handler: DiffusersHandler) -> None:
    plain = draw(handler, "demo", "a red house", on=False)
    near = [
        psnr(draw(handler, "demo", f"a (red:{weight}) house", on=on), plain)
        for weight, on in ((1.1, True), (1.5, True), (2, True))
    ]
    assert near == sorted(near, reverse=True)


@pytest.mark.parametrize("model_id", WEIGHTED)
def test_a_long_prompt_is_read_to_its_end(handler: DiffusersHandler, model_id: str) -> None:
    for on in (False, True):
        one, other = (draw(handler, model_id, LONG + end, on=on) for end in (", blue", ", green"))
        assert (one.tobytes() != other.tobytes()) is on


@pytest.mark.parametrize("model_id", WEIGHTED)
def test_a_picture_does_not_depend_on_how_long_the_prompts_beside_it_are(
    handler: DiffusersHandler, model_id: str
) -> None:
    texts = [("a fox", "rain"), (LONG, "fog"), (LONG[:150], LONG), ("a (red:1.4) house", "[snow]")]
    texts = texts if model_id != "lcm" else [(prompt, "") for prompt, _ in texts]
    requests = [request(model_id, prompt, negative_prompt=negative) for prompt, negative in texts]
    alone = [run(handler, each)[0].images[0].image for each in requests]
    together = [result.images[0].image for result in run(handler, *requests)]
    assert all(psnr(one, other) >= ROUNDED for one, other in zip(alone, together, strict=True))
    assert len({picture.tobytes() for picture in alone}) == len(alone)


@pytest.mark.parametrize("model_id", ["sdxl", "demo"])
def test_negative_prompts_are_read_as_prompts_are(handler: DiffusersHandler, model_id: str) -> None:
    negatives = ("", "rain", "(rain:1.8)", LONG, LONG + " rain")
    drawn = {draw(handler, model_id, "(a fox)", negative_prompt=negative).tobytes() for negative in negatives}
    assert len(drawn) == len(negatives)
    # Nor do they weigh anything where nothing is weighed against them.
    unguided = {
        draw(handler, model_id, "(a fox)", negative_prompt=each, guidance_scale=1.0).tobytes() for each in negatives
    }
    assert len(unguided) == 1


def test_each_of_several_pictures_is_the_one_of_its_seed(handler: DiffusersHandler) -> None:
    several = run(handler, request("demo", LONG, negative_prompt="(rain)", num_images=2))[0].images
    for image in several:
        alone = draw(handler, "demo", LONG, negative_prompt="(rain)", seed=image.seed)
        assert psnr(image.image, alone) >= ROUNDED


@pytest.mark.parametrize("model_id", ["sd", "sdxl"])
@pytest.mark.parametrize("masked", [False, True], ids=["image", "inpaint"])
def test_what_begins_with_a_picture_heeds_weights_too(handler: DiffusersHandler, model_id: str, masked: bool) -> None:
    white = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
    begun = {"image": Image.new("RGB", (SIDE, SIDE), (200, 30, 30)), "strength": 1.0, "mask": white if masked else None}
    plain, same, light, heavy = (
        draw(handler, model_id, prompt, on=on, **begun)
        for prompt, on in (("a fox", False), ("a fox", True), ("(a fox:1)", True), ("a (fox:3)", True))
    )
    assert same.tobytes() == plain.tobytes()
    assert psnr(light, plain) >= ROUNDED
    assert heavy.tobytes() != plain.tobytes()


def test_weighted_prompts_that_come_again_skip_the_encoders(models: Path, tmp_path: Path) -> None:
    PIPELINE_CACHE.clear()
    asked = request("demo", "a (red:1.4) house", negative_prompt="fog")
    handler = DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", prompt_cache_bytes=1 << 20)
    first = run(handler, asked)[0].images[0].image
    with PIPELINE_CACHE.lease(("demo", "local", asked.options), pytest.fail, capacity=1) as pipeline:
        pipeline.text_encoder.register_forward_hook(pytest.fail)
    assert run(handler, asked)[0].images[0].image.tobytes() == first.tobytes()
    PIPELINE_CACHE.clear()


@pytest.mark.parametrize("kind", [StableDiffusionPipeline, StableDiffusionXLPipeline], ids=["sd", "sdxl"])
def test_encoders_whose_weights_are_elsewhere_encode_the_same(models: Path, kind: Any) -> None:
    pipeline = kind.from_pretrained(models / {StableDiffusionPipeline: "sd"}.get(kind, "sdxl"))
    enable_prompt_weighting(pipeline, kind.__name__)
    arguments = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    asked = {"prompt": LONG + " (a:1.5) [b]", "negative_prompt": "(c)", **arguments}
    expected = pipeline.encode_prompt(**asked)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            # As diffusers does it where `offload` is `sequential`, which needs an accelerator there.
            accelerate.cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)
    assert pipeline.text_encoder.device.type == "meta"
    assert all(map(torch.equal, pipeline.encode_prompt(**asked), expected))


@pytest.mark.parametrize("model_id", REFUSED)
def test_models_whose_encoders_do_not_allow_it_are_refused_by_the_option(
    handler: DiffusersHandler, model_id: str
) -> None:
    with pytest.raises(ModelLoadError, match="option prompt_weighting "):
        run(handler, request(model_id, "a fox"))


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_what_weighs_too_much_is_refused_and_only_where_weights_are_heeded(
    handler: DiffusersHandler, field: str
) -> None:
    words: dict[str, Any] = {"prompt": "a fox", "negative_prompt": "rain", field: "(a:99)"}
    run(handler, request("sd", on=False, **words))
    with pytest.raises(InvalidParamsError, match=rf"^{field}: "):
        run(handler, request("sd", **words))


@pytest.mark.parametrize("model_id", ["sdxl", "demo"])
@pytest.mark.parametrize(
    "text", ["((cat", "()", "( :.5) (b:.5)", "(\u65e5\u672c:.5) \u65e5", "<|endoftext|> (<|endoftext|>:.5) b"]
)
def test_odd_expressions_are_drawn(handler: DiffusersHandler, model_id: str, text: str) -> None:
    draw(handler, model_id, text, negative_prompt="(rain)", steps=1)


def test_pictures_tell_that_weights_were_heeded(handler: DiffusersHandler) -> None:
    told = [run(handler, request("sd", "a fox", on=on, steps=1))[0].provenance for on in (False, True)]
    assert [each.get("prompt_weighting") for each in told] == [None, "true"]
