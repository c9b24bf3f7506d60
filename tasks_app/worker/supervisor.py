"""Supervision of claimed tasks and of the inference thread, from the claim to the outcome.

The engine runs in the process's only inference thread and puts its reports into a queue. The actor's thread remains
free: it publishes every report to Redis, sends heartbeats, and stops runs that were canceled, are overdue or lost their
claim. A third thread saves the results, so that the next run does not have to wait.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection
from structlog.contextvars import bound_contextvars

from tasks_app import errors
from tasks_app.catalog import rows as model_rows
from tasks_app.contracts import WorkerCapacity
from tasks_app.engine.types import GenerationResult, Progress
from tasks_app.models import Task
from tasks_app.queue import claim_order, lifecycle
from tasks_app.worker import finalize, saver, shutdown
from tasks_app.worker.batch import ActiveRun, Batch, StopReason, publish_previews, publish_progress, publish_starts
from tasks_app.worker.threads import SingleThreadExecutor
from tasks_app.worker.warm_models import CapacityTracker

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Callback = Callable[[], None]


@dataclass(kw_only=True)
class _Call:
    """A batch in the inference thread, and the prefetched call that follows it once this one is `done`."""

    batch: Batch
    future: Future[list[GenerationResult]]
    done: threading.Event = field(default_factory=threading.Event)
    prefetched: _Call | None = None


_inference_thread = SingleThreadExecutor("inference")
_capacity_tracker = CapacityTracker()
_active_batches: set[Batch] = set()
WORKER_NAME: str = settings.WORKER_NAME or f"{socket.gethostname()}:{os.getpid()}"


def do_nothing() -> None:
    """Do nothing."""


def run_once() -> bool:
    """Claim the best task with its batch mates, run them and save their results.

    Return False if no task was claimable.
    """
    call = _start_next()
    if call is not None:
        _finish_call(call)
    return call is not None


def run_until_idle(begun: Callback = do_nothing) -> None:
    """Run claimable tasks, one engine call after another; results are saved while the next call runs.

    `begun` is called once per call, while the engine is working.
    """
    call = _start_next()
    while call is not None:
        call = _run_and_start_next(call, begun)


def run_in_inference_thread(call: Callable[[], Result]) -> Future[Result]:
    """Run a call in the inference thread, between two tasks."""
    return _inference_thread.submit(call)


def is_busy() -> bool:
    """Return whether this process runs a task."""
    return bool(_active_batches)


def run_tasks(tasks: Sequence[Task]) -> None:
    """Run claimed tasks in one engine call and save their results."""
    _finish_call(_start_batch(tasks))


def _run_and_start_next(call: _Call, begun: Callback) -> _Call | None:
    # A separate function, so that the results of a call are freed before the next call ends.
    with ExitStack() as at_last:
        at_last.callback(call.done.set)
        results = _await_result(call, begun, ahead=True)
        if results is not None:
            at_last.callback(_submit_results, call.batch, results)
        if call.prefetched is not None or saver.has_pending() or settings.BATCH_WAIT_MS:
            # Submitting may block, and then no thread would supervise a newly started call. Nor should results wait
            # for batch mates of the next call.
            at_last.pop_all().close()
        # Claim before submitting, or the saver would take processor time while the inference thread waits for a batch.
        return call.prefetched or _start_next(after=call)


def _start_next(*, after: _Call | None = None) -> _Call | None:
    if shutdown.requested.is_set():
        return None
    tasks = _claim_batch(_capacity_tracker.get_capacity(), beside=None if after is None else after.future)
    return _start_batch(tasks, after=after) if tasks else None


def _prefetch_next(call: _Call) -> None:
    """Claim the batch that follows this call, so that the inference thread need not wait for the database."""
    # Don't prefetch tasks that would have to wait for a save, or beside a batch that may kill the worker.
    if saver.has_pending() or call.batch.is_quarantined:
        return
    try:
        call.prefetched = _start_next(after=call)
    except finalize.DATABASE_ERRORS as error:
        logger.warning("Prefetch skipped: %s", type(error).__name__)
        connection.close()


def _start_batch(tasks: Sequence[Task], *, after: _Call | None = None) -> _Call:
    options = finalize.retry_on_db_outage(lambda: model_rows.fetch_load_options(tasks[0].model_id))
    batch = Batch([ActiveRun(task) for task in tasks], options, shutdown.deadline_passed)
    _active_batches.add(batch)
    # Isolate quarantined batches, so that neither of two batches can cost the other its images.
    apart = batch.is_quarantined or (after is not None and after.batch.is_quarantined)
    with _bind_log_context(batch):
        future = _inference_thread.submit(
            partial(_generate_batch, batch, None if after is None else after.done, apart=apart)
        )
    future.add_done_callback(lambda _: batch.reports.put(None))
    if after is not None and not apart:
        after.future.add_done_callback(partial(_set_done_unless_failed, after.done))
    return _Call(batch=batch, future=future)


def _set_done_unless_failed(over: threading.Event, made: Future[list[GenerationResult]]) -> None:
    # After an error the next call must wait: memory has to be freed first, and the device may be lost.
    if not made.cancelled() and made.exception() is None:
        over.set()


def _generate_batch(batch: Batch, over: threading.Event | None, *, apart: bool) -> list[GenerationResult]:
    """Generate a batch once the previous call is over.

    With `apart`, also wait until all previous results are saved.
    """
    if over is not None:
        over.wait()
    if apart:
        saver.flush_pending()
    return batch.generate_images()


def _finish_call(call: _Call) -> None:
    results = _await_result(call, do_nothing)
    if results is not None:
        with _bind_log_context(call.batch):
            finalize.save_results(call.batch, results)


def _await_result(call: _Call, begun: Callback, *, ahead: bool = False) -> list[GenerationResult] | None:
    """Supervise a call until it returns its results.

    If it fails or is aborted, end or release its tasks and return None.
    """
    with _bind_log_context(call.batch):
        try:
            _publish_and_watch(call, begun, ahead=ahead)
            error = errors.GenerationAbortedError() if call.future.cancelled() else call.future.exception()
            if error is None:
                return call.future.result()
            _handle_failure(call, error)
            return None
        finally:
            _active_batches.discard(call.batch)


def _publish_and_watch(call: _Call, begun: Callback, *, ahead: bool) -> None:
    for each in call.batch.runs:
        logger.info("Task %s: attempt %s starts with %s.", each.task.pk, each.task.attempt, each.task.model_id)
    publish_starts(call.batch.runs)
    begun()
    _watch_call(call, ahead=ahead)


def _submit_results(batch: Batch, results: list[GenerationResult]) -> None:
    with _bind_log_context(batch):
        saver.submit_results(batch, results)


def _claim_batch(held: WorkerCapacity, *, beside: Future[Any] | None) -> list[Task]:
    tasks = lifecycle.claim_batch(worker=WORKER_NAME, lease_seconds=settings.LEASE_SECONDS, held=held)
    return [*tasks, *_fill_batch(tasks, held, beside)] if settings.BATCH_WAIT_MS and tasks else tasks


def _fill_batch(tasks: Sequence[Task], held: WorkerCapacity, beside: Future[Any] | None) -> list[Task]:
    """Wait for batch mates and claim them; return none if the batch is full."""
    try:
        if claim_order.is_batch_full(tasks, held):
            return []
        _wait_for_batch_mates(beside)
        return lifecycle.claim_more(tasks, worker=WORKER_NAME, lease_seconds=settings.LEASE_SECONDS, held=held)
    except finalize.DATABASE_ERRORS as error:
        # The tasks are claimed and run without batch mates.
        logger.warning("Batch wait skipped: %s", type(error).__name__)
        connection.close()
        return []


def _wait_for_batch_mates(beside: Future[Any] | None) -> None:
    """Wait for other tasks to arrive, but no longer than the running call `beside` takes."""
    seconds = settings.BATCH_WAIT_MS / 1000
    if beside is None or beside.done():
        shutdown.requested.wait(seconds)
    else:
        wait([beside], timeout=seconds)


def _watch_call(call: _Call, *, ahead: bool) -> None:
    batch = call.batch
    while True:
        _apply_stop(call)
        try:
            report = batch.reports.get(timeout=max(0.0, batch.next_heartbeat_at - time.monotonic()))
        except queue.Empty:
            report = batch.latest_progress
        if report is None:
            return
        is_last_phase = report.phase == "decoding" != batch.latest_progress.phase
        _handle_report(call, report)
        if time.monotonic() >= batch.next_heartbeat_at:
            _send_heartbeats(call)
        # If the database is unavailable, a claim would block once more.
        if ahead and is_last_phase and batch.is_database_available:
            _prefetch_next(call)


def _apply_stop(call: _Call) -> None:
    """Cancel calls that should stop and have not started, such as those queued behind a preload.

    A call that has started stops at its next report.
    """
    if call.batch.should_stop():
        call.future.cancel()
    if call.prefetched is not None and shutdown.requested.is_set() and call.prefetched.future.cancel():
        _release_prefetched(call)


def _handle_report(call: _Call, report: Progress) -> None:
    """Publish a report; exit the process if there has been no progress for too long."""
    batch = call.batch
    if report != batch.latest_progress:
        batch.latest_progress, batch.last_progress_at = report, time.monotonic()
        publish_progress(batch)
        # Of several queued previews, only the last is worth rendering.
        if report.preview is not None and batch.reports.empty():
            publish_previews(batch, report.preview)
    elif batch.is_stalled():
        _release_prefetched(call)
        shutdown.exit_now(
            shutdown.EXIT_STALLED, f"Task {batch.runs[0].claim.task_id}: no step for {settings.STEP_TIMEOUT_SECONDS} s."
        )


def _send_heartbeats(call: _Call) -> None:
    finalize.send_heartbeat(call.batch)
    if call.batch.active_runs:
        # The other runs continue. Once no run is active, the call is aborted, and that ends the rest.
        finalize.end_stopped_runs(call.batch)
    if call.prefetched is not None:
        finalize.send_heartbeat(call.prefetched.batch)


def _handle_failure(call: _Call, error: BaseException) -> None:
    batch = call.batch
    if isinstance(error, errors.GenerationAbortedError):
        finalize.end_stopped_runs(batch)
    elif len(batch.runs) == 1:
        finalize.fail_run(batch.runs[0], error)
    else:
        if isinstance(error, errors.OutOfMemoryError):
            first = batch.runs[0].task
            _capacity_tracker.record_oom(first.model_id, len(batch.runs) * first.params["num_images"])
        finalize.release_batch(batch, error)
    if isinstance(error, errors.DeviceLostError):
        saver.flush_pending()
        _release_prefetched(call)
        shutdown.exit_now(shutdown.EXIT_DEVICE_LOST, "The device failed.")


def _release_prefetched(call: _Call) -> None:
    """Release the prefetched tasks, which this process will not run."""
    if call.prefetched is not None:
        call.prefetched.batch.request_stop(StopReason.SHUTDOWN)
        finalize.end_stopped_runs(call.prefetched.batch)
        _active_batches.discard(call.prefetched.batch)
        call.prefetched = None


def _bind_log_context(batch: Batch) -> AbstractContextManager[None]:
    """Add the batch's first task and its attempt to all log lines."""
    return bound_contextvars(task=str(batch.runs[0].claim.task_id), attempt=batch.runs[0].claim.attempt)
