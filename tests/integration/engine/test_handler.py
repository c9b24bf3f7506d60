"""The diffusers handler on real pipelines: the demo model and tiny ones with random weights."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from tasks_app.engine.diffusers import memory
from tasks_app.engine.diffusers.call import PipelineCall
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tasks_app.engine.diffusers.loading import loader
from tasks_app.engine.types import GenerationRequest, GenerationResult, LoadOptions, ModelUsage, Progress
from tasks_app.errors import (
    DeviceLostError,
    GenerationAbortedError,
    InvalidParamsError,
    ModelLoadError,
    OutOfMemoryError,
)
from tests.support import tiny

DEMO = Path(__file__).resolve().parents[3] / "models"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.save_sd(folder / "sd")
    tiny.save_sdxl(folder / "sdxl")
    (folder / "demo").symlink_to(DEMO / "demo")
    return folder


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    PIPELINE_CACHE.clear()
    yield
    PIPELINE_CACHE.clear()


@pytest.fixture
def handler(models: Path, tmp_path: Path) -> DiffusersHandler:
    return DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu")


def request(model_id: str = "sd", **more: Any) -> GenerationRequest:
    values: dict[str, Any] = {
        "revision": "",
        "prompt": "a house",
        "negative_prompt": "",
        "steps": 3,
        "guidance_scale": 4.0,
        "seed": 11,
        "width": None,
        "height": None,
        "num_images": 1,
    }
    return GenerationRequest(model_id=model_id, **{**values, **more})


def key(model_id: str) -> tuple[str, str, LoadOptions]:
    return model_id, "local", LoadOptions()


def run(handler: DiffusersHandler, request: GenerationRequest) -> GenerationResult:
    (result,) = handler.run([request], lambda progress: None)
    return result


def pixels(result: GenerationResult, index: int = 0) -> str:
    return hashlib.sha256(result.images[index].image.tobytes()).hexdigest()


@pytest.mark.parametrize("model_id", ["sd", "sdxl", "demo"])
def test_every_step_and_phase_is_reported_in_order(handler: DiffusersHandler, model_id: str) -> None:
    reports: list[Progress] = []
    (result,) = handler.run([request(model_id, steps=4)], reports.append)
    assert [(report.phase, report.step) for report in reports] == [
        ("loading", 0),
        ("loading", 0),  # the files are here
        ("denoising", 0),
        *(("denoising", step) for step in range(1, 5)),
        ("decoding", 4),
    ]
    assert {report.total_steps for report in reports} == {4}
    assert result.images[0].image.size == ((64, 64) if model_id == "demo" else (16, 16))
    assert {"loading", "denoising", "decoding"} == result.timings.keys()


def test_a_result_names_what_it_was_made_by(handler: DiffusersHandler) -> None:
    result = run(handler, request())
    assert result.provenance == {
        "device": "cpu",
        "dtype": "float32",
        "batch_size": "1",
        "diffusers": version("diffusers"),
        "torch": str(torch.__version__),
        "transformers": version("transformers"),
    }
    half = run(handler, request(options=LoadOptions(dtype="bfloat16")))
    assert half.provenance["dtype"] == "bfloat16"


@pytest.mark.parametrize("model_id", ["sd", "sdxl", "demo"])
def test_a_seed_means_one_picture_and_another_prompt_another(handler: DiffusersHandler, model_id: str) -> None:
    first, again = run(handler, request(model_id)), run(handler, request(model_id))
    assert pixels(first) == pixels(again)
    assert pixels(run(handler, request(model_id, seed=12))) != pixels(first)
    assert pixels(run(handler, request(model_id, prompt="mountains"))) != pixels(first)


def test_image_i_has_seed_plus_i_and_is_the_picture_of_that_seed(handler: DiffusersHandler) -> None:
    three = run(handler, request("demo", num_images=3))
    assert [image.seed for image in three.images] == [11, 12, 13]
    alone = run(handler, request("demo", seed=13)).images[0].image
    differences = (abs(a - b) for a, b in zip(alone.tobytes(), three.images[2].image.tobytes(), strict=True))
    assert max(differences) <= 1


def test_seeds_wrap_at_their_end(handler: DiffusersHandler) -> None:
    result = run(handler, request(seed=2**32 - 1, num_images=2))
    assert [image.seed for image in result.images] == [2**32 - 1, 0]


def test_size_and_negative_prompt_reach_the_pipeline(handler: DiffusersHandler) -> None:
    plain = run(handler, request("demo"))
    assert pixels(run(handler, request("demo", negative_prompt="a house"))) != pixels(plain)
    assert run(handler, request("demo", width=48, height=40)).images[0].image.size == (48, 40)


def test_a_run_that_is_stopped_ends_at_that_step_and_the_next_one_is_as_if_nothing_had_been(
    handler: DiffusersHandler,
) -> None:
    expected = pixels(run(handler, request()))
    seen: list[int] = []

    def stop_at_two(progress: Progress) -> None:
        seen.append(progress.step)
        if progress.step == 2:
            raise GenerationAbortedError

    with pytest.raises(GenerationAbortedError):
        handler.run([request()], stop_at_two)
    assert max(seen) == 2
    assert pixels(run(handler, request())) == expected


def test_no_scheduler_state_survives_a_run(handler: DiffusersHandler) -> None:
    run(handler, request(steps=3, scheduler="euler"))
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as pipeline:
        assert isinstance(pipeline.scheduler, DDIMScheduler)
        assert pipeline.scheduler.num_inference_steps is None  # as it was loaded


def test_hooks_are_freed_after_a_stopped_run(handler: DiffusersHandler) -> None:
    run(handler, request())
    freed: list[str] = []
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as pipeline:
        pipeline.maybe_free_model_hooks = lambda: freed.append("freed")

    def stop(progress: Progress) -> None:
        if progress.step:
            raise GenerationAbortedError

    with pytest.raises(GenerationAbortedError):
        handler.run([request()], stop)
    assert "freed" in freed


def test_from_pretrained_is_called_once_under_concurrent_demand(
    handler: DiffusersHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Any] = []
    original = StableDiffusionPipeline.from_pretrained.__func__

    def counting(cls: Any, *args: Any, **kwargs: Any) -> Any:
        loads.append(args)
        return original(cls, *args, **kwargs)

    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", classmethod(counting))
    start = threading.Barrier(4)

    def work(seed: int) -> str:
        start.wait()
        return pixels(run(handler, request(seed=seed)))

    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(work, range(4)))
    assert len(loads) == 1
    assert concurrent == [pixels(run(handler, request(seed=seed))) for seed in range(4)]


def test_the_setting_bounds_how_many_models_stay(models: Path, tmp_path: Path) -> None:
    one = DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", max_cached_models=1)
    run(one, request("sd"))
    run(one, request("sdxl"))
    assert PIPELINE_CACHE.keys() == [key("sdxl")]
    two = DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", max_cached_models=2)
    run(two, request("sd"))
    assert PIPELINE_CACHE.keys() == [key("sdxl"), key("sd")]


def test_models_are_evicted_by_the_bytes_of_their_weights(models: Path, tmp_path: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(models / "sd")
    weights = 4 * sum(part.num_parameters() for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder))
    size = memory.get_pipeline_size(pipeline)
    # Beside them there are some positions.
    assert weights <= size < 1.01 * weights
    for room, kept in ((size, ["sdxl"]), (100 * size, ["sd", "sdxl"])):
        handler = DiffusersHandler(
            models_dir=models, hub_cache=tmp_path, device="cpu", max_cached_models=2, max_cached_bytes=room
        )
        for model_id in ("sd", "sdxl"):
            run(handler, request(model_id, steps=1))
        assert PIPELINE_CACHE.keys() == [key(model_id) for model_id in kept]


def test_a_model_that_is_idle_is_given_up(handler: DiffusersHandler) -> None:
    run(handler, request(steps=1))
    handler.unload_idle_models(3600)
    assert [model.model_id for model in handler.get_state().warm] == ["sd"]
    handler.unload_idle_models(0)
    assert handler.get_state().warm == ()


def test_each_model_gets_its_own_pipeline_class_in_float32_on_the_cpu(handler: DiffusersHandler) -> None:
    run(handler, request("sdxl"))
    with PIPELINE_CACHE.lease(key("sdxl"), pytest.fail, capacity=1) as pipeline:
        assert isinstance(pipeline, StableDiffusionXLPipeline)
        assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.float32}
        assert pipeline.device.type == "cpu"


class NoCallback(StableDiffusionPipeline):  # type: ignore[misc]
    """A pipeline that can neither report nor be stopped."""

    def __call__(self, prompt: str, num_inference_steps: int = 1, generator: Any = None) -> Any:
        raise AssertionError("must not be called")


class LegacyCallback(StableDiffusionPipeline):  # type: ignore[misc]
    """A pipeline with the older callback, as PixArt and Kandinsky 2.1 have it."""

    def __call__(self, prompt: str, num_inference_steps: int, generator: Any, callback: Any) -> Any:
        def step_end(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            callback(index, timestep, None)
            return values

        return super().__call__(
            prompt, num_inference_steps=num_inference_steps, generator=generator, callback_on_step_end=step_end
        )


@pytest.fixture
def as_class(handler: DiffusersHandler) -> Any:
    """Return a function that gives the cached pipeline another class."""

    def change(pipeline_class: type[DiffusionPipeline]) -> None:
        run(handler, request())
        with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as pipeline:
            pipeline.__class__ = pipeline_class

    return change


def test_a_pipeline_that_cannot_be_stopped_is_refused(handler: DiffusersHandler, as_class: Any) -> None:
    as_class(NoCallback)
    with pytest.raises(InvalidParamsError, match="canceled"):
        run(handler, request())


def test_so_is_one_without_a_scheduler_of_its_own() -> None:
    class Composed:
        """As UnCLIP is: its schedulers have other names."""

        def __call__(self, prompt: str, generator: Any = None) -> Any:
            raise AssertionError("must not be called")

    with pytest.raises(InvalidParamsError, match="canceled"):
        PipelineCall(cast(DiffusionPipeline, Composed()), [request()], lambda progress: None)()


def test_a_pipeline_with_the_legacy_callback_reports_its_steps(handler: DiffusersHandler, as_class: Any) -> None:
    as_class(LegacyCallback)
    reports: list[Progress] = []
    handler.run([request()], reports.append)
    assert [report.step for report in reports if report.phase == "denoising"] == [0, 1, 2, 3]


def test_what_a_pipeline_does_not_take_is_refused_by_name(handler: DiffusersHandler, as_class: Any) -> None:
    as_class(LegacyCallback)
    with pytest.raises(InvalidParamsError, match="height, width"):
        run(handler, request(width=32, height=32))
    with pytest.raises(InvalidParamsError, match="negative_prompt"):
        run(handler, request(negative_prompt="rain", explicit_params=frozenset({"negative_prompt"})))


FAILURES = {
    "load": (loader, "_from_pretrained"),
    "denoising": (UNet2DConditionModel, "forward"),
    "decode": (AutoencoderKL, "decode"),
}


def failing(monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, calls: set[int]) -> list[int]:
    """Let the calls of those numbers fail, at load, in the middle of denoising or at decode."""
    owner, name = FAILURES[where]
    original = getattr(owner, name)
    made: list[int] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        made.append(len(made))
        if made[-1] in calls:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
    return made


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("MPS backend out of memory"),
    MemoryError(),
]


@pytest.mark.parametrize("where", FAILURES)
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:12])
def test_out_of_memory_is_tried_once_more_and_steps_never_go_back(
    handler: DiffusersHandler, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    failing(monkeypatch, where, error, {2 if where == "denoising" else 0})
    reports: list[int] = []
    (result,) = handler.run([request()], lambda progress: reports.append(progress.step))
    assert result.images[0].image.size == (16, 16)
    assert reports == sorted(reports)


@pytest.mark.parametrize("where", FAILURES)
def test_out_of_memory_twice_is_told_and_the_next_run_is_as_if_nothing_had_been(
    handler: DiffusersHandler, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    expected = pixels(run(handler, request()))
    PIPELINE_CACHE.clear()
    with monkeypatch.context() as full:
        failing(full, where, OUT_OF_MEMORY[0], set(range(100)))
        with pytest.raises(OutOfMemoryError):
            run(handler, request())
    assert pixels(run(handler, request())) == expected


def test_when_memory_runs_out_other_models_make_room(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = DiffusersHandler(models_dir=models, hub_cache=tmp_path, device="cpu", max_cached_models=2)
    run(two, request("sdxl"))
    failing(monkeypatch, "decode", OUT_OF_MEMORY[0], {0})
    run(two, request("sd"))
    assert PIPELINE_CACHE.keys() == [key("sd")]


def test_the_second_try_is_thrifty_and_leaves_no_trace(
    handler: DiffusersHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    slicing: list[bool] = []
    original = AutoencoderKL.decode

    def decode(self: AutoencoderKL, *args: Any, **kwargs: Any) -> Any:
        slicing.append(self.use_slicing and self.use_tiling)
        if len(slicing) == 1:
            raise OUT_OF_MEMORY[0]
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AutoencoderKL, "decode", decode)
    run(handler, request())
    assert slicing[:2] == [False, True]
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as pipeline:
        assert not pipeline.vae.use_slicing
        assert not pipeline.vae.use_tiling


def test_another_failure_of_the_device_is_told_as_a_lost_device(
    handler: DiffusersHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "denoising", torch.AcceleratorError("an illegal memory access was encountered"), {1})
    with pytest.raises(DeviceLostError):
        run(handler, request())


def test_an_error_that_is_neither_stays_what_it_is(handler: DiffusersHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "denoising", RuntimeError("shapes do not match"), {1})
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(handler, request())


def test_a_picture_of_nan_is_said_to_be_black(handler: DiffusersHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    original = AutoencoderKL.decode

    def overflowing(self: AutoencoderKL, *args: Any, **kwargs: Any) -> Any:
        return tuple(part * float("nan") for part in original(self, *args, **kwargs))

    assert not run(handler, request()).images[0].blank
    monkeypatch.setattr(AutoencoderKL, "decode", overflowing)
    assert run(handler, request()).images[0].blank


class Flagging:
    """Stands for a model's own safety checker: it blackens the second of two pictures."""

    def __call__(self, images: Any, clip_input: Any) -> Any:
        images[1] = 0
        return images, [False, True]


