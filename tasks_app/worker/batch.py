"""Claimed tasks while they run: what the inference thread reports, why they are to stop, and what watchers are told."""

from __future__ import annotations

import enum
import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings

from tasks_app import errors
from tasks_app.contracts import Claim, Recipe
from tasks_app.engine.types import GenerationRequest, GenerationResult, LoadOptions, LoraUse, Progress, percent
from tasks_app.events import progress, status_events
from tasks_app.images import previews, uploads
from tasks_app.models import Status, Task
from tasks_app.task_types import parameters, registry
from tasks_app.worker import engines

if TYPE_CHECKING:
    from PIL.Image import Image


class Stop(enum.Enum):
    """Why a run was told to end."""

    FENCED = enum.auto()
    CANCELED = enum.auto()
    TIMED_OUT = enum.auto()
    DRAINED = enum.auto()


class Run:
    """One claimed task while it runs, with others or alone."""

    def __init__(self, task: Task) -> None:
        """Nothing has asked it to end yet."""
        self.task = task
        self.claim = Claim(task_id=task.pk, attempt=task.attempt)
        self.stop_reason: Stop | None = None
        self.settled = False
        self.finished_at: datetime | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended, and nothing has asked it to."""
        return self.stop_reason is None and not self.settled

    def stop(self, reason: Stop) -> None:
        """Let it end; the first reason counts."""
        self.stop_reason = self.stop_reason or reason


class Batch:
    """The runs that one call of the handler makes; `report` and `generate` belong to the inference thread."""

    def __init__(self, runs: Sequence[Run], options: LoadOptions, hurrying: threading.Event) -> None:
        """`hurrying` is set when the process has no more time for any run."""
        self.runs = tuple(runs)
        self._first = runs[0].task
        self._options = options
        self._hurrying = hurrying
        self.latest = Progress(phase="loading", total_steps=self._first.total_steps)
        self.reports: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        self.moved_at = time.monotonic()
        self.next_beat = time.monotonic() + settings.HEARTBEAT_SECONDS  # the claim was the first
        self.database_answers = True
        self._first_step: tuple[float, int] | None = None

    @property
    def going(self) -> list[Run]:
        """The runs that go on."""
        return [run for run in self.runs if run.goes_on]

    @property
    def suspect(self) -> bool:
        """Whether one of its tasks has lost a worker, which may have died of it."""
        return any(run.task.losses for run in self.runs)

    def generate(self) -> list[GenerationResult]:
        """Let the handler run the requests."""
        handler = engines.handler(self._first.task_type, self._first.provider)
        results = handler.run([_request(run.task, self._options) for run in self.runs], self.report)
        if not all(result.images for result in results):
            raise errors.Internal("The model made no picture.")
        return results

    def report(self, progress: Progress) -> None:
        """Take a report; raises RunStopped when all the runs are to end."""
        self.reports.put(progress)
        if self.is_to_stop():
            raise errors.RunStopped

    def is_to_stop(self) -> bool:
        """Return whether somebody or the process wants each of the runs to end."""
        if self._hurrying.is_set():
            self.stop(Stop.DRAINED)
        return not self.going

    def stop(self, reason: Stop) -> None:
        """Let all of its runs end."""
        for run in self.runs:
            run.stop(reason)

    def hangs(self) -> bool:
        """Return whether nothing has moved for too long; loading from a disk may take its time, a download may not."""
        latest = self.latest
        loading = latest.phase == "loading" and latest.bytes_done == latest.bytes_total
        return not loading and time.monotonic() - self.moved_at > settings.HANG_SECONDS

    def eta_seconds(self) -> float | None:
        """Return how long the remaining steps will take at the pace of those before."""
        now, step = time.monotonic(), self.latest.step
        if self._first_step is None and step:
            self._first_step = now, step
        if self._first_step is None or step == self._first_step[1]:
            return None
        since, first = self._first_step
        return round((now - since) / (step - first) * (self.latest.total_steps - step), 1)


def publish_progress(batch: Batch) -> None:
    """Tell how far it is, of each run that goes on."""
    latest = batch.latest
    data: dict[str, Any] = {
        "phase": latest.phase,
        "step": latest.step,
        "total_steps": latest.total_steps,
        "percent": percent(latest.step, latest.total_steps),
        "eta_seconds": batch.eta_seconds() if latest.phase == "denoising" else None,
    }
    if latest.bytes_done is not None:
        data |= {"bytes_done": latest.bytes_done, "bytes_total": latest.bytes_total}
    told = {run.claim.task_id: {"attempt": run.claim.attempt, **data} for run in batch.going}
    progress.publish_all("progress", told)


def publish_previews(batch: Batch, draw: Callable[[int], Image]) -> None:
    """Draw what it looks like so far, and show it, of each run that goes on."""
    latest = batch.latest
    for index, run in enumerate(batch.runs):
        if run.goes_on:
            data = {"attempt": run.claim.attempt, "step": latest.step, "total_steps": latest.total_steps}
            progress.publish(run.claim.task_id, "preview", data | previews.encode(draw(index)))


def publish_starts(runs: Sequence[Run]) -> None:
    """Tell that these run."""
    status_events.tell_starts({run.claim.task_id: run.claim.attempt for run in runs})


def publish_end(run: Run, status: Status) -> None:
    """Tell where it went."""
    status_events.tell(run.claim.task_id, status, attempt=run.claim.attempt)


def publish_successes(runs: Sequence[Run]) -> None:
    """Tell that these made their pictures."""
    status_events.tell_successes({run.task: run.finished_at for run in runs if run.finished_at})


def recipe(task: Task, result: GenerationResult) -> Recipe:
    """Return what the run's pictures were made of."""
    return Recipe(
        task_type=task.task_type,
        params={"provider": task.provider, "model_id": task.requested_model_id, **task.params},
        model_id=task.model_id,
        revision=result.revision,
        provenance={"diffusers-handler": settings.VERSION, **result.provenance},
    )


def _request(task: Task, options: LoadOptions) -> GenerationRequest:
    pictures = parameters.uploads(registry.get(task.task_type, task.provider), task.params)
    # The format is for the storage to know.
    params = {name: value for name, value in task.params.items() if name != "output_format"}
    params |= {name: uploads.read(upload_id) for name, upload_id in pictures.items()}
    params["loras"] = tuple(LoraUse(**lora) for lora in params.get("loras", ()))
    params["embeddings"] = tuple(params.get("embeddings", ()))
    return GenerationRequest(
        model_id=task.model_id,
        revision=task.revision,
        seed=task.seed,
        sent=frozenset(task.sent),
        options=options,
        **params,
    )
