"""A handler without torch: what a run does is a function registered under the prompt, or said by its first word."""

import os
import signal
import threading
from collections.abc import Callable

from PIL import Image

from tasks_app.contracts import GeneratedImage, GenerationRequest, GenerationResult, Progress, Report
from tasks_app.errors import DeviceLost

Behaviour = Callable[[GenerationRequest, Report], None]
behaviours: dict[str, Behaviour] = {}


def steps(request: GenerationRequest, report: Report) -> None:
    for step in range(1, request.steps + 1):
        report(Progress(phase="denoising", step=step, total_steps=request.steps))


def paced(request: GenerationRequest, report: Report) -> None:
    """Take so many seconds a step, as `pace 0.05` says: in other processes tests can't register functions."""
    never = threading.Event()
    for step in range(1, request.steps + 1):
        never.wait(float(request.prompt.split()[1]))
        report(Progress(phase="denoising", step=step, total_steps=request.steps))


def fail(request: GenerationRequest, report: Report) -> None:
    raise RuntimeError("as the test wants it")


def hang(request: GenerationRequest, report: Report) -> None:
    report(Progress(phase="denoising", step=1, total_steps=request.steps))
    threading.Event().wait()


def lose_device(request: GenerationRequest, report: Report) -> None:
    raise DeviceLost("as the test wants it")


def poison(request: GenerationRequest, report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


WORDS: dict[str, Behaviour] = {"pace": paced, "fail": fail, "poison": poison, "hang": hang, "lose": lose_device}


class FakeHandler:
    def run(self, request: GenerationRequest, report: Report) -> GenerationResult:
        behave = behaviours.get(request.prompt) or WORDS.get(request.prompt.split()[0], steps)
        behave(request, report)
        images = tuple(
            GeneratedImage(seed=request.seed + index, image=Image.new("RGB", (32, 32), (index, 0, request.seed % 256)))
            for index in range(request.num_images)
        )
        return GenerationResult(images=images, revision="fake", timings={"denoising": 0.1})

    def pull(self, model_id: str, revision: str, report: Report) -> str:
        return "fake"
