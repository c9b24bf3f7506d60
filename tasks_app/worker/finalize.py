"""Finalization of a batch: each run's images are stored and its task ends with an outcome of its own."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from structlog.contextvars import bound_contextvars

from tasks_app import errors
from tasks_app.contracts import Success
from tasks_app.engine.types import GenerationResult, Progress
from tasks_app.fields import escape_surrogates
from tasks_app.images import comparison, storage
from tasks_app.models import Status
from tasks_app.queue import lifecycle
from tasks_app.worker.batch import (
    ActiveRun,
    Batch,
    StopReason,
    build_metadata,
    publish_end,
    publish_progress,
    publish_successes,
)

logger = logging.getLogger(__name__)

DATABASE_ERRORS = (OperationalError, InterfaceError)
HUB_TOKEN_PATTERN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")

Result = TypeVar("Result")


def send_heartbeat(batch: Batch) -> None:
    """Record progress and renew leases; stop runs that lost their claim, were canceled or are overdue."""
    going = batch.active_runs
    batch.next_heartbeat_at = time.monotonic() + settings.HEARTBEAT_SECONDS
    try:
        beats = lifecycle.renew_leases(
            [run.claim for run in going], batch.latest_progress, lease_seconds=settings.LEASE_SECONDS
        )
    except DATABASE_ERRORS as error:
        # The lease outlasts a short outage; after a longer one, the fence rejects outdated writes.
        logger.warning("Heartbeat failed: %s", type(error).__name__)
        connection.close()
        batch.is_database_available = False
        return
    batch.is_database_available = True
    for run in going:
        beat = beats.get(run.claim.task_id)
        if beat is None:
            run.request_stop(StopReason.LEASE_LOST)
        elif beat.cancel_requested:
            run.request_stop(StopReason.CANCELED)
        elif beat.overdue:
            run.request_stop(StopReason.TIMED_OUT)


def save_results(batch: Batch, results: list[GenerationResult]) -> None:
    """Store the images of each unfinished run and end the successful tasks together, in one statement."""
    total = batch.latest_progress.total_steps
    batch.latest_progress = Progress(phase="saving", step=total, total_steps=total)
    publish_progress(batch)
    _send_heartbeat_if_due(batch)
    stored = {
        run: success
        for run, result in zip(batch.runs, results, strict=True)
        if not run.is_finished and (success := _store_images(batch, run, result))
    }
    ended = retry_on_db_outage(lambda: lifecycle.mark_succeeded(list(stored.values()))) if stored else {}
    for run, success in stored.items():
        _finish_run(run, partial(_end_succeeded, run, success, ended.get(run.claim.task_id)))
    publish_successes([run for run in stored if run.finished_at])


def end_stopped_runs(batch: Batch) -> None:
    """End the runs that were asked to stop."""
    for run in batch.runs:
        if run.stop_reason is not None and not run.is_finished:
            _finish_run(run, partial(_end_stopped, run))


def fail_run(run: ActiveRun, error: BaseException) -> None:
    """End a run that failed with an error of its own."""
    _finish_run(run, partial(_end_failed, run, error))


def release_batch(batch: Batch, error: BaseException) -> None:
    """Release the tasks of a failed batch, since any one of them may have caused the error.

    After an out-of-memory error they run in smaller batches, after any other error each runs alone.
    """
    logger.warning(
        "%s tasks failed together: %s", len(batch.runs), type(error).__name__, exc_info=_drop_frame_refs(error)
    )
    alone = not isinstance(error, errors.OutOfMemoryError)
    for run in batch.active_runs:
        _finish_run(run, partial(_release_run, run, alone=alone))
    end_stopped_runs(batch)


def retry_on_db_outage(write: Callable[[], Result]) -> Result:
    """Call `write`, and retry until the database is available; return its result."""
    while True:
        try:
            return write()
        except DATABASE_ERRORS as error:
            logger.warning("Database unavailable (%s); retrying to save the outcome.", type(error).__name__)
            connection.close()
            # Shorter than the time that sweepers give live workers to renew their leases after an outage.
            time.sleep(settings.HEARTBEAT_SECONDS)


def _finish_run(run: ActiveRun, end: Callable[[], Status | None]) -> None:
    """End a run and publish its task's new status, except for successes, which are published together."""
    with bound_contextvars(task=str(run.claim.task_id), attempt=run.claim.attempt):
        outcome = end()
        run.is_finished = True
        logger.info("Task %s: attempt %s %s.", run.claim.task_id, run.claim.attempt, outcome or "lost its claim")
        if outcome and outcome != Status.SUCCEEDED:
            publish_end(run, outcome)


