"""State of claimed tasks while they run: progress reports, stop reasons and published events."""

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
from tasks_app.contracts import Claim, GenerationMetadata
from tasks_app.engine.types import (
    GenerationRequest,
    GenerationResult,
    LoadOptions,
    Progress,
    RequestedLora,
    percent_done,
)
from tasks_app.events import progress, status_events
from tasks_app.images import previews, uploads
from tasks_app.models import Status, Task
from tasks_app.task_types import parameters, registry
from tasks_app.worker import engines

if TYPE_CHECKING:
    from PIL.Image import Image


class StopReason(enum.Enum):
    """Reason for stopping a run."""

    LEASE_LOST = enum.auto()
    CANCELED = enum.auto()
    TIMED_OUT = enum.auto()
    SHUTDOWN = enum.auto()


class ActiveRun:
    """A claimed task while it runs, alone or in a batch."""

    def __init__(self, task: Task) -> None:
        """Create a run that has no stop request yet."""
        self.task = task
        self.claim = Claim(task_id=task.pk, attempt=task.attempt)
        self.stop_reason: StopReason | None = None
        self.is_finished = False
        self.finished_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Return whether the run is neither finished nor asked to stop."""
        return self.stop_reason is None and not self.is_finished

    def request_stop(self, reason: StopReason) -> None:
        """Ask the run to stop; the first reason is kept."""
        self.stop_reason = self.stop_reason or reason


class Batch:
    """The runs of one engine call; `generate_images` and `report_progress` belong to the inference thread."""

    def __init__(self, runs: Sequence[ActiveRun], options: LoadOptions, hurrying: threading.Event) -> None:
        """Create a batch; `hurrying` is set once the shutdown grace period has expired."""
        self.runs = tuple(runs)
        self._first_task = runs[0].task
        self._options = options
        self._deadline_passed = hurrying
        self.latest_progress = Progress(phase="loading", total_steps=self._first_task.total_steps)
        self.reports: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        self.last_progress_at = time.monotonic()
        self.next_heartbeat_at = time.monotonic() + settings.HEARTBEAT_SECONDS  # claiming was the first
        self.is_database_available = True
        self._first_step: tuple[float, int] | None = None

    @property
    def active_runs(self) -> list[ActiveRun]:
        """Return the runs that are neither finished nor asked to stop."""
        return [run for run in self.runs if run.is_active]

    @property
    def is_quarantined(self) -> bool:
        """Return whether one of the tasks has lost a worker before, which it may have killed."""
        return any(run.task.lost_workers for run in self.runs)

    def generate_images(self) -> list[GenerationResult]:
        """Run the requests of all tasks in one call of their engine."""
        handler = engines.get_handler(self._first_task.task_type, self._first_task.provider)
        results = handler.run([_build_request(run.task, self._options) for run in self.runs], self.report_progress)
        if not all(result.images for result in results):
            raise errors.InternalError("The model returned no image.")
        return results

    def report_progress(self, progress: Progress) -> None:
        """Queue a progress report for the supervisor.

        Raises:
            GenerationAbortedError: no run of the batch is active any more.
        """
        self.reports.put(progress)
        if self.should_stop():
            raise errors.GenerationAbortedError

    def should_stop(self) -> bool:
        """Return whether no run is active any more; an expired grace period stops all runs."""
        if self._deadline_passed.is_set():
            self.request_stop(StopReason.SHUTDOWN)
        return not self.active_runs

    def request_stop(self, reason: StopReason) -> None:
        """Ask all runs to stop."""
        for run in self.runs:
            run.request_stop(reason)

    def is_stalled(self) -> bool:
        """Return whether there has been no progress for HANG_SECONDS.

        Loading a model from disk may take longer than that, a download may not.
        """
        latest = self.latest_progress
        loading = latest.phase == "loading" and latest.bytes_done == latest.bytes_total
        return not loading and time.monotonic() - self.last_progress_at > settings.STEP_TIMEOUT_SECONDS

    def estimate_eta(self) -> float | None:
        """Return the estimated seconds for the remaining steps, at the pace of the previous ones.

        None until a second step has been observed.
        """
        now, step = time.monotonic(), self.latest_progress.step
        if self._first_step is None and step:
            self._first_step = now, step
        if self._first_step is None or step == self._first_step[1]:
            return None
        since, first = self._first_step
        return round((now - since) / (step - first) * (self.latest_progress.total_steps - step), 1)


def publish_progress(batch: Batch) -> None:
    """Publish the batch's progress for each active run."""
    latest = batch.latest_progress
    data: dict[str, Any] = {
        "phase": latest.phase,
        "step": latest.step,
        "total_steps": latest.total_steps,
        "percent": percent_done(latest.step, latest.total_steps),
        "eta_seconds": batch.estimate_eta() if latest.phase == "denoising" else None,
    }
    if latest.bytes_done is not None:
        data |= {"bytes_done": latest.bytes_done, "bytes_total": latest.bytes_total}
    told = {run.claim.task_id: {"attempt": run.claim.attempt, **data} for run in batch.active_runs}
    progress.publish_events("progress", told)


def publish_previews(batch: Batch, draw: Callable[[int], Image]) -> None:
    """Publish a preview of each active run; `draw` renders the image of the request with the given index."""
    latest = batch.latest_progress
    for index, run in enumerate(batch.runs):
        if run.is_active:
            data = {"attempt": run.claim.attempt, "step": latest.step, "total_steps": latest.total_steps}
            progress.publish_event(run.claim.task_id, "preview", data | previews.encode_preview(draw(index)))


def publish_starts(runs: Sequence[ActiveRun]) -> None:
    """Publish the status `running` for the tasks of these runs."""
    status_events.publish_running({run.claim.task_id: run.claim.attempt for run in runs})


def publish_end(run: ActiveRun, status: Status) -> None:
    """Publish the new status of the task of a run that has ended."""
    status_events.publish_status(run.claim.task_id, status, attempt=run.claim.attempt)


def publish_successes(runs: Sequence[ActiveRun]) -> None:
    """Publish the status `succeeded` for the tasks of those runs that were marked as succeeded."""
    status_events.publish_succeeded({run.task: run.finished_at for run in runs if run.finished_at})


def build_metadata(task: Task, result: GenerationResult) -> GenerationMetadata:
    """Return the metadata to store with the images of a run."""
    return GenerationMetadata(
        task_type=task.task_type,
        params={"provider": task.provider, "model_id": task.requested_model_id, **task.params},
        model_id=task.model_id,
        revision=result.revision,
        provenance={"diffusers-handler": settings.VERSION, **result.provenance},
    )


def _build_request(task: Task, options: LoadOptions) -> GenerationRequest:
    pictures = parameters.get_upload_ids(registry.get_task_type(task.task_type, task.provider), task.params)
    # Only the storage uses the output format.
    params = {name: value for name, value in task.params.items() if name != "output_format"}
    params |= {name: uploads.read_upload(upload_id) for name, upload_id in pictures.items()}
    params["loras"] = tuple(RequestedLora(**lora) for lora in params.get("loras", ()))
    params["embeddings"] = tuple(params.get("embeddings", ()))
    return GenerationRequest(
        model_id=task.model_id,
        revision=task.revision,
        seed=task.seed,
        explicit_params=frozenset(task.explicit_params),
        options=options,
        **params,
    )
