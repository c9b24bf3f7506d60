"""A handler without torch: its behaviour in a run is a function that the test registers under the prompt."""

from collections.abc import Callable

from PIL import Image

from tasks_app.contracts import GeneratedImage, GenerationRequest, GenerationResult, Progress, Report

Behaviour = Callable[[GenerationRequest, Report], None]
behaviours: dict[str, Behaviour] = {}


def steps(request: GenerationRequest, report: Report) -> None:
    for step in range(1, request.steps + 1):
        report(Progress(phase="denoising", step=step, total_steps=request.steps))


class FakeHandler:
    def run(self, request: GenerationRequest, report: Report) -> GenerationResult:
        behaviours.get(request.prompt, steps)(request, report)
        images = tuple(
            GeneratedImage(seed=request.seed + index, image=Image.new("RGB", (32, 32), (index, 0, request.seed % 256)))
            for index in range(request.num_images)
        )
        return GenerationResult(images=images, revision="fake", timings={"denoising": 0.1})

    def pull(self, model_id: str, revision: str, report: Report) -> str:
        return "fake"