def test_a_flagged_picture_is_said_to_be_flagged(handler: DiffusersHandler) -> None:
    run(handler, request())
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as pipeline:
        flagging = Flagging()
        pipeline.run_safety_checker = lambda image, device, dtype: flagging(image, None)
    result = run(handler, request(num_images=2))
    assert [image.flagged for image in result.images] == [False, True]


def test_files_that_are_no_pipeline_fail_as_such_without_their_paths(handler: DiffusersHandler, models: Path) -> None:
    broken = tiny.save_sd(models / "broken")
    (broken / "unet" / "config.json").write_text("{}")
    with pytest.raises(ModelLoadError) as failure:
        run(handler, request("broken"))
    assert str(models) not in str(failure.value)


def test_pickled_weights_are_never_loaded(handler: DiffusersHandler, models: Path) -> None:
    folder = tiny.save_sd(models / "pickled", safe_serialization=False)
    assert list(folder.glob("unet/*.bin"))
    with pytest.raises(ModelLoadError):
        run(handler, request("pickled"))


def test_schedulers_by_name_draw_other_pictures_and_the_next_run_has_the_models_own(handler: DiffusersHandler) -> None:
    own = pixels(run(handler, request("demo")))
    pictures = {own, *(pixels(run(handler, request("demo", scheduler=name))) for name in ("euler", "dpmpp_2m_karras"))}
    assert len(pictures) == 3
    assert pixels(run(handler, request("demo"))) == own


