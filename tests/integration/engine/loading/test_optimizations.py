"""Each option of a model's row on tiny pipelines: it is in force and makes pictures, or is refused by name."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from tasks_app.engine.diffusers import memory
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.types import GenerationRequest, GenerationResult, LoadOptions, Progress
from tasks_app.errors import GenerationAbortedError, ModelLoadError
from tasks_app.models import DiffusionModel
from tests.support import tiny

# Decibels: what differs by less is the same but for rounding, or of a kind.
ROUNDED, ALIKE = 60.0, 20.0


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.save_sd(folder / "sd")
    tiny.save_flux(folder / "flux")
    return folder


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    PIPELINE_CACHE.clear()
    yield
    PIPELINE_CACHE.clear()


@pytest.fixture
def handler(models: Path, tmp_path: Path) -> DiffusersHandler:
    return DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu")


def request(model_id: str, steps: int = 8, seed: int = 11, **options: Any) -> GenerationRequest:
    return GenerationRequest(
        model_id=model_id,
        revision="",
        prompt="a house",
        negative_prompt="",
        steps=steps,
        guidance_scale=4.0,
        seed=seed,
        width=16,
        height=16,
        num_images=1,
        options=LoadOptions(**options),
    )


def run(handler: DiffusersHandler, request: GenerationRequest) -> GenerationResult:
    return handler.run([request], lambda progress: None)[0]


def pixels(handler: DiffusersHandler, request: GenerationRequest) -> np.ndarray[Any, Any]:
    return np.asarray(run(handler, request).images[0].image, dtype=float)


def psnr(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Return the peak signal-to-noise ratio in decibels."""
    error = float(((one - other) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def pipeline_of(asked: GenerationRequest) -> Any:
    with PIPELINE_CACHE.lease((asked.model_id, "local", asked.options), pytest.fail, capacity=1) as pipeline:
        return pipeline


def conv(pipeline: Any) -> bool:
    return bool(pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last))


def fused(pipeline: Any) -> bool:
    part = pipeline.components.get("unet") or pipeline.transformer
    return any(getattr(module, "fused_projections", False) for module in part.modules())


def attends(pipeline: Any) -> bool:
    return all(
        part.attn.processor._attention_backend == "_native_math" for part in pipeline.transformer.transformer_blocks
    )


# By option and model: what is chosen, how near its pictures are to those without, and what shows that it is in force.
WORKING: dict[str, tuple[str, dict[str, Any], float, Any]] = {
    "channels last": ("sd", {"channels_last": True}, ROUNDED, conv),
    "fused, a U-Net": ("sd", {"fuse_qkv": True}, ROUNDED, fused),
    "fused, a transformer": ("flux", {"fuse_qkv": True}, ROUNDED, fused),
    "attention": ("flux", {"attention_backend": "_native_math"}, ROUNDED, attends),
    "slices": ("sd", {"vae_slicing": True}, ROUNDED, lambda pipeline: pipeline.vae.use_slicing),
    "tiles": ("sd", {"vae_tiling": True}, ROUNDED, lambda pipeline: pipeline.vae.use_tiling),
    "first block": (
        "flux",
        {"step_cache": "first_block"},
        ALIKE,
        lambda pipeline: pipeline.transformer.is_cache_enabled,
    ),
    "taylorseer": ("flux", {"step_cache": "taylorseer"}, ALIKE, lambda pipeline: pipeline.transformer.is_cache_enabled),
    "pyramid": (
        "flux",
        {"step_cache": "pyramid_attention"},
        ALIKE,
        lambda pipeline: pipeline.transformer.is_cache_enabled,
    ),
}
QUANTIZED = {
    "int8": ("sd", "Int8Tensor"),
    "int8_dynamic": ("flux", "Int8Tensor"),
    "float8": ("flux", "Float8Tensor"),
}


@pytest.mark.parametrize("name", WORKING)
def test_an_option_is_in_force_and_its_pictures_are_as_near_as_promised(handler: DiffusersHandler, name: str) -> None:
    model_id, options, near, in_force = WORKING[name]
    asked = request(model_id, **options)
    plain = pixels(handler, request(model_id))
    assert not in_force(pipeline_of(request(model_id)))
    assert psnr(pixels(handler, asked), plain) >= near
    assert in_force(pipeline_of(asked))


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_fewer_bits_take_less_memory_and_make_pictures_that_are_alike(
    handler: DiffusersHandler, quantization: str
) -> None:
    model_id, kind = QUANTIZED[quantization]
    asked = request(model_id, quantization=quantization)
    plain = pixels(handler, request(model_id))
    size = memory.get_pipeline_size(pipeline_of(request(model_id)))
    assert psnr(pixels(handler, asked), plain) >= ALIKE
    pipeline = pipeline_of(asked)
    part = pipeline.components.get("unet") or pipeline.transformer
    assert kind in {type(weight).__name__ for weight in part.parameters()}
    assert memory.get_pipeline_size(pipeline) < size


def test_compiled_blocks_make_the_same_pictures_but_for_rounding(handler: DiffusersHandler) -> None:
    asked = request("sd", steps=2, compile_blocks=True)
    plain = pixels(handler, request("sd", steps=2))
    torch._dynamo.utils.counters.clear()
    assert psnr(pixels(handler, asked), plain) >= ROUNDED
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize("step_cache", DiffusionModel.StepCache.values)
def test_nothing_is_carried_over_from_one_picture_to_the_next(handler: DiffusersHandler, step_cache: str) -> None:
    asked, other = (request("flux", step_cache=step_cache, seed=seed) for seed in (11, 12))
    expected = pixels(handler, asked)

    def stop_at_five(progress: Progress) -> None:
        if progress.step == 5:
            raise GenerationAbortedError

    with pytest.raises(GenerationAbortedError):
        handler.run([other], stop_at_five)
    assert (pixels(handler, asked) == expected).all()


def test_an_attention_backend_is_for_its_own_model_alone(handler: DiffusersHandler) -> None:
    before = _AttentionBackendRegistry.get_active_backend()
    run(handler, request("flux", steps=1, attention_backend="_native_math"))
    assert _AttentionBackendRegistry.get_active_backend() == before


def test_the_backends_to_choose_from_are_diffusers_own_and_none_fetches_code() -> None:
    known = {backend.value for backend in AttentionBackendName}
    assert set(DiffusionModel.AttentionBackend.values) <= {name for name in known if not name.endswith("_hub")}


@pytest.mark.parametrize(
    ("model_id", "option", "value"),
    [
        ("sd", "attention_backend", "native"),
        ("sd", "step_cache", "first_block"),
        ("flux", "attention_backend", "sage"),
        ("flux", "attention_backend", "magic"),
        ("flux", "step_cache", "magic"),
        ("flux", "quantization", "magic"),
        ("flux", "quantization", "nf4"),
    ],
)
def test_an_option_that_cannot_be_had_is_refused_by_name(
    handler: DiffusersHandler, model_id: str, option: str, value: str
) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(ModelLoadError, match=f"option {option} "):
        run(handler, request(model_id, **options))
    run(handler, request(model_id, steps=1))


def test_a_compiler_that_fails_is_told_as_the_option() -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise OSError("no compiler")

    with pytest.raises(ModelLoadError, match="option compile_blocks"), memory.translate_device_errors():
        torch.compile(torch.nn.Linear(1, 1), backend=broken)(torch.ones(1))


def test_pictures_tell_of_the_options_that_change_them(handler: DiffusersHandler) -> None:
    told = run(handler, request("flux", steps=1, step_cache="first_block", vae_tiling=True, fuse_qkv=True)).provenance
    assert {"step_cache": "first_block", "vae_tiling": "true"}.items() <= told.items()
    assert not {"quantization", "attention_backend", "fuse_qkv"} & told.keys()


def test_a_vae_that_is_sliced_for_always_stays_so_after_memory_ran_out(
    handler: DiffusersHandler,
) -> None:
    asked = request("sd", steps=1, vae_slicing=True)
    run(handler, asked)
    pipeline = pipeline_of(asked)
    with memory.low_memory(pipeline):
        assert pipeline.vae.use_slicing
        assert pipeline.vae.use_tiling
    assert pipeline.vae.use_slicing
    assert not pipeline.vae.use_tiling


def test_threads_of_the_cpu_are_as_set(models: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", cpu_threads=before + 1)
        assert torch.get_num_threads() == before + 1
        DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
