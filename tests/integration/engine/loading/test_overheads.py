"""What a pipeline keeps is what it would find out, and nobody else can tell."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FluxPipeline, StableDiffusionPipeline
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_processor import Attention

from tasks_app.engine.diffusers.loading import overheads
from tests.support import tiny

FAMILIES = {"sd": (tiny.save_sd, StableDiffusionPipeline), "flux": (tiny.save_flux, FluxPipeline)}


@pytest.fixture(params=FAMILIES)
def pipeline(request: pytest.FixtureRequest, tmp_path: Path) -> DiffusionPipeline:
    save, kind = FAMILIES[request.param]
    save(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def processors(pipeline: DiffusionPipeline) -> list[Any]:
    network = pipeline.components.get("unet") or pipeline.components["transformer"]
    return [module.processor for module in network.modules() if isinstance(module, Attention | AttentionModuleMixin)]


def drawn(pipeline: DiffusionPipeline) -> bytes:
    made = pipeline("a house", num_inference_steps=2, height=16, width=16, generator=torch.Generator().manual_seed(1))
    content: bytes = made.images[0].tobytes()
    return content


def test_a_signature_is_made_once_and_is_the_one_that_was(pipeline: DiffusionPipeline) -> None:
    before = [inspect.signature(processor.__call__) for processor in processors(pipeline)]
    overheads.cache_signatures(pipeline)
    first, second = ([inspect.signature(each.__call__) for each in processors(pipeline)] for _ in range(2))
    assert before == first
    assert before
    assert all(one is other for one, other in zip(first, second, strict=True))


def test_the_device_is_the_one_that_it_is_on_and_is_not_looked_for(pipeline: DiffusionPipeline) -> None:
    before = pipeline._execution_device
    overheads.cache_device(pipeline)
    assert inspect.getattr_static(pipeline, "_execution_device") == before == torch.device("cpu")


def test_it_stays_the_pipeline_that_it_was(pipeline: DiffusionPipeline) -> None:
    kind = type(pipeline)
    overheads.cache_device(pipeline)
    kept_kind = type(pipeline)
    assert isinstance(pipeline, kind)
    assert (kept_kind.__name__, kept_kind.__module__) == (kind.__name__, kind.__module__)
    assert inspect.signature(pipeline.__call__) == inspect.signature(kind.__call__.__get__(pipeline))


def test_the_picture_stays_the_same(pipeline: DiffusionPipeline) -> None:
    before = drawn(pipeline)
    overheads.cache_signatures(pipeline)
    overheads.cache_device(pipeline)
    assert drawn(pipeline) == before
