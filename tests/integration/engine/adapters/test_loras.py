"""LoRAs on tiny pipelines: they count, they are told, and without them the model draws as before, bit for bit."""

import gc
import hashlib
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.types import GenerationRequest, LoadOptions, RequestedLora
from tasks_app.errors import GenerationAbortedError, InvalidParamsError, ModelLoadError, ModelUnavailableError
from tests.integration.engine.families.builders import build
from tests.integration.engine.families.test_families import psnr
from tests.integration.engine.test_handler import key
from tests.integration.engine.test_handler import request as of_model
from tests.support import loras, tiny

# By model, the parts that a LoRA may be for.
PARTS = {
    "sd": ("unet", "text_encoder"),
    "sdxl": ("unet", "text_encoder", "text_encoder_2"),
    "flux": ("transformer", "text_encoder"),
}
SAVE = {"sd": tiny.save_sd, "sdxl": tiny.save_sdxl, "flux": tiny.save_flux}
SIDE = 32
ALIKE = 40.0
OTHER = {"sd": "sdxl", "sdxl": "flux", "flux": "sd"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of models with LoRAs: `{model}` for all of its parts, `{model}-2` for its network alone."""
    folder = tmp_path_factory.mktemp("models")
    for name, save in SAVE.items():
        pipeline = DiffusionPipeline.from_pretrained(save(folder / name))
        for lora, parts, seed in ((name, PARTS[name], 0), (f"{name}-2", PARTS[name][:1], 1)):
            loras.save_lora(folder / "loras", lora, loras.make_weights(pipeline, *parts, seed=seed))
    return folder


@pytest.fixture(scope="module")
def sd(models: Path) -> DiffusionPipeline:
    """Return one to make LoRAs for, which nobody draws with."""
    return DiffusionPipeline.from_pretrained(models / "sd")


@pytest.fixture
def handler(models: Path, tmp_path: Path) -> Iterator[DiffusersHandler]:
    PIPELINE_CACHE.clear()
    yield DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu")
    PIPELINE_CACHE.clear()


def uses(*names: str, weight: float = 1.0) -> tuple[RequestedLora, ...]:
    return tuple(RequestedLora(id=name, weight=weight) for name in names)


def request(model_id: str, *names: str, weight: float = 1.0, **more: Any) -> GenerationRequest:
    size = {"width": SIDE, "height": SIDE}
    return of_model(model_id, **{**size, "steps": 2, "loras": uses(*names, weight=weight), **more})


def draw(handler: DiffusersHandler, *args: Any, **more: Any) -> Image.Image:
    (result,) = handler.run([request(*args, **more)], lambda progress: None)
    return result.images[0].image


def loads() -> int:
    return sum(loaded for _, loaded, _ in PIPELINE_CACHE.get_usage())


@pytest.mark.parametrize("model_id", PARTS)
def test_a_lora_changes_the_picture_and_without_it_the_first_one_is_back_bit_for_bit(
    handler: DiffusersHandler, model_id: str
) -> None:
    base, before = draw(handler, model_id), loads()
    pictures = [
        draw(handler, model_id, *names) for names in ([model_id], [f"{model_id}-2"], [model_id, f"{model_id}-2"])
    ]
    assert len({picture.tobytes() for picture in [base, *pictures]}) == 4
    assert max(psnr(base, picture) for picture in pictures) < ALIKE
    assert draw(handler, model_id) == base
    assert draw(handler, model_id, model_id) == pictures[0]
    assert loads() == before


@pytest.mark.parametrize("model_id", PARTS)
def test_the_weight_says_how_much_of_it_is_added(handler: DiffusersHandler, model_id: str) -> None:
    base = draw(handler, model_id)
    assert draw(handler, model_id, model_id, weight=0.0) == base
    near = [psnr(base, draw(handler, model_id, model_id, weight=weight)) for weight in (0.02, 0.2, 1.0)]
    assert near == sorted(near, reverse=True)
    assert near[0] > near[-1] + 3
    assert draw(handler, model_id, model_id, weight=-1.0) != draw(handler, model_id, model_id)


@pytest.mark.parametrize("model_id", PARTS)
def test_two_requests_in_one_call_are_drawn_as_alone(handler: DiffusersHandler, model_id: str) -> None:
    each = [request(model_id, model_id, prompt="a house", seed=3), request(model_id, model_id, prompt="b", seed=9)]
    together = handler.run(each, lambda progress: None)
    for alone, result in zip(each, together, strict=True):
        (expected,) = handler.run([alone], lambda progress: None)
        assert psnr(result.images[0].image, expected.images[0].image) >= ALIKE


def test_a_result_names_the_files_that_it_was_made_by(handler: DiffusersHandler, models: Path) -> None:
    (result,) = handler.run([request("sd", "sd-2", "sd")], lambda progress: None)
    for name in ("sd", "sd-2"):
        content = (models / "loras" / f"{name}.safetensors").read_bytes()
        assert result.provenance[f"lora:{name}"] == hashlib.sha256(content).hexdigest()
    (result,) = handler.run([request("sd")], lambda progress: None)
    assert not [name for name in result.provenance if name.startswith("lora")]


def test_what_is_on_stays_for_the_next_call_with_another_weight_too(handler: DiffusersHandler) -> None:
    first = draw(handler, "sd", "sd")
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as pipeline:
        put_on = [weakref.ref(each) for name, each in pipeline.unet.named_parameters() if ".lora_" in name]
        assert put_on
    assert draw(handler, "sd", "sd", weight=0.5) != first
    assert draw(handler, "sd", "sd") == first
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as pipeline:
        present = {id(each) for each in pipeline.unet.parameters()}
        assert all(id(each()) in present for each in put_on)
    draw(handler, "sd")
    gc.collect()
    assert [each for each in put_on if each() is not None] == []


def test_a_file_that_was_replaced_is_another_lora(
    handler: DiffusersHandler, models: Path, sd: DiffusionPipeline
) -> None:
    loras.save_lora(models / "loras", "new", loras.make_weights(sd, "unet", seed=2))
    first = draw(handler, "sd", "new")
    loras.save_lora(models / "loras", "new", loras.make_weights(sd, "unet", seed=3))
    assert draw(handler, "sd", "new") != first


@pytest.mark.parametrize("error", [GenerationAbortedError, ValueError])
def test_after_a_run_that_was_broken_off_the_model_draws_as_before(
    handler: DiffusersHandler, error: type[Exception]
) -> None:
    base, expected = draw(handler, "sd"), draw(handler, "sd", "sd")

    def stop(progress: Any) -> None:
        if progress.step == 1:
            raise error

    with pytest.raises(error):
        handler.run([request("sd", "sd-2")], stop)
    assert draw(handler, "sd") == base
    with pytest.raises(error):
        handler.run([request("sd", "sd-2")], stop)
    assert draw(handler, "sd", "sd") == expected


def test_when_memory_runs_out_the_second_try_has_it_on_too(handler: DiffusersHandler) -> None:
    base = draw(handler, "sd")
    thrifty = {}
    for names in ((), ("sd",)):
        failures: list[Exception] = [torch.OutOfMemoryError("CUDA out of memory.")]

        def fail_once(progress: Any, failures: list[Exception] = failures) -> None:
            if progress.step == 1 and failures:
                raise failures.pop()

        (result,) = handler.run([request("sd", *names)], fail_once)
        thrifty[names] = result.images[0].image
    assert psnr(*thrifty.values()) < ALIKE
    assert draw(handler, "sd") == base


def test_one_that_fails_half_way_is_refused_and_the_model_draws_as_before(
    handler: DiffusersHandler, models: Path, sd: DiffusionPipeline
) -> None:
    torn = loras.make_weights(sd, *PARTS["sd"])
    last = next(name for name in reversed(torn) if name.startswith("text_encoder") and "lora_B" in name)
    torn[last] = torch.ones(torn[last].shape[0], loras.RANK + 1)  # its two matrices are no pair
    loras.save_lora(models / "loras", "torn", torn)
    base = draw(handler, "sd")
    for names in (["torn"], ["sd", "torn"]):
        with pytest.raises(InvalidParamsError, match=r"^The LoRA torn doesn't fit this model: \w+[.]$"):
            draw(handler, "sd", *names)
        assert draw(handler, "sd") == base


@pytest.mark.parametrize("model_id", PARTS)
def test_one_for_another_model_is_refused_by_name_and_nothing_is_touched(
    handler: DiffusersHandler, model_id: str
) -> None:
    base, before = draw(handler, model_id), loads()
    expected = draw(handler, model_id, model_id)
    with pytest.raises(
        InvalidParamsError, match=f"The LoRA {OTHER[model_id]} doesn't fit this model: no layer of the model matches"
    ):
        draw(handler, model_id, model_id, OTHER[model_id])
    assert draw(handler, model_id, model_id) == expected
    assert draw(handler, model_id) == base
    assert loads() == before


def test_one_that_would_widen_the_model_is_refused(handler: DiffusersHandler, models: Path) -> None:
    base = draw(handler, "flux")
    wide = {
        "transformer.x_embedder.lora_A.weight": torch.ones(2, 32),
        "transformer.x_embedder.lora_B.weight": torch.ones(32, 2),
    }
    loras.save_lora(models / "loras", "control", wide)
    with pytest.raises(
        InvalidParamsError, match=r"The LoRA control doesn't fit this model: .* FluxTransformer2DModel.x_embedder"
    ):
        draw(handler, "flux", "control")
    assert draw(handler, "flux") == base


NAME = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
STRANGE = {
    "layer": {f"{NAME}.lora_A.weight": torch.ones(2, 16), "unet.nowhere.lora_A.weight": torch.ones(2, 16)},
    "given": {f"{NAME}.lora_A.weight": torch.ones(2, 16), f"{NAME}.lora_B.weight": torch.ones(8, 2)},
    "norm": {f"{NAME}.lora_A.weight": torch.ones(2, 16), "unet.conv_norm_out.weight": torch.ones(8)},
    "vae": {"vae.decoder.conv_in.lora_A.weight": torch.ones(2, 4, 3, 3)},
    "kohya": {"lora_unet_nowhere.hada_w1_a": torch.ones(2, 2)},
    "nothing": {"x": torch.ones(1)},
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_file_that_would_not_count_as_a_whole_is_refused(handler: DiffusersHandler, models: Path, name: str) -> None:
    loras.save_lora(models / "loras", name, STRANGE[name])
    with pytest.raises(InvalidParamsError, match=f"The LoRA {name} doesn't fit this model"):
        draw(handler, "sd", name)


def test_a_dora_whose_scales_would_be_left_out_is_refused(
    handler: DiffusersHandler, models: Path, sd: DiffusionPipeline
) -> None:
    scales = {f"{NAME}.dora_scale": torch.ones(16)}
    loras.save_lora(models / "loras", "dora", loras.make_weights(sd, "unet") | scales)
    with pytest.raises(
        InvalidParamsError, match=r"^The LoRA dora doesn't fit this model: DoRA files are not supported[.]$"
    ):
        draw(handler, "sd", "dora")


def test_a_damaged_file_and_a_missing_one_are_told_without_a_path(handler: DiffusersHandler, models: Path) -> None:
    content = (models / "loras" / "sd.safetensors").read_bytes()
    (models / "loras" / "short.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelLoadError, match=r"^The LoRA short can't be read: it is not a valid safetensors file[.]$"):
        draw(handler, "sd", "short")
    with pytest.raises(
        ModelUnavailableError,
        match=r"^The LoRA gone is not on this worker[.] An administrator can add gone[.]safetensors to LORAS_DIR",
    ):
        draw(handler, "sd", "gone")


def test_a_family_that_takes_none_says_so(handler: DiffusersHandler, models: Path) -> None:
    build("pixart-sigma").save_pretrained(models / "pixart")
    with pytest.raises(InvalidParamsError, match=r"^This model doesn't support LoRAs[.]$"):
        draw(handler, "pixart", "sd")


@pytest.mark.parametrize("option", ["fuse_qkv", "compile_blocks"])
def test_an_option_that_does_not_go_with_loras_is_named(handler: DiffusersHandler, option: str) -> None:
    options: dict[str, Any] = {option: True}
    with pytest.raises(
        InvalidParamsError, match=f"^LoRAs can't be combined with this model's load options: {option}.$"
    ):
        draw(handler, "flux", "flux", options=LoadOptions(**options))


@pytest.mark.parametrize(
    ("model_id", "options"),
    [
        ("sd", {"channels_last": True, "vae_slicing": True, "vae_tiling": True}),
        ("flux", {"attention_backend": "native"}),
        ("flux", {"quantization": "int8"}),
        ("flux", {"step_cache": "first_block"}),
        ("sd", {"prompt_weighting": True}),
    ],
    ids=["tuned", "backend", "quantized", "cached", "weighted"],
)
def test_other_options_go_with_them(handler: DiffusersHandler, model_id: str, options: dict[str, Any]) -> None:
    chosen = {"options": LoadOptions(**options), "steps": 4}
    base = draw(handler, model_id, **chosen)
    assert psnr(draw(handler, model_id, model_id, **chosen), base) < ALIKE
    assert draw(handler, model_id, **chosen) == base


@pytest.mark.parametrize(
    ("model_id", "options"),
    [*((model_id, LoadOptions()) for model_id in PARTS), ("sd", LoadOptions(prompt_weighting=True))],
    ids=[*PARTS, "weighted"],
)
def test_prompts_that_are_remembered_are_remembered_for_each(
    handler: DiffusersHandler, models: Path, tmp_path: Path, model_id: str, options: LoadOptions
) -> None:
    asked = [[], [model_id], [], [f"{model_id}-2"], [model_id]]
    expected = [draw(handler, model_id, *names, options=options) for names in asked]
    PIPELINE_CACHE.clear()
    remembering = DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", prompt_cache_bytes=1 << 20)
    assert [draw(remembering, model_id, *names, options=options) for names in asked] == expected


@pytest.mark.parametrize("model_id", ["sd", "flux"])
def test_a_picture_that_is_begun_with_goes_with_them(handler: DiffusersHandler, model_id: str) -> None:
    begun = {"image": Image.effect_noise((SIDE, SIDE), 80).convert("RGB"), "strength": 1.0}
    base = draw(handler, model_id, **begun)
    assert psnr(draw(handler, model_id, model_id, **begun), base) < ALIKE
    assert draw(handler, model_id, **begun) == base


def test_every_common_format_of_a_file_means_the_same(
    handler: DiffusersHandler, models: Path, sd: DiffusionPipeline
) -> None:
    of_peft = trained(sd)
    saved = {f"{part}.{name}": value for part, values in of_peft.items() for name, value in values.items()}
    loras.save_lora(models / "loras", "peft", saved)
    StableDiffusionPipeline.save_lora_weights(
        models / "loras",
        unet_lora_layers=of_peft["unet"],
        text_encoder_lora_layers=of_peft["text_encoder"],
        weight_name="diffusers.safetensors",
    )
    loras.save_lora(models / "loras", "webui", {name: value for key in saved.items() for name, value in as_kohya(*key)})
    pictures = [draw(handler, "sd", name) for name in ("peft", "diffusers", "webui")]
    assert min(psnr(pictures[0], picture) for picture in pictures) >= ALIKE
    assert psnr(pictures[0], draw(handler, "sd")) < ALIKE


def trained(pipeline: DiffusionPipeline) -> dict[str, dict[str, torch.Tensor]]:
    """Return by part the weights of a LoRA that PEFT made for it, as after some training."""
    torch.manual_seed(5)
    found = {}
    for part, targets in (
        ("unet", ["to_q", "to_v"]),
        ("text_encoder", ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]),
    ):
        model = getattr(pipeline, part)
        model.add_adapter(LoraConfig(r=loras.RANK, lora_alpha=loras.RANK, target_modules=targets), "made")
        made = get_peft_model_state_dict(model, adapter_name="made")
        found[part] = {name: torch.randn(value.shape) * 0.5 for name, value in made.items()}
    pipeline.unload_lora_weights()
    return found


def as_kohya(name: str, value: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what kohya's scripts and A1111 call a weight, with the scale that goes with it."""
    layer, _, side = name.removesuffix(".weight").rpartition(".")
    part, _, rest = layer.partition(".")
    rest = rest if part == "unet" else f"text_model.{rest.removeprefix('text_model.')}"
    kohya = f"lora_{'unet' if part == 'unet' else 'te'}_{rest.replace('.', '_')}"
    yield f"{kohya}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight", value
    yield f"{kohya}.alpha", torch.tensor(float(loras.RANK))


def test_what_they_take_counts_as_the_models(models: Path, tmp_path: Path) -> None:
    PIPELINE_CACHE.clear()
    both = DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", max_cached_models=2)
    for model_id in ("sdxl", "sd"):
        draw(both, model_id)
    room = sum(PIPELINE_CACHE._sizes[key(model_id)] for model_id in ("sdxl", "sd")) + 100
    tight = DiffusersHandler(
        models_dir=models, hub_cache=tmp_path, device="cpu", max_cached_models=2, max_cached_bytes=room
    )
    draw(tight, "sd")
    assert PIPELINE_CACHE.keys() == [key("sdxl"), key("sd")]
    draw(tight, "sd", "sd")
    assert PIPELINE_CACHE.keys() == [key("sd")]
    PIPELINE_CACHE.clear()
