"""A worker that the test controls step by step."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from tasks_app.contracts import Claim, GenerationMetadata, StoredImage
from tasks_app.engine.types import GeneratedImage, Progress
from tasks_app.events import progress
from tasks_app.images import storage
from tasks_app.models import Task
from tasks_app.queue import lifecycle
from tests.support.claims import claim_one, succeed_one

RECIPE = GenerationMetadata(
    task_type="text-to-image",
    params={"provider": "fake", "model_id": "demo", "prompt": "a house", "steps": 4, "guidance_scale": 4.0},
    model_id="demo",
    revision="fake",
)


def store_images(
    claim: Claim, images: Sequence[GeneratedImage], recipe: GenerationMetadata = RECIPE
) -> list[StoredImage]:
    """Save a run's images as a worker does."""
    return storage.store_images(claim, images, recipe, stored_one=lambda: None)


class ScriptedWorker:
    """Worker of one task whose steps the test triggers."""

    def __init__(self, task: Task, *, quietly: bool = False) -> None:
        claimed = claim_one(worker="a-worker:1", lease_seconds=30)
        assert claimed is not None
        assert claimed.pk == task.pk
        self.num_images = task.params["num_images"]
        self.recipe = replace(RECIPE, params={**RECIPE.params, **task.params})
        self.claim = Claim(task_id=task.pk, attempt=claimed.attempt)
        if not quietly:
            self.publish_event("status", status="running")

    def publish_event(self, event: str, **data: Any) -> None:
        progress.publish_event(self.claim.task_id, event, {"attempt": self.claim.attempt, **data})

    def publish_step(self, step: int) -> None:
        self.publish_event("progress", phase="denoising", step=step, total_steps=4, percent=25 * step, eta_seconds=None)

    def publish_preview(self, step: int) -> None:
        self.publish_event("preview", step=step, total_steps=4, width=8, height=8, src="data:image/webp;base64,AAAA")

    def send_heartbeat(self, step: int) -> None:
        report = Progress(phase="denoising", step=step, total_steps=4)
        assert lifecycle.renew_leases([self.claim], report, lease_seconds=30)

    def succeed_task(self, *, quietly: bool = False) -> None:
        drawn = [GeneratedImage(seed=7 + index, image=Image.new("RGB", (32, 32))) for index in range(self.num_images)]
        images = store_images(self.claim, drawn, self.recipe)
        assert succeed_one(self.claim, images, revision="x", timings={}, size={"width": 32, "height": 32})
        if not quietly:
            self.publish_event("status", status="succeeded")
