"""Claimed tasks from claim to outcome: supervises the inference thread.

The handler runs in the process's one inference thread and reports into a queue. The actor's thread stays free: it hands
every report to Redis, beats the rows' hearts, and tells the run to stop when the rows say so. What the handler made is
saved in a third thread, so that the next run needn't wait for it.
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
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple, NoReturn, TypeVar

from django.conf import settings
from django.db import connection
from structlog.contextvars import bound_contextvars

from tasks_app import catalog, errors, lifecycle, settling
from tasks_app.contracts import GenerationResult, Held
from tasks_app.models import Status, Task
from tasks_app.run import Batch, Run, publish_previews, publish_progress, publish_status
from tasks_app.threads import SerialThread
from tasks_app.warmth import Warmth

logger = logging.getLogger(__name__)

# What a worker ends with when only a new process can help; its supervisor starts one.
EXIT_DEVICE_LOST = 70
EXIT_HUNG = 75


Answer = TypeVar("Answer")
Work = Callable[[], None]


class _Started(NamedTuple):
    """A batch that the inference thread has been given."""

    batch: Batch
    future: Future[list[GenerationResult]]


_inference = SerialThread("inference")
_saving = SerialThread("saving")
_saved: Future[None] | None = None
_warmth = Warmth()
_batches: set[Batch] = set()
_draining = threading.Event()
_hurrying = threading.Event()
WORKER: str = settings.WORKER_NAME or f"{socket.gethostname()}:{os.getpid()}"


def finish_saving() -> None:
    """Wait until what was handed over is saved."""
    if _saved is not None:
        wait([_saved])


def nothing() -> None:
    """Do nothing."""


def run_next() -> bool:
    """Claim the best task, and others that go with it, run and save them; False when there was none to claim."""
    started = _begin_next()
    if started is not None:
        _finish(started)
    return started is not None


def run_all(begun: Work = nothing) -> None:
    """Run what is claimable, one call after the other; what each made is saved beside the next.

    `begun` is called while the handler is at work.
    """
    started = _begin_next()
    while started is not None:
        results = _see_through(started, begun)
        hand_over = nothing if results is None else partial(_save_beside, started.batch, results)
        if _saved is not None and not _saved.done():
            # It will have to wait, and with the next begun there would be nobody to look after that.
            hand_over()
            hand_over = nothing
        try:
            # First, or the inference thread would share the time that it has to wait with the saving thread.
            started = _begin_next()
        finally:
            hand_over()


def beside_tasks(call: Callable[[], Answer]) -> Future[Answer]:
    """Run a call in the inference thread, between two tasks."""
    return _inference.submit(call)


def busy() -> bool:
    """Return whether this process runs a task."""
    return bool(_batches)


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


def run(tasks: Sequence[Task]) -> None:
    """Run claimed tasks in one call, and save what they made."""
    _finish(_begin(tasks))


def _begin_next() -> _Started | None:
    if _draining.is_set():
        return None
    tasks = _claim(_warmth.look())
    return _begin(tasks) if tasks else None


def _begin(tasks: Sequence[Task]) -> _Started:
    options = settling.persist(lambda: catalog.load_options(tasks[0].model_id))
    batch = Batch([Run(task) for task in tasks], options, _hurrying)
    _batches.add(batch)
    with _logged(batch):
        future = _inference.submit(batch.generate)
    future.add_done_callback(lambda _: batch.reports.put(None))
    return _Started(batch, future)


def _finish(started: _Started) -> None:
    results = _see_through(started, nothing)
    if results is not None:
        with _logged(started.batch):
            settling.save(started.batch, results)


def _see_through(started: _Started, begun: Work) -> list[GenerationResult] | None:
    """Supervise a call until it returns; None when it made nothing, and its tasks have ended with that."""
    batch, future = started
    with _logged(batch):
        try:
            for each in batch.runs:
                logger.info("Task %s: attempt %s starts with %s.", each.task.pk, each.task.attempt, each.task.model_id)
                publish_status(each, Status.RUNNING)
            begun()
            _supervise(batch, future)
        finally:
            _batches.discard(batch)
        error = errors.RunStopped() if future.cancelled() else future.exception()
        if error is None:
            return future.result()
        _end(batch, error)
        return None


def _save_beside(batch: Batch, results: list[GenerationResult]) -> None:
    """Save in the saving thread, once what that was given before is done: no more than two runs' pictures are held."""
    global _saved
    while _saved is not None and wait([_saved], timeout=settings.HEARTBEAT_SECONDS).not_done:
        settling.beat(batch)
    with _logged(batch):
        _saved = _saving.submit(partial(_with_a_connection, partial(settling.save, batch, results)))
    _saved.add_done_callback(_tell)


def _claim(held: Held) -> list[Task]:
    tasks = lifecycle.claim(worker=WORKER, lease_seconds=settings.LEASE_SECONDS, held=held)
    if tasks and tasks[0].batch_key and settings.BATCH_WAIT_MS:
        _draining.wait(settings.BATCH_WAIT_MS / 1000)
        tasks += lifecycle.join(tasks, worker=WORKER, lease_seconds=settings.LEASE_SECONDS, held=held)
    return tasks


def _supervise(batch: Batch, future: Future[list[GenerationResult]]) -> None:
    next_beat = 0.0
    while True:
        if batch.is_to_stop():
            # Before it begins, behind a preload, it reports nothing that could be stopped; what has begun goes on.
            future.cancel()
        try:
            report = batch.reports.get(timeout=max(0.0, next_beat - time.monotonic()))
        except queue.Empty:
            report = batch.latest
        if report is None:
            return
        new_phase = report.phase != batch.latest.phase
        if report != batch.latest:
            batch.latest, batch.moved_at = report, time.monotonic()
            publish_progress(batch)
            # Of previews that wait, only the last is worth drawing.
            if report.preview is not None and batch.reports.empty():
                publish_previews(batch, report.preview)
        elif batch.hangs():
            end_process(EXIT_HUNG, f"Task {batch.runs[0].claim.task_id}: no step for {settings.HANG_SECONDS} s.")
        if new_phase or time.monotonic() >= next_beat:
            next_beat = time.monotonic() + settings.HEARTBEAT_SECONDS
            settling.beat(batch)
            if batch.going:
                # The others go on without them; the last one ends when its run has.
                settling.end_stopped(batch)


def _end(batch: Batch, error: BaseException) -> None:
    if isinstance(error, errors.RunStopped):
        settling.end_stopped(batch)
    elif len(batch.runs) == 1:
        settling.fail(batch.runs[0], error)
    else:
        if isinstance(error, errors.OutOfMemory):
            first = batch.runs[0].task
            _warmth.learn(first.model_id, len(batch.runs) * first.params["num_images"])
        settling.give_back(batch, error)
    if isinstance(error, errors.DeviceLost):
        finish_saving()
        end_process(EXIT_DEVICE_LOST, "The device is lost.")


def _logged(batch: Batch) -> AbstractContextManager[None]:
    """Let what is logged name the task that leads the batch."""
    return bound_contextvars(task=str(batch.runs[0].claim.task_id), attempt=batch.runs[0].claim.attempt)


def _with_a_connection(work: Work) -> None:
    try:
        work()
    finally:
        connection.close()


def _tell(saved: Future[None]) -> None:
    if error := saved.exception():
        logger.error("What a run made was not saved.", exc_info=error)
