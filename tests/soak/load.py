"""Load of the soak test: a plan of good, failing and canceled tasks, and the code that queues them."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks_app import services
from tasks_app.access import permissions
from tasks_app.contracts import Submission
from tasks_app.models import TERMINAL, Status, Task
from tests.soak import measure
from tests.support.tiny import save_sd, save_sdxl

UNAVAILABLE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
QUEUE = 12
# Enough steps that the cancel request always arrives before the run ends.
ENDLESS = 900


@dataclass(frozen=True, kw_only=True)
class Job:
    """One task of the plan, and its expected end."""

    model: str
    params: dict[str, Any] = field(default_factory=dict)
    status: Status = Status.SUCCEEDED
    error: str = ""


def models(folder: Path) -> Path:
    """Create a folder of models: two valid ones, and one with truncated weights."""
    save_sd(folder / "sd")
    save_sdxl(folder / "sdxl")
    broken = shutil.copytree(folder / "sd", folder / "broken")
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return folder


def plan(tasks: int, seed: int = 1) -> list[Job]:
    """Return this number of jobs: two models in turn, with one job in five that fails or is canceled."""
    draw = random.Random(seed)
    jobs: list[Job] = []
    for number in range(tasks):
        model = ("sd", "sdxl")[number % 2]
        jobs.append(draw.choice(_bad(model)) if draw.random() < 0.2 else _good(model, draw))
    return jobs


def _good(model: str, draw: random.Random) -> Job:
    return Job(model=model, params={"steps": draw.randint(1, 2), "num_images": draw.choice([1, 1, 1, 2])})


def _bad(model: str) -> list[Job]:
    return [
        Job(model="broken", status=Status.FAILED, error="model_load_failed"),
        Job(model=UNAVAILABLE, status=Status.FAILED, error="model_unavailable"),
        # The API would reject this size; here the pipeline does.
        Job(model=model, params={"width": 12, "height": 12}, status=Status.FAILED, error="internal"),
        Job(model=model, params={"steps": ENDLESS}, status=Status.CANCELED, error="canceled"),
    ]


class Load:
    """Driver that keeps the queue filled, cancels tasks once they run, and takes samples."""

    def __init__(self, jobs: list[Job], *, every: int) -> None:
        """Set the jobs; `every` is the number of tasks between two samples."""
        self.samples: list[measure.Sample] = []
        self.workers: set[str] = set()
        self._every = every
        self._jobs = jobs
        self._waiting: Iterator[Job] = iter(jobs)
        self._made: dict[UUID, Job] = {}

    def tend(self) -> int:
        """Queue, cancel and sample as needed; return the number of ended tasks."""
        ended = Task.objects.filter(status__in=TERMINAL).count()
        while len(self._made) < min(ended + QUEUE, len(self._jobs)):
            job = next(self._waiting)
            self._made[_submit(job, seed=len(self._made)).pk] = job
        for task in Task.objects.filter(status=Status.RUNNING):
            self.workers.add(task.worker)
            if task.step and self._made[task.pk].status == Status.CANCELED:
                services.cancel_task(task.pk)
        if self.workers and ended >= self._every * (len(self.samples) + 1):
            self.samples.append(measure.sample(self.pid, ended))
        return ended

    @property
    def pid(self) -> int:
        """Return the id of the single process that ran all tasks."""
        (worker,) = self.workers
        return int(worker.rpartition(":")[2])

    def surprises(self) -> list[str]:
        """Return a description of every task that did not end as planned."""
        rows = Task.objects.in_bulk(self._made)
        return [
            f"{job}: {rows[pk].status} {rows[pk].error_code} {rows[pk].error_message} after {rows[pk].attempt} attempts"
            for pk, job in self._made.items()
            if (rows[pk].status, rows[pk].error_code, rows[pk].attempt) != (job.status, job.error, 1)
        ]


def _submit(job: Job, *, seed: int) -> Task:
    params = {"prompt": "a house", "negative_prompt": "", "steps": 2, "guidance_scale": 4.0, "num_images": 1}
    submission = Submission(
        task_type="text-to-image",
        provider="diffusers",
        requested_model_id=job.model,
        model_id=job.model,
        revision="",
        params={**params, "width": None, "height": None, **job.params},
        seed=seed,
        priority=0,
    )
    return services.submit_task(submission, caller=permissions.ANONYMOUS)[0]
