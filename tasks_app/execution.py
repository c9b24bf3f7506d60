"""One claimed task from claim to outcome: supervises the inference thread.

The handler runs in the process's one inference thread and reports into a queue. The actor's thread stays free: it hands
every report to Redis, beats the row's heart, and tells the run to stop when the row says so.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import NoReturn, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from structlog.contextvars import bound_contextvars

from tasks_app import catalog, errors, lifecycle, storage
from tasks_app.contracts import GenerationResult, Progress
from tasks_app.inference import InferenceThread
from tasks_app.models import Status, Task
from tasks_app.run import Run, Stop, publish_preview, publish_progress, publish_status, recipe
from tasks_app.strict import printable

logger = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError)
DATABASE_RETRY_SECONDS = 1.0
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
# What a worker ends with when only a new process can help; its supervisor starts one.
EXIT_DEVICE_LOST = 70
EXIT_HUNG = 75


Answer = TypeVar("Answer")


_inference = InferenceThread()
_runs: set[Run] = set()
_draining = threading.Event()
_hurrying = threading.Event()
WORKER: str = settings.WORKER_NAME or f"{socket.gethostname()}:{os.getpid()}"


def run_next() -> bool:
    """Claim the best task and run it to its outcome; False when there was none to claim."""
    if _draining.is_set():
        return False
    task = lifecycle.claim(worker=WORKER, lease_seconds=settings.LEASE_SECONDS)
    if task is None:
        return False
    with bound_contextvars(task=str(task.pk), attempt=task.attempt):
        logger.info("Task %s: attempt %s starts with %s.", task.pk, task.attempt, task.model_id)
        run(task)
    return True


def beside_tasks(call: Callable[[], Answer]) -> Future[Answer]:
    """Run a call in the inference thread, between two tasks."""
    return _inference.submit(call)


def busy() -> bool:
    """Return whether this process runs a task."""
    return bool(_runs)


def drain(grace_seconds: float) -> None:
    """Claim no more; a task that runs longer than the grace is given back. Asked a second time: no more grace."""
    if _draining.is_set() or not grace_seconds:
        _hurrying.set()
    else:
        timer = threading.Timer(grace_seconds, _hurrying.set)
        timer.daemon = True
        timer.start()
    _draining.set()


def end_process(status: int, reason: str) -> NoReturn:
    """End at once: the inference thread can't be stopped, and a claim that is still held ends with its lease."""
    logger.critical("%s The worker ends with %s.", reason, status)
    os._exit(status)


def run(task: Task) -> None:
    """Run one claimed task to its outcome."""
    options = _persist(lambda: catalog.load_options(task.model_id))
    this = Run(task, options, _hurrying)
    _runs.add(this)
    try:
        publish_status(this, Status.RUNNING)
        future = _inference.submit(this.generate)
        future.add_done_callback(lambda _: this.reports.put(None))
        _supervise(this, future)
        _settle(this, future)
    finally:
        _runs.discard(this)


def _supervise(run: Run, future: Future[GenerationResult]) -> None:
    next_beat = 0.0
    while True:
        if run.is_to_stop():
            # Before it begins, behind a preload, it reports nothing that could be stopped; what has begun goes on.
            future.cancel()
        try:
            report = run.reports.get(timeout=max(0.0, next_beat - time.monotonic()))
        except queue.Empty:
            report = run.latest
        if report is None:
            return
        new_phase = report.phase != run.latest.phase
        if report != run.latest:
            run.latest, run.moved_at = report, time.monotonic()
            publish_progress(run)
            # Of previews that wait, only the last is worth drawing.
            if report.preview is not None and run.reports.empty():
                publish_preview(run, report.preview)
        elif run.hangs():
            end_process(EXIT_HUNG, f"Task {run.claim.task_id}: no step for {settings.HANG_SECONDS} s.")
        if new_phase or time.monotonic() >= next_beat:
            next_beat = time.monotonic() + settings.HEARTBEAT_SECONDS
            _beat(run)


