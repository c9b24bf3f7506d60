"""Previews: what a map makes of latents, when they are taken, and that they change no picture."""

import copy
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from tasks_app.engine.diffusers.handler import DiffusersHandler
from tasks_app.engine.diffusers.previews import (
    MAX_PREVIEW_SIDE,
    Previews,
    PreviewSchedule,
    _encode_pixels,
    get_latent_map,
)
from tasks_app.engine.types import Progress
from tests.integration.engine.test_handler import pixels, request

DEMO = Path(__file__).resolve().parents[3] / "models" / "demo"


@pytest.fixture(scope="module")
def demo() -> DiffusionPipeline:
    return DiffusionPipeline.from_pretrained(DEMO, torch_dtype=torch.float32)


def latents_of(pipeline: DiffusionPipeline, color: tuple[float, float, float]) -> torch.Tensor:
    pixels = torch.tensor(color)[None, :, None, None].expand(1, 3, 64, 64)
    return _encode_pixels(pipeline.vae, pixels, torch.device("cpu"))


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def drawn(pipeline: DiffusionPipeline, latents: torch.Tensor) -> Any:
    draw = Previews(pipeline, PreviewSchedule(every=1)).capture_preview(1, latents)
    assert draw is not None
    return draw(0)


def test_the_map_tells_colors_apart(demo: DiffusionPipeline) -> None:
    for channel in range(3):
        color = [0.1, 0.1, 0.1]
        color[channel] = 0.9
        mean = torch.tensor(list(drawn(demo, latents_of(demo, tuple(color))).getdata())).float().mean(0)  # type: ignore[arg-type]
        assert int(mean.argmax()) == channel
    white, black = (drawn(demo, latents_of(demo, (value,) * 3)).convert("L").getextrema() for value in (1.0, 0.0))
    assert white[0] > black[1]


def test_an_autoencoder_that_fails_while_upcast_is_as_precise_as_before(
    demo: DiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError

    vae = copy.deepcopy(demo.vae).to(torch.float16)
    vae.register_to_config(force_upcast=True)
    monkeypatch.setattr(vae, "encode", fail)
    with pytest.raises(torch.OutOfMemoryError):
        _encode_pixels(vae, torch.zeros(1, 3, 64, 64), torch.device("cpu"))
    assert vae.dtype == torch.float16


def test_latents_are_normalized_as_the_pipelines_of_such_an_autoencoder_do(demo: DiffusionPipeline) -> None:
    vae, pixels = copy.deepcopy(demo.vae), torch.rand(1, 3, 64, 64)
    plain = _encode_pixels(vae, pixels, torch.device("cpu"))
    channels, scale = vae.config.latent_channels, vae.config.scaling_factor
    # As Playground 2.5 has them.
    vae.register_to_config(latents_mean=[-1.5] * channels, latents_std=[8.0] * channels)
    normalized = _encode_pixels(vae, pixels, torch.device("cpu"))
    assert torch.allclose(normalized, (plain / scale + 1.5) * scale / 8, atol=1e-5)


def test_the_map_is_made_once(demo: DiffusionPipeline) -> None:
    assert get_latent_map(demo) is get_latent_map(demo)


def test_large_latents_are_shrunk_and_keep_their_shape(demo: DiffusionPipeline) -> None:
    channels = demo.vae.config.latent_channels
    assert drawn(demo, torch.zeros(2, channels, 4 * MAX_PREVIEW_SIDE, 2 * MAX_PREVIEW_SIDE)).size == (
        MAX_PREVIEW_SIDE // 2,
        MAX_PREVIEW_SIDE,
    )


def test_drawing_starts_none_of_torchs_threads_beside_those_of_the_run(demo: DiffusionPipeline) -> None:
    draw = Previews(demo, PreviewSchedule(every=1)).capture_preview(
        1, torch.zeros(1, demo.vae.config.latent_channels, MAX_PREVIEW_SIDE, MAX_PREVIEW_SIDE)
    )
    assert draw is not None
    counts: list[int] = []

    def count(work: Callable[[], Any]) -> int:
        def counted() -> None:
            torch.set_num_threads(2)  # for those who compute in this thread
            before = threads()
            work()
            counts.append(threads() - before)

        thread = threading.Thread(target=counted)
        thread.start()
        thread.join()
        return counts[-1]

    before = torch.get_num_threads()
    try:
        assert count(lambda: draw(0)) == 0
        assert count(lambda: torch.ones(2**22).exp()) == 1, "or this test tells nothing"
    finally:
        torch.set_num_threads(before)


def test_only_every_so_manieth_step_is_looked_at(demo: DiffusionPipeline) -> None:
    latents = latents_of(demo, (0.5, 0.5, 0.5))
    assert Previews(demo, PreviewSchedule(every=3)).capture_preview(2, latents) is None
    assert Previews(demo, PreviewSchedule(every=3)).capture_preview(3, latents) is not None
    assert Previews(demo, PreviewSchedule(every=0)).capture_preview(3, latents) is None


def test_a_preview_that_cost_its_share_of_the_run_is_followed_by_none(demo: DiffusionPipeline) -> None:
    previews = Previews(demo, PreviewSchedule(every=1))
    latents = torch.zeros(1, demo.vae.config.latent_channels, 512, 512)
    assert previews.capture_preview(1, latents) is not None
    # No step has taken any time since.
    assert previews.capture_preview(2, latents) is None


def test_no_preview_comes_sooner_after_the_start_or_the_last_one_than_the_pace_allows(demo: DiffusionPipeline) -> None:
    latents = latents_of(demo, (0.5, 0.5, 0.5))
    seconds = 0.1
    # Each was taken between two looks at the clock, as far as one may be held up there.
    taken = [(time.monotonic(), time.monotonic())]
    previews = Previews(demo, PreviewSchedule(every=1, seconds=seconds))
    while len(taken) < 4:
        before = time.monotonic()
        if previews.capture_preview(1, latents) is not None:
            taken.append((before, time.monotonic()))
    assert min(after - before for (before, _), (_, after) in pairwise(taken)) >= seconds


@pytest.mark.parametrize("shape", [(1, 256, 64), (1, 3, 8, 8), (1, 4, 1, 8, 8)])
def test_latents_of_another_make_have_no_preview(demo: DiffusionPipeline, shape: tuple[int, ...]) -> None:
    assert Previews(demo, PreviewSchedule(every=1)).capture_preview(1, torch.zeros(shape)) is None


@pytest.mark.parametrize("scheduler", [None, "euler_a", "dpmpp_2m"])
def test_previews_are_reported_and_change_no_byte_of_the_picture(tmp_path: Path, scheduler: str | None) -> None:
    shown: list[Progress] = []
    results = []
    for every in (0, 1):
        handler = DiffusersHandler(models_dir=DEMO.parent, hub_cache=tmp_path, device="cpu", preview_every=every)
        results += handler.run([request("demo", steps=4, scheduler=scheduler)], shown.append)
    assert pixels(results[0]) == pixels(results[1])
    previews = [report.preview for report in shown if report.preview is not None]
    assert previews
    assert all(draw(0).mode == "RGB" for draw in previews)
