"""Models as single files: Stable Diffusion in its original layout, and a quantized FLUX, on bases in folders."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks_app.engine.diffusers import memory
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.types import GeneratedImage, GenerationRequest, LoadOptions
from tasks_app.errors import ModelLoadError, ModelUnavailableError
from tests.support import single_files, tiny


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    tiny.save_sd(folder / "sd")
    tiny.save_sdxl(folder / "sdxl")
    tiny.save_flux(folder / "flux")
    return folder


@pytest.fixture
def models(originals: Path, tmp_path: Path) -> Path:
    """Return a MODELS_DIR of one's own."""
    return Path(shutil.copytree(originals, tmp_path / "models"))


@pytest.fixture
def handler(models: Path, tmp_path: Path) -> Iterator[DiffusersHandler]:
    PIPELINE_CACHE.clear()
    yield DiffusersHandler(models_dir=models, hub_cache=tmp_path / "hub", device="cpu")
    PIPELINE_CACHE.clear()


def on(file: Path, base: str) -> str:
    """Note what a file is built on, and return the name of the model that it is."""
    file.with_suffix(".json").write_text(json.dumps({"base": base}))
    return file.stem


def without_weights(folder: Path, *parts: str) -> None:
    for weights in (file for part in parts for file in (folder / part).glob("*.safetensors")):
        weights.unlink()


def run(handler: DiffusersHandler, model_id: str) -> GeneratedImage:
    request = GenerationRequest(
        model_id=model_id,
        revision="",
        prompt="a house",
        negative_prompt="",
        steps=3,
        guidance_scale=4.0,
        seed=11,
        width=16,
        height=16,
        num_images=1,
    )
    (result,) = handler.run([request], lambda progress: None)
    return result.images[0]


def psnr(one: GeneratedImage, other: GeneratedImage) -> float:
    """Return how near two pictures are, in dB."""
    left, right = (np.asarray(made.image, dtype=float) / 255 for made in (one, other))
    return float(-10 * np.log10(((left - right) ** 2).mean() + 1e-12))


def same(one: GeneratedImage, other: GeneratedImage) -> bool:
    return one.image.tobytes() == other.image.tobytes()


def test_a_checkpoint_in_the_original_layout_draws_what_its_folder_draws(
    handler: DiffusersHandler, models: Path
) -> None:
    model_id = on(single_files.save_single_file(models / "sd", models / "one.safetensors"), "sd")
    expected = run(handler, "sd")
    without_weights(models / "sd", "unet", "vae", "text_encoder")  # the file has them all
    assert same(run(handler, model_id), expected)


def test_parts_that_a_file_lacks_are_the_bases(handler: DiffusersHandler, models: Path) -> None:
    model_id = on(single_files.save_single_file(models / "sd", models / "one.safetensors", parts=("unet",)), "sd")
    expected = run(handler, "sd")
    without_weights(models / "sd", "unet")
    assert same(run(handler, model_id), expected)


def test_a_transformer_alone_under_the_names_of_diffusers_is_a_checkpoint_too(
    handler: DiffusersHandler, models: Path
) -> None:
    shutil.copy(transformer(models), models / "alone.safetensors")
    model_id = on(models / "alone.safetensors", "flux")
    expected = run(handler, "flux")
    without_weights(models / "flux", "transformer")
    assert same(run(handler, model_id), expected)


def test_a_gguf_transformer_draws_nearly_what_the_full_one_draws_in_less_memory(
    handler: DiffusersHandler, models: Path
) -> None:
    model_id = on(single_files.save_gguf(load_file(transformer(models)), models / "q8.gguf"), "flux")
    expected, full = run(handler, "flux"), loaded_bytes()
    without_weights(models / "flux", "transformer")
    assert psnr(run(handler, model_id), expected) > 40
    assert loaded_bytes() < 0.6 * full


def loaded_bytes() -> int:
    """Return how many bytes the pipeline takes that was used last."""
    with PIPELINE_CACHE.lease(PIPELINE_CACHE.keys()[-1], pytest.fail, capacity=1) as pipeline:
        return memory.get_pipeline_size(pipeline)


def transformer(models: Path) -> Path:
    return next((models / "flux" / "transformer").glob("*.safetensors"))


