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
from functools import partial
from typing import NoReturn, TypeVar

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
# Takes the work that brings what was made to its outcome, and what to call now and then should that have to wait.
Save = Callable[[Work, Work], None]


_inference = SerialThread("inference")
_saving = SerialThread("saving")
_saved: Future[None] | None = None
_warmth = Warmth()
_batches: set[Batch] = set()
_draining = threading.Event()
_hurrying = threading.Event()
WORKER: str = settings.WORKER_NAME or f"{socket.gethostname()}:{os.getpid()}"


def at_once(work: Work, beat: Work) -> None:
    """Save here and now."""
    work()


def beside_the_next(work: Work, beat: Work) -> None:
    """Save in the saving thread, once what that was given before is done: no more than two runs' pictures are held."""
    global _saved
    while _saved is not None and wait([_saved], timeout=settings.HEARTBEAT_SECONDS).not_done:
        beat()
    _saved = _saving.submit(partial(_with_a_connection, work))
    _saved.add_done_callback(_tell)


def finish_saving() -> None:
    """Wait until what was handed over is saved."""
    if _saved is not None:
        wait([_saved])


def run_next(save: Save = at_once) -> bool:
    """Claim the best task, and others that go with it, and run them; False when there was none to claim."""
    if _draining.is_set():
        return False
    tasks = _claim(_warmth.look())
    if not tasks:
        return False
    with bound_contextvars(task=str(tasks[0].pk), attempt=tasks[0].attempt):
        for task in tasks:
            logger.info("Task %s: attempt %s starts with %s.", task.pk, task.attempt, task.model_id)
        run(tasks, save)
    return True


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


def run(tasks: Sequence[Task], save: Save = at_once) -> None:
    """Run claimed tasks in one call; see `run_next`."""
    options = settling.persist(lambda: catalog.load_options(tasks[0].model_id))
    batch = Batch([Run(task) for task in tasks], options, _hurrying)
    _batches.add(batch)
    try:
        for each in batch.runs:
            publish_status(each, Status.RUNNING)
        future = _inference.submit(batch.generate)
        future.add_done_callback(lambda _: batch.reports.put(None))
        _supervise(batch, future)
    finally:
        _batches.discard(batch)
    error = errors.RunStopped() if future.cancelled() else future.exception()
    if error is None:
        save(partial(settling.save, batch, future.result()), partial(settling.beat, batch))
    else:
        _end(batch, error)


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


def _with_a_connection(work: Work) -> None:
    try:
        work()
    finally:
        connection.close()


def _tell(saved: Future[None]) -> None:
    if error := saved.exception():
        logger.error("What a run made was not saved.", exc_info=error)