def _store_images(batch: Batch, run: ActiveRun, result: GenerationResult) -> Success | None:
    """Store the images of a run.

    If the run was asked to stop or the storage fails, end the run and return None.
    """
    if run.stop_reason:
        _finish_run(run, partial(_end_stopped, run))
        return None
    started = time.monotonic()
    made_of = build_metadata(run.task, result)
    try:
        images = storage.store_images(
            run.claim, result.images, made_of, stored_one=partial(_send_heartbeat_if_due, batch)
        )
    except errors.StorageError as error:
        fail_run(run, error)
        return None
    timings = {**result.timings, "saving": round(time.monotonic() - started, 3)}
    return Success(
        claim=run.claim,
        images=tuple(images),
        revision=made_of.revision,
        timings=timings,
        size={"width": images[0].width, "height": images[0].height},
        provenance=made_of.provenance,
        reproduction=retry_on_db_outage(lambda: comparison.compare_with_original(run.task, images, made_of)),
    )


def _end_succeeded(run: ActiveRun, success: Success, finished_at: datetime | None) -> Status | None:
    run.finished_at = finished_at
    if finished_at:
        return Status.SUCCEEDED
    storage.discard_images(success.images)
    return Status.CANCELED if retry_on_db_outage(lambda: lifecycle.confirm_cancel(run.claim)) else None


def _send_heartbeat_if_due(batch: Batch) -> None:
    if time.monotonic() >= batch.next_heartbeat_at:
        send_heartbeat(batch)


def _end_stopped(run: ActiveRun) -> Status | None:
    match run.stop_reason:
        case StopReason.CANCELED:
            return Status.CANCELED if retry_on_db_outage(lambda: lifecycle.confirm_cancel(run.claim)) else None
        case StopReason.TIMED_OUT:
            return _end_failed(run, errors.TaskTimeoutError(str(errors.TaskTimeoutError.__doc__)))
        case StopReason.SHUTDOWN:
            return _release_run(run)
        case _:
            return None


def _release_run(run: ActiveRun, *, alone: bool = False) -> Status | None:
    return retry_on_db_outage(lambda: lifecycle.release_task(run.claim, alone=alone))


def _end_failed(run: ActiveRun, error: BaseException) -> Status | None:
    expected = isinstance(error, errors.TaskError)
    code = error.code if isinstance(error, errors.TaskError) else errors.InternalError.code
    message = str(error) if expected else f"The task failed with an unexpected {type(error).__name__}."
    message, trace = _sanitize_text(message), _sanitize_text("".join(traceback.format_exception(error)))
    level, shown = (logging.WARNING, None) if expected else (logging.ERROR, _drop_frame_refs(error))
    logger.log(level, "Task %s: %s: %s", run.claim.task_id, code, message, exc_info=shown)
    moved = retry_on_db_outage(lambda: lifecycle.mark_failed(run.claim, code=code, message=message, traceback=trace))
    return Status.FAILED if moved else None


def _drop_frame_refs(error: BaseException) -> BaseException:
    """Clear the traceback frames of an error and of its causes, and return the error.

    A log collector may keep the error, and with its frames the tensors in them.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error


def _sanitize_text(text: str) -> str:
    """Return the text without characters that PostgreSQL rejects and without Hub tokens."""
    return HUB_TOKEN_PATTERN.sub("hf_…", escape_surrogates(text).replace("\0", "\\0"))