def test_a_scheduler_that_the_model_cannot_be_run_with_is_refused_by_name(handler: DiffusersHandler) -> None:
    run(handler, request())
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1) as pipeline:
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(InvalidParamsError, match="scheduler ddim"):
        run(handler, request(scheduler="ddim"))


def test_a_model_is_loaded_ahead_and_given_up_again(handler: DiffusersHandler) -> None:
    handler.preload_model("sd", "", LoadOptions())
    (warm,) = handler.get_state().warm
    assert (warm.model_id, warm.revision) == ("sd", "local")
    before = _use(handler)
    with PIPELINE_CACHE.lease(key("sd"), pytest.fail, capacity=1):
        pass  # nothing is left to load
    assert (_use(handler).loads, _use(handler).hits) == (before.loads, before.hits + 1)
    handler.unload_model("sd")
    assert handler.get_state().warm == ()


def _use(handler: DiffusersHandler) -> ModelUsage:
    (use,) = (use for use in handler.get_state().uses if use.model_id == "sd")
    return use


def test_a_model_whose_options_changed_is_loaded_anew(handler: DiffusersHandler) -> None:
    run(handler, request())
    run(handler, request(options=LoadOptions(dtype="bfloat16")))
    (loaded,) = PIPELINE_CACHE.keys()
    with PIPELINE_CACHE.lease(loaded, pytest.fail, capacity=1) as pipeline:
        assert pipeline.unet.dtype == torch.bfloat16


def test_the_state_says_what_the_process_uses(handler: DiffusersHandler) -> None:
    state = handler.get_state()
    assert (state.device, bool(state.device_name)) == ("cpu", True)
    assert 0 < state.memory_used < state.memory_total