@pytest.mark.parametrize("base", ["sdxl", "flux"])
def test_a_file_of_another_family_than_its_base_is_refused_by_name(
    handler: DiffusersHandler, models: Path, base: str
) -> None:
    on(single_files.save_single_file(models / "sd", models / "one.safetensors"), base)
    with pytest.raises(ModelLoadError, match=r"one\.safetensors does not fit its base"):
        run(handler, "one")


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        ("model.diffusion_model.out.2.weight", "different or missing weights"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "no weights for text_encoder"),
    ],
    ids=["unet", "text encoder"],
)
def test_a_file_that_has_a_part_only_by_half_is_refused(
    handler: DiffusersHandler, models: Path, weight: str, reason: str
) -> None:
    weights = load_file(single_files.save_single_file(models / "sd", models / "one.safetensors"))
    del weights[weight]
    save_file(weights, models / "one.safetensors")
    on(models / "one.safetensors", "sd")
    with pytest.raises(ModelLoadError, match=rf"one\.safetensors does not fit its base model: {reason}"):
        run(handler, "one")


def test_a_unet_may_be_gguf_too_but_whole(handler: DiffusersHandler, models: Path) -> None:
    weights = single_files.convert_unet(load_file(next((models / "sd" / "unet").glob("*.safetensors"))))
    on(single_files.save_gguf(weights, models / "whole.gguf"), "sd")
    assert psnr(run(handler, "whole"), run(handler, "sd")) > 40
    del weights["model.diffusion_model.out.2.weight"]
    on(single_files.save_gguf(weights, models / "half.gguf"), "sd")
    with pytest.raises(ModelLoadError, match=r"half\.gguf does not fit its base"):
        run(handler, "half")


def test_a_file_of_something_else_is_refused(handler: DiffusersHandler, models: Path) -> None:
    save_file({"lora.down": load_file(transformer(models))["proj_out.weight"]}, models / "lora.safetensors")
    on(models / "lora.safetensors", "flux")
    with pytest.raises(ModelLoadError, match=r"lora\.safetensors does not fit its base"):
        run(handler, "lora")


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
def test_a_file_that_was_cut_short_is_refused(handler: DiffusersHandler, models: Path, suffix: str) -> None:
    (models / f"cut{suffix}").write_bytes(b"GGUF" + b"\3" * 20)
    on(models / f"cut{suffix}", "flux")
    with pytest.raises(ModelLoadError, match="does not fit its base"):
        run(handler, "cut")


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_a_pickle_is_refused_by_name(handler: DiffusersHandler, models: Path, suffix: str) -> None:
    (models / f"old{suffix}").touch()
    on(models / f"old{suffix}", "sd")
    with pytest.raises(ModelUnavailableError, match=rf"old\{suffix}: pickle files can run code"):
        run(handler, "old")


def test_a_base_that_is_not_here_is_named(handler: DiffusersHandler, models: Path) -> None:
    on(single_files.save_single_file(models / "sd", models / "one.safetensors"), "gone")
    with pytest.raises(ModelUnavailableError, match="The model gone"):
        run(handler, "one")


def test_pickled_weights_of_a_base_are_not_read(handler: DiffusersHandler, models: Path) -> None:
    model_id = on(single_files.save_single_file(models / "sd", models / "one.safetensors", parts=("unet",)), "sd")
    vae = models / "sd" / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(vae), vae.with_suffix(".bin"))
    vae.unlink()
    with pytest.raises(ModelLoadError, match="OSError"):
        run(handler, model_id)


def test_a_file_that_changes_is_another_revision_and_is_loaded_anew(handler: DiffusersHandler, models: Path) -> None:
    file = single_files.save_single_file(models / "sd", models / "one.safetensors")
    on(file, "sd")
    before = run(handler, "one")
    weights = load_file(file)
    weights["model.diffusion_model.out.2.weight"] *= 0
    save_file(weights, file)
    assert not same(run(handler, "one"), before)
    assert len({revision for _, revision, _ in PIPELINE_CACHE.keys()}) == 1  # noqa: SIM118 - no mapping


def test_the_revision_is_the_hash_that_such_files_are_known_by(handler: DiffusersHandler, models: Path) -> None:
    file = single_files.save_single_file(models / "sd", models / "one.safetensors")
    on(file, "sd")
    handler.preload_model("one", "", LoadOptions())
    expected = hashlib.sha256(file.read_bytes()).hexdigest()[:10]
    assert [model.revision for model in handler.get_state().warm] == [expected]
