"""Prompts that come again skip the text encoders, and nobody can tell by the picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.diffusers.prompts.embeds_cache import PromptEmbedsCache
from tasks_app.engine.types import GenerationRequest, LoadOptions
from tests.support import tiny

MANY = 1 << 20
FAMILIES = {"sd": tiny.save_sd, "sdxl": tiny.save_sdxl, "flux": tiny.save_flux}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, save in FAMILIES.items():
        save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    PIPELINE_CACHE.clear()
    yield
    PIPELINE_CACHE.clear()


def request(model_id: str, prompt: str = "a house", **more: Any) -> GenerationRequest:
    values: dict[str, Any] = {"negative_prompt": "rain", "seed": 11, "num_images": 1, **more}
    return GenerationRequest(
        model_id=model_id,
        revision="",
        prompt=prompt,
        steps=2,
        guidance_scale=4.0,
        width=16,
        height=16,
        **values,
    )


class Encoder:
    """Stands for `encode_prompt` and counts what it was asked for."""

    def __init__(self, floats: int = 4) -> None:
        self.asked: list[Any] = []
        self.floats = floats

    def __call__(self, prompt: Any, **more: Any) -> Any:
        self.asked.append(prompt)
        return torch.full((self.floats,), float(len(self.asked))), [torch.ones(1), None]


@pytest.mark.parametrize("model_id", FAMILIES)
def test_pictures_are_the_same_bit_by_bit_and_the_encoders_are_skipped(
    models: Path, tmp_path: Path, model_id: str
) -> None:
    asked = [
        [request(model_id)],
        [request(model_id, "a fox")],
        [request(model_id, num_images=2)],
        [request(model_id, negative_prompt="")],
        [request(model_id), request(model_id, "a fox")],
    ]
    pictures: dict[int, list[bytes]] = {}
    encoded: dict[int, list[int]] = {}
    for room in (0, MANY):
        PIPELINE_CACHE.clear()
        handler = DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", prompt_cache_bytes=room)
        handler.preload_model(model_id, "", LoadOptions())
        with PIPELINE_CACHE.lease((model_id, "local", LoadOptions()), pytest.fail, capacity=1) as pipeline:
            calls: list[int] = []
            pipeline.text_encoder.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        pictures[room], encoded[room] = [], []
        for requests in (*asked, *asked):
            calls.clear()
            results = handler.run(requests, lambda progress: None)
            pictures[room] += [image.image.tobytes() for result in results for image in result.images]
            encoded[room].append(len(calls))
    assert pictures[0] == pictures[MANY]
    assert len(set(pictures[0])) > 3
    assert encoded[0] == 2 * encoded[0][:5]
    assert encoded[MANY][0] == encoded[0][0] > 0
    assert encoded[MANY][5:] == [0] * 5


def test_other_arguments_are_encoded_anew() -> None:
    encoder = Encoder()
    remembered = PromptEmbedsCache(encoder, MANY)
    for prompt, more in (("a", {}), ("b", {}), (["a"], {}), ("a", {"clip_skip": 1}), ("a", {"negative_prompt": "b"})):
        first = remembered(prompt, **more)
        assert torch.equal(remembered(prompt, **more)[0], first[0])
    assert encoder.asked == ["a", "b", ["a"], "a", "a"]


def test_arguments_that_cannot_be_compared_are_encoded_each_time() -> None:
    encoder = Encoder()
    remembered = PromptEmbedsCache(encoder, MANY)
    for _ in range(2):
        remembered("a", prompt_embeds=torch.ones(1))
    assert len(encoder.asked) == 2


def test_what_a_caller_wrote_to_is_encoded_anew() -> None:
    encoder = Encoder()
    remembered = PromptEmbedsCache(encoder, MANY)
    remembered("a")[0][0] = 7.0
    assert remembered("a")[0].tolist() == [2.0] * 4
    remembered("a")[1].append("more")
    assert remembered("a")[1] == [torch.ones(1), None]
    assert len(encoder.asked) == 2


def test_the_least_recently_used_goes_when_the_bytes_are_used_up() -> None:
    encoder = Encoder(floats=100)
    remembered = PromptEmbedsCache(encoder, 2 * (400 + 4))
    for prompt in "abacab":
        remembered(prompt)
    assert encoder.asked == ["a", "b", "c", "b"]


def test_one_that_alone_is_too_large_is_not_kept() -> None:
    encoder = Encoder(floats=100)
    remembered = PromptEmbedsCache(encoder, 400)
    remembered("a")
    remembered("a")
    assert encoder.asked == ["a", "a"]


def test_a_slice_counts_as_what_it_is_one_of() -> None:
    whole = torch.ones(1000)
    asked: list[str] = []
    remembered = PromptEmbedsCache(lambda prompt: asked.append(prompt) or whole[:1], 400)  # type: ignore[func-returns-value]
    remembered("a")
    remembered("a")
    assert asked == ["a", "a"]