def _beat(run: Run) -> None:
    try:
        beat = lifecycle.heartbeat(run.claim, run.latest, lease_seconds=settings.LEASE_SECONDS)
    except DATABASE_AWAY as error:
        # The lease outlasts a short outage; a longer one is settled by the fence.
        logger.warning("Task %s: no heartbeat: %s", run.claim.task_id, type(error).__name__)
        connection.close()
        return
    if beat is None:
        run.stop(Stop.FENCED)
    elif beat.cancel_requested:
        run.stop(Stop.CANCELED)
    elif beat.overdue:
        run.stop(Stop.TIMED_OUT)


def _settle(run: Run, future: Future[GenerationResult]) -> None:
    error = errors.RunStopped() if future.cancelled() else future.exception()
    if error is None:
        outcome = _save(run, future.result())
    elif isinstance(error, errors.RunStopped):
        outcome = _stopped(run)
    else:
        outcome = _failed(run, error)
    logger.info("Task %s: attempt %s %s.", run.claim.task_id, run.claim.attempt, outcome or "lost its claim")
    if outcome:
        publish_status(run, outcome)
    if isinstance(error, errors.DeviceLost):
        end_process(EXIT_DEVICE_LOST, "The device is lost.")


def _save(run: Run, result: GenerationResult) -> Status | None:
    started = time.monotonic()
    run.latest = Progress(phase="saving", step=run.task.total_steps, total_steps=run.task.total_steps)
    publish_progress(run)
    _beat(run)
    if run.stop_reason:
        return _stopped(run)
    try:
        images = storage.store(run.claim, result.images, recipe(run.task, result), stored_one=lambda: _beat(run))
    except errors.StorageFailed as error:
        return _failed(run, error)
    timings = {**result.timings, "saving": round(time.monotonic() - started, 3)}
    size = {"width": images[0].width, "height": images[0].height}
    moved = _persist(lambda: lifecycle.succeed(run.claim, images, revision=result.revision, timings=timings, size=size))
    if moved:
        return Status.SUCCEEDED
    storage.discard(images)
    return Status.CANCELED if _persist(lambda: lifecycle.confirm_cancel(run.claim)) else None


def _stopped(run: Run) -> Status | None:
    match run.stop_reason:
        case Stop.CANCELED:
            return Status.CANCELED if _persist(lambda: lifecycle.confirm_cancel(run.claim)) else None
        case Stop.TIMED_OUT:
            return _failed(run, errors.TimedOut(str(errors.TimedOut.__doc__)))
        case Stop.DRAINED:
            return _persist(lambda: lifecycle.release(run.claim))
        case _:
            return None


def _failed(run: Run, error: BaseException) -> Status | None:
    expected = isinstance(error, errors.TaskError)
    code = error.code if isinstance(error, errors.TaskError) else errors.Internal.code
    message = str(error) if expected else f"The run failed with an unexpected {type(error).__name__}."
    message, trace = _storable(message), _storable("".join(traceback.format_exception(error)))
    level, shown = (logging.WARNING, None) if expected else (logging.ERROR, _emptied(error))
    logger.log(level, "Task %s: %s: %s", run.claim.task_id, code, message, exc_info=shown)
    moved = _persist(lambda: lifecycle.fail(run.claim, code=code, message=message, traceback=trace))
    return Status.FAILED if moved else None


def _emptied(error: BaseException) -> BaseException:
    """Free what the error's frames hold, tensors too: whoever collects errors from the log may keep this one."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error


def _storable(text: str) -> str:
    """Return the text without what PostgreSQL refuses, and without tokens of the Hub."""
    return TOKEN.sub("hf_…", printable(text).replace("\0", "\\0"))


def _persist(write: Callable[[], Answer]) -> Answer:
    """Repeat a final write until the database has answered it."""
    while True:
        try:
            return write()
        except DATABASE_AWAY as error:
            logger.warning("The database is away (%s); the outcome is held.", type(error).__name__)
            connection.close()
            time.sleep(DATABASE_RETRY_SECONDS)
