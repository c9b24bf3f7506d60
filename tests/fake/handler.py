"""A handler without torch: what a run does is a function registered under the prompt, or said by its first word."""

import os
import signal
import threading
from collections.abc import Callable, Sequence

from PIL import Image

from tasks_app.engine.handler import Report
from tasks_app.engine.types import (
    EngineState,
    GeneratedImage,
    GenerationRequest,
    GenerationResult,
    LoadOptions,
    Progress,
    WarmModel,
)
from tasks_app.errors import DeviceLost, ModelLoadFailed

Behaviour = Callable[[GenerationRequest, Report], None]
behaviours: dict[str, Behaviour] = {}


def steps(request: GenerationRequest, report: Report) -> None:
    for step in range(1, request.steps + 1):
        report(Progress(phase="denoising", step=step, total_steps=request.steps))


def paced(request: GenerationRequest, report: Report) -> None:
    """Take so many seconds a step, and to decode, as `pace 0.05` says: elsewhere tests can't register functions."""
    never, seconds = threading.Event(), float(request.prompt.split()[1])
    for step in range(1, request.steps + 1):
        never.wait(seconds)
        report(Progress(phase="denoising", step=step, total_steps=request.steps))
    report(Progress(phase="decoding", step=request.steps, total_steps=request.steps))
    never.wait(seconds)


def fail(request: GenerationRequest, report: Report) -> None:
    raise RuntimeError("as the test wants it")


def hang(request: GenerationRequest, report: Report) -> None:
    report(Progress(phase="denoising", step=1, total_steps=request.steps))
    threading.Event().wait()


def stall(request: GenerationRequest, report: Report) -> None:
    report(Progress(phase="decoding", step=request.steps, total_steps=request.steps))
    threading.Event().wait()


def lose_device(request: GenerationRequest, report: Report) -> None:
    raise DeviceLost("as the test wants it")


def poison(request: GenerationRequest, report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


WORDS: dict[str, Behaviour] = {
    "pace": paced,
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

    def run(self, requests: Sequence[GenerationRequest], report: Report) -> list[GenerationResult]:
        """Make one call, which takes the steps of the first request; any of them may make it fail or wait."""
        self.calls.append([request.prompt for request in requests])
        for request in requests:
            behave = behaviours.get(request.prompt) or WORDS.get(request.prompt.split()[0], steps)
            if request is requests[0] or behave not in (steps, paced):
                behave(request, report)
        return [self._made(request, len(requests)) for request in requests]

    def _made(self, request: GenerationRequest, batch_size: int) -> GenerationResult:
        images = tuple(
            GeneratedImage(seed=request.seed + index, image=Image.new("RGB", (32, 32), (index, 0, request.seed % 256)))
            for index in range(request.num_images)
        )
        made_by = {"device": "fake", "dtype": "float32", "batch_size": str(batch_size)}
        return GenerationResult(images=images, revision="fake", timings={"denoising": 0.1}, provenance=made_by)

    def preload(self, model_id: str, revision: str, options: LoadOptions) -> None:
        if model_id == "broken":
            raise ModelLoadFailed("It is broken, as the test wants it.")
        self.warm[model_id] = revision

    def unload(self, model_id: str) -> None:
        self.warm.pop(model_id, None)

    def unload_idle(self, seconds: float) -> None:
        """Have used nothing for long enough."""
        self.idle_for = seconds
        self.warm.clear()

    def held(self) -> tuple[WarmModel, ...]:
        return tuple(WarmModel(model_id=model_id, revision=revision) for model_id, revision in self.warm.items())

    def state(self) -> EngineState:
        return EngineState(device="fake", device_name="Fake", memory_used=1_000, memory_total=4_000, warm=self.held())

    def pull(self, model_id: str, revision: str, report: Report) -> str:
        return "fake"
