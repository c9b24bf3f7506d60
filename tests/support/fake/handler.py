"""An engine without torch: a function registered under the prompt, or the prompt's first word, defines a run."""

import os
import signal
import threading
from collections.abc import Callable, Sequence

from PIL import Image

from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import (
    EngineState,
    GeneratedImage,
    GenerationRequest,
    GenerationResult,
    LoadOptions,
    Progress,
    WarmModel,
)
from tasks_app.errors import DeviceLostError, ModelLoadError

Behaviour = Callable[[GenerationRequest, ProgressCallback], None]
behaviours: dict[str, Behaviour] = {}


def run_steps(request: GenerationRequest, report: ProgressCallback) -> None:
    for step in range(1, request.steps + 1):
        report(Progress(phase="denoising", step=step, total_steps=request.steps))


def run_paced_steps(request: GenerationRequest, report: ProgressCallback) -> None:
    """Take the seconds in the prompt (`pace 0.05`) per step and to decode: other processes can't register functions."""
    never, seconds = threading.Event(), float(request.prompt.split()[1])
    for step in range(1, request.steps + 1):
        never.wait(seconds)
        report(Progress(phase="denoising", step=step, total_steps=request.steps))
    report(Progress(phase="decoding", step=request.steps, total_steps=request.steps))
    never.wait(seconds)


def fail(request: GenerationRequest, report: ProgressCallback) -> None:
    raise RuntimeError("as the test wants it")


def hang(request: GenerationRequest, report: ProgressCallback) -> None:
    report(Progress(phase="denoising", step=1, total_steps=request.steps))
    threading.Event().wait()


def stall(request: GenerationRequest, report: ProgressCallback) -> None:
    report(Progress(phase="decoding", step=request.steps, total_steps=request.steps))
    threading.Event().wait()


def lose_device(request: GenerationRequest, report: ProgressCallback) -> None:
    raise DeviceLostError("as the test wants it")


def poison(request: GenerationRequest, report: ProgressCallback) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


BEHAVIOURS_BY_WORD: dict[str, Behaviour] = {
    "pace": run_paced_steps,
    "fail": fail,
    "poison": poison,
    "hang": hang,
    "stall": stall,
    "lose": lose_device,
}


class FakeHandler:
    def __init__(self) -> None:
        self.warm: dict[str, str] = {}
        self.idle_for: float | None = None
        self.calls: list[list[str]] = []

    def run(self, requests: Sequence[GenerationRequest], report: ProgressCallback) -> list[GenerationResult]:
        """Run one call with the steps of the first request; any request may make it fail or wait."""
        self.calls.append([request.prompt for request in requests])
        for request in requests:
            behave = behaviours.get(request.prompt) or BEHAVIOURS_BY_WORD.get(request.prompt.split()[0], run_steps)
            if request is requests[0] or behave not in (run_steps, run_paced_steps):
                behave(request, report)
        return [self._build_result(request, len(requests)) for request in requests]

    def _build_result(self, request: GenerationRequest, batch_size: int) -> GenerationResult:
        images = tuple(
            GeneratedImage(seed=request.seed + index, image=Image.new("RGB", (32, 32), (index, 0, request.seed % 256)))
            for index in range(request.num_images)
        )
        made_by = {"device": "fake", "dtype": "float32", "batch_size": str(batch_size)}
        return GenerationResult(images=images, revision="fake", timings={"denoising": 0.1}, provenance=made_by)

    def preload_model(self, model_id: str, revision: str, options: LoadOptions) -> None:
        if model_id == "broken":
            raise ModelLoadError("It is broken, as the test wants it.")
        self.warm[model_id] = revision

    def unload_model(self, model_id: str) -> None:
        self.warm.pop(model_id, None)

    def unload_idle_models(self, seconds: float) -> None:
        """Unload all models, as if none had been used for long enough."""
        self.idle_for = seconds
        self.warm.clear()

    def get_warm_models(self) -> tuple[WarmModel, ...]:
        return tuple(WarmModel(model_id=model_id, revision=revision) for model_id, revision in self.warm.items())

    def get_state(self) -> EngineState:
        return EngineState(
            device="fake", device_name="Fake", memory_used=1_000, memory_total=4_000, warm=self.get_warm_models()
        )

    def download_model(self, model_id: str, revision: str, report: ProgressCallback) -> str:
        return "fake"
