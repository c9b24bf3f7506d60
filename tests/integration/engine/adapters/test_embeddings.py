"""Embeddings on tiny pipelines: their words count, others don't, and without them the model draws as before."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from diffusers import DiffusionPipeline
from PIL import Image

from tasks_app.engine.diffusers.adapters import embeddings as handled
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.types import GenerationRequest, LoadOptions, RequestedLora
from tasks_app.errors import GenerationAbortedError, InvalidParamsError, ModelLoadError, ModelUnavailableError
from tests.integration.engine.families.builders import build
from tests.integration.engine.families.test_families import psnr
from tests.integration.engine.test_handler import key
from tests.integration.engine.test_handler import request as of_model
from tests.support import embeddings, loras, tiny

SIDE = 32
ALIKE = 40.0
BOTH = ("clip_l", "clip_g")
# By model its embeddings: one of two vectors and one of one.
NAMES = {"sd": ("mood", "tone"), "sdxl": ("moodxl", "tonexl")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.save_sd(folder / "sd")
    tiny.save_sdxl(folder / "sdxl")
    for model_id, keys in (("sd", ()), ("sdxl", BOTH)):
        for seed, name in enumerate(NAMES[model_id]):
            embeddings.save_embedding(folder / "embeddings", name, *keys, rows=2 - seed, seed=seed)
    return folder


@pytest.fixture
def handler(models: Path, tmp_path: Path) -> Iterator[DiffusersHandler]:
    PIPELINE_CACHE.clear()
    yield DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu")
    PIPELINE_CACHE.clear()


def request(model_id: str, prompt: str, *names: str, **more: Any) -> GenerationRequest:
    return of_model(
        model_id, **{"prompt": prompt, "embeddings": names, "width": SIDE, "height": SIDE, "steps": 2, **more}
    )


def draw(handler: DiffusersHandler, *args: Any, **more: Any) -> Image.Image:
    (result,) = handler.run([request(*args, **more)], lambda progress: None)
    return result.images[0].image


def states(pipeline: DiffusionPipeline) -> list[Any]:
    """Return what embeddings could change: vocabularies, and matrices with what they lie in."""
    found: list[Any] = []
    for which in ("", "_2"):
        if encoder := pipeline.components.get(f"text_encoder{which}"):
            tokenizer = pipeline.components[f"tokenizer{which}"]
            layer = encoder.get_input_embeddings()
            found += [tokenizer.get_vocab(), tokenizer.added_tokens_encoder, type(layer), hash_of(layer.weight)]
            found += [getattr(encoder, "text_model", encoder).eos_token_id]
    return found


def hash_of(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("model_id", NAMES)
def test_its_word_counts_and_without_it_everything_is_as_before(handler: DiffusersHandler, model_id: str) -> None:
    one, two = NAMES[model_id]
    prompt = f"a {one} h, {two}"
    base = draw(handler, model_id, prompt)
    with PIPELINE_CACHE.lease(key(model_id), pytest.fail, capacity=1) as pipeline:
        before = states(pipeline)
    pictures = [draw(handler, model_id, prompt, *names) for names in ([one], [two], [one, two])]
    assert len({picture.tobytes() for picture in [base, *pictures]}) == 4
    assert max(psnr(base, picture) for picture in pictures) < ALIKE
    assert draw(handler, model_id, prompt, two, one) == pictures[2]
    assert draw(handler, model_id, prompt) == base
    with PIPELINE_CACHE.lease(key(model_id), pytest.fail, capacity=1) as pipeline:
        assert states(pipeline) == before
    assert draw(handler, model_id, prompt, one) == pictures[0]


@pytest.mark.parametrize("model_id", NAMES)
def test_only_the_word_itself_is_meant_large_or_small(handler: DiffusersHandler, model_id: str) -> None:
    name, _ = NAMES[model_id]
    for similar in (f"{name}y", f"un{name}", name[:-1], f"{name}_1", "a h"):
        assert draw(handler, model_id, similar, name) == draw(handler, model_id, similar), similar
    assert draw(handler, model_id, f"({name.upper()}), h", name) == draw(handler, model_id, f"({name}), h", name)


def test_it_counts_in_the_negative_prompt(handler: DiffusersHandler) -> None:
    negative = {"negative_prompt": "mood"}
    assert psnr(draw(handler, "sd", "h", "mood", **negative), draw(handler, "sd", "h", **negative)) < ALIKE


def test_each_of_its_vectors_counts(handler: DiffusersHandler, models: Path) -> None:
    for rows in (1, 2):
        embeddings.save_embedding(models / "embeddings", "grown", rows=rows)
        made = draw(handler, "sd", "grown h", "grown")
        assert (made == draw(handler, "sd", "mood h", "mood")) == (rows == 2)


def test_two_requests_in_one_call_are_drawn_as_alone(handler: DiffusersHandler) -> None:
    each = [request("sd", "a mood", "mood", seed=3), request("sd", "h", "mood", seed=9)]
    together = handler.run(each, lambda progress: None)
    for alone, result in zip(each, together, strict=True):
        (expected,) = handler.run([alone], lambda progress: None)
        assert psnr(result.images[0].image, expected.images[0].image) >= ALIKE


def test_a_result_names_the_files_that_it_was_made_by(handler: DiffusersHandler, models: Path) -> None:
    (result,) = handler.run([request("sd", "h", "mood")], lambda progress: None)
    content = (models / "embeddings" / "mood.safetensors").read_bytes()
    assert result.provenance["embedding:mood"] == hashlib.sha256(content).hexdigest()
    (result,) = handler.run([request("sd", "h")], lambda progress: None)
    assert not [name for name in result.provenance if name.startswith("embedding")]


def test_the_whole_of_a_prompt_is_still_read_where_it_ends(models: Path) -> None:
    pooled = []
    for eos in (1, 2):  # 2 is what older configurations say, of which SDXL has one
        pipeline = DiffusionPipeline.from_pretrained(models / "sdxl")
        pipeline.text_encoder_2.text_model.eos_token_id = eos
        found = handled.find_embeddings(["moodxl"], models / "embeddings")
        handled.apply_embeddings(pipeline, found)
        text = handled.substitute_tokens(pipeline, request("sdxl", "a moodxl h")).prompt
        pooled.append(pipeline.encode_prompt(text, do_classifier_free_guidance=False)[2])
        handled.apply_embeddings(pipeline, ())
        assert pipeline.text_encoder_2.text_model.eos_token_id == eos
    assert torch.equal(*pooled)


def offload_model(pipeline: DiffusionPipeline) -> None:
    pipeline.enable_model_cpu_offload(device="cpu")


def offload_layer(pipeline: DiffusionPipeline) -> None:
    """Do to the layer alone what sequential offloading does to each."""
    cpu_offload(pipeline.text_encoder.get_input_embeddings(), execution_device="cpu")


@pytest.mark.parametrize("offload", [offload_model, offload_layer])
def test_it_is_where_offloading_has_the_encoder_compute(
    models: Path, offload: Callable[[DiffusionPipeline], None]
) -> None:
    plain, offloaded = (DiffusionPipeline.from_pretrained(models / "sd") for _ in range(2))
    offload(offloaded)
    hooked = [name for name, part in offloaded.text_encoder.named_modules() if hasattr(part, "_hf_hook")]
    made = []
    for pipeline in (plain, offloaded):
        handled.apply_embeddings(pipeline, handled.find_embeddings(["mood"], models / "embeddings"))
        text = handled.substitute_tokens(pipeline, request("sd", "a mood h")).prompt
        with torch.no_grad():
            made.append(pipeline.encode_prompt(text, torch.device("cpu"), 1, False)[0])
        handled.apply_embeddings(pipeline, ())
    assert torch.equal(*made)
    assert hooked == [name for name, part in offloaded.text_encoder.named_modules() if hasattr(part, "_hf_hook")]


@pytest.mark.parametrize("error", [GenerationAbortedError, ValueError])
def test_after_a_run_that_was_broken_off_the_model_draws_as_before(
    handler: DiffusersHandler, error: type[Exception]
) -> None:
    def stop(progress: Any) -> None:
        if progress.step == 1:
            raise error

    base = draw(handler, "sd", "mood")
    with pytest.raises(error):
        handler.run([request("sd", "mood", "mood")], stop)
    assert draw(handler, "sd", "mood") == base


def test_when_memory_runs_out_the_second_try_has_it_on_too(handler: DiffusersHandler) -> None:
    thrifty = {}
    for names in ((), ("mood",)):
        failures: list[Exception] = [torch.OutOfMemoryError("CUDA out of memory.")]

        def fail_once(progress: Any, failures: list[Exception] = failures) -> None:
            if progress.step == 1 and failures:
                raise failures.pop()

        (result,) = handler.run([request("sd", "mood", *names)], fail_once)
        thrifty[names] = result.images[0].image
    assert psnr(*thrifty.values()) < ALIKE


MISFITS = {
    "wide": ({"width": 8}, "its vectors have 8 features instead of 16"),
    "long": ({"rows": 15}, "its number of vectors, 15, is not supported"),
    "empty": ({"rows": 0}, "its number of vectors, 0, is not supported"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_touched(
    handler: DiffusersHandler, models: Path, name: str
) -> None:
    shape, why = MISFITS[name]
    embeddings.save_embedding(models / "embeddings", name, **shape)
    expected = draw(handler, "sd", "mood", "mood")
    with pytest.raises(InvalidParamsError, match=f"^The embedding {name} doesn't fit this model: {why}[.]$"):
        draw(handler, "sd", "mood", "mood", name)
    assert draw(handler, "sd", "mood", "mood") == expected


@pytest.mark.parametrize(("model_id", "name"), [("sd", "moodxl"), ("sdxl", "mood")])
def test_one_for_another_model_is_refused_by_name(handler: DiffusersHandler, model_id: str, name: str) -> None:
    with pytest.raises(InvalidParamsError, match=f"^The embedding {name} doesn't fit this model: it has vectors for"):
        draw(handler, model_id, "h", name)


def test_a_damaged_file_and_a_missing_one_are_told_without_a_path(handler: DiffusersHandler, models: Path) -> None:
    content = (models / "embeddings" / "mood.safetensors").read_bytes()
    (models / "embeddings" / "short.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelLoadError, match=r"^The embedding short can't be read: it is not a valid safetensors file"):
        draw(handler, "sd", "h", "short")
    with pytest.raises(
        ModelUnavailableError,
        match=r"^The embedding gone is not on this worker[.] An administrator can add gone[.]safetensors to",
    ):
        draw(handler, "sd", "h", "gone")


@pytest.mark.parametrize("family", ["pixart-sigma", "flux-dev"])
def test_a_family_that_takes_none_says_so(handler: DiffusersHandler, models: Path, family: str) -> None:
    build(family).save_pretrained(models / family)
    with pytest.raises(InvalidParamsError, match=r"^This model doesn't support embeddings[.]$"):
        draw(handler, family, "h", "mood")


@pytest.mark.parametrize("model_id", NAMES)
def test_it_can_weigh_more_and_stand_in_a_long_prompt(handler: DiffusersHandler, model_id: str) -> None:
    name, _ = NAMES[model_id]
    weighted = {"options": LoadOptions(prompt_weighting=True)}
    for prompt in (f"a ({name}:1.4) h", f"{'h ' * 30} {name}", f"a [{name}] h"):
        base = draw(handler, model_id, prompt, **weighted)
        assert draw(handler, model_id, prompt, name, **weighted) != base
        assert draw(handler, model_id, prompt, **weighted) == base
    light, heavy = (draw(handler, model_id, f"a ({name}:{weight}) h", name, **weighted) for weight in (1.1, 1.6))
    assert light != heavy


@pytest.mark.parametrize("options", [LoadOptions(), LoadOptions(prompt_weighting=True)], ids=["plain", "weighted"])
def test_prompts_that_are_remembered_are_remembered_for_each(
    handler: DiffusersHandler, models: Path, tmp_path: Path, options: LoadOptions
) -> None:
    embeddings.save_embedding(models / "embeddings", "mood2", seed=7)
    asked: list[list[str]] = [[], ["mood"], [], ["mood2"], ["mood"]]
    # The two stand for each other's place: only what they are tells them apart.
    prompts = ["mood h" if "mood2" not in names else "mood2 h" for names in asked]
    each = list(zip(prompts, asked, strict=True))
    expected = [draw(handler, "sd", prompt, *names, options=options) for prompt, names in each]
    PIPELINE_CACHE.clear()
    remembering = DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", prompt_cache_bytes=1 << 20)
    assert [draw(remembering, "sd", prompt, *names, options=options) for prompt, names in each] == expected


def test_loras_and_pictures_to_begin_with_go_with_them(handler: DiffusersHandler, models: Path) -> None:
    made_for = DiffusionPipeline.from_pretrained(models / "sd")
    loras.save_lora(models / "loras", "style", loras.make_weights(made_for, "unet", "text_encoder"))
    begun = {"image": Image.effect_noise((SIDE, SIDE), 80).convert("RGB"), "strength": 1.0}
    base = draw(handler, "sd", "mood h", **begun)
    with_word = draw(handler, "sd", "mood h", "mood", **begun)
    with_both = draw(handler, "sd", "mood h", "mood", loras=(RequestedLora(id="style", weight=1.0),), **begun)
    assert len({picture.tobytes() for picture in (base, with_word, with_both)}) == 3
    assert draw(handler, "sd", "mood h", "mood", **begun) == with_word
    assert draw(handler, "sd", "mood h", **begun) == base
