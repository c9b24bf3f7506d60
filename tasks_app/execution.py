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
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn, TypeVar

from django.conf import settings
from django.db import connection
from structlog.contextvars import bound_contextvars

from tasks_app import catalog, errors, lifecycle, settling
from tasks_app.contracts import GenerationResult, Held, Progress
from tasks_app.models import Status, Task
from tasks_app.run import Batch, Run, Stop, publish_previews, publish_progress, publish_status
from tasks_app.threads import SerialThread
from tasks_app.warmth import Warmth

logger = logging.getLogger(__name__)

# What a worker ends with when only a new process can help; its supervisor starts one.
EXIT_DEVICE_LOST = 70
EXIT_HUNG = 75


Answer = TypeVar("Answer")
Work = Callable[[], None]


@dataclass(kw_only=True)
class _Call:
    """A batch that the inference thread has been given, and the one that it is to make next, once this is `over`."""

    batch: Batch
    future: Future[list[GenerationResult]]
    over: threading.Event = field(default_factory=threading.Event)
    next: _Call | None = None


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
    call = _begin_next()
    if call is not None:
        _finish(call)
    return call is not None


def run_all(begun: Work = nothing) -> None:
    """Run what is claimable, one call after the other; what each made is saved beside the next.

    `begun` is called while the handler is at work.
    """
    call = _begin_next()
    while call is not None:
        results = _see_through(call, begun, ahead=True)
        hand_over = nothing if results is None else partial(_save_beside, call.batch, results)
        if call.next is not None or _is_saving():
            # It may have to wait, and with another call begun there would be nobody to look after that.
            hand_over()
            hand_over = nothing
        try:
            # First, or the saving thread would take its share of the time that the inference thread has to wait.
            call = call.next or _begin_next()
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


def _begin_next(*, after: _Call | None = None) -> _Call | None:
    if _draining.is_set():
        return None
    tasks = _claim(_warmth.look(), ahead=after is not None)
    return _begin(tasks, after=after) if tasks else None


def _begin_ahead(call: _Call) -> None:
    """Claim what is to be made after this call, so that the inference thread needn't wait for the database."""
    # Nothing while it would have to wait for company, or would make one more run's pictures that are to be held.
    if settings.BATCH_WAIT_MS or _is_saving():
        return
    try:
        call.next = _begin_next(after=call)
    except settling.DATABASE_AWAY as error:
        logger.warning("Nothing is claimed ahead: %s", type(error).__name__)
        connection.close()


def _begin(tasks: Sequence[Task], *, after: _Call | None = None) -> _Call:
    options = settling.persist(lambda: catalog.load_options(tasks[0].model_id))
    batch = Batch([Run(task) for task in tasks], options, _hurrying, begun=after is None)
    _batches.add(batch)
    with _logged(batch):
        future = _inference.submit(batch.generate if after is None else partial(_generate_next, after.over, batch))
    future.add_done_callback(lambda _: batch.reports.put(None))
    if after is not None:
        # After an error it must wait: what that holds has to be freed, and the device may be lost.
        after.future.add_done_callback(lambda made: None if made.exception() else after.over.set())
    return _Call(batch=batch, future=future)


def _generate_next(over: threading.Event, batch: Batch) -> list[GenerationResult]:
    over.wait()
    return batch.generate()


def _finish(call: _Call) -> None:
    results = _see_through(call, nothing)
    if results is not None:
        with _logged(call.batch):
            settling.save(call.batch, results)


def _see_through(call: _Call, begun: Work, *, ahead: bool = False) -> list[GenerationResult] | None:
    """Supervise a call until it returns; None when it made nothing, and its tasks have ended with that."""
    with _logged(call.batch):
        try:
            _go_with(call, begun, ahead=ahead)
            error = errors.RunStopped() if call.future.cancelled() else call.future.exception()
            if error is None:
                return call.future.result()
            _end(call, error)
            return None
        finally:
            _batches.discard(call.batch)
            call.over.set()


def _go_with(call: _Call, begun: Work, *, ahead: bool) -> None:
    call.batch.begun = True
    for each in call.batch.runs:
        logger.info("Task %s: attempt %s starts with %s.", each.task.pk, each.task.attempt, each.task.model_id)
        publish_status(each, Status.RUNNING)
    begun()
    _supervise(call, ahead=ahead)


def _save_beside(batch: Batch, results: list[GenerationResult]) -> None:
    """Save in the saving thread, once what that was given before is done: no more than two runs' pictures are held."""
    global _saved
    while _saved is not None and wait([_saved], timeout=settings.HEARTBEAT_SECONDS).not_done:
        settling.beat(batch)
    with _logged(batch):
        _saved = _saving.submit(partial(_with_a_connection, partial(settling.save, batch, results)))
    _saved.add_done_callback(_tell)


def _is_saving() -> bool:
    return _saved is not None and not _saved.done()


def _claim(held: Held, *, ahead: bool) -> list[Task]:
    tasks = lifecycle.claim(worker=WORKER, lease_seconds=settings.LEASE_SECONDS, held=held, ahead=ahead)
    if tasks and tasks[0].batch_key and settings.BATCH_WAIT_MS:
        _draining.wait(settings.BATCH_WAIT_MS / 1000)
        tasks += lifecycle.join(tasks, worker=WORKER, lease_seconds=settings.LEASE_SECONDS, held=held)
    return tasks


def _supervise(call: _Call, *, ahead: bool) -> None:
    batch = call.batch
    while True:
        _stop_in_time(call)
        try:
            report = batch.reports.get(timeout=max(0.0, batch.next_beat - time.monotonic()))
        except queue.Empty:
            report = batch.latest
        if report is None:
            return
        new_phase = report.phase != batch.latest.phase
        _follow(call, report)
        if new_phase or time.monotonic() >= batch.next_beat:
            _beat(call)
        if ahead and new_phase and report.phase == "decoding":
            _begin_ahead(call)


def _stop_in_time(call: _Call) -> None:
    """Take back what has not begun and is not to, as behind a preload; what has begun goes on until it reports."""
    if call.batch.is_to_stop():
        call.future.cancel()
    if call.next is not None and _draining.is_set() and call.next.future.cancel():
        _give_back_next(call)


def _follow(call: _Call, report: Progress) -> None:
    """Tell watchers of a report; end the process when there was nothing new in it for too long."""
    batch = call.batch
    if report != batch.latest:
        batch.latest, batch.moved_at = report, time.monotonic()
        publish_progress(batch)
        # Of previews that wait, only the last is worth drawing.
        if report.preview is not None and batch.reports.empty():
            publish_previews(batch, report.preview)
    elif batch.hangs():
        _give_back_next(call)
        end_process(EXIT_HUNG, f"Task {batch.runs[0].claim.task_id}: no step for {settings.HANG_SECONDS} s.")


def _beat(call: _Call) -> None:
    settling.beat(call.batch)
    if call.batch.going:
        # The others go on without them; the last one ends when its run has.
        settling.end_stopped(call.batch)
    if call.next is not None:
        settling.beat(call.next.batch)


def _end(call: _Call, error: BaseException) -> None:
    batch = call.batch
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
        _give_back_next(call)
        end_process(EXIT_DEVICE_LOST, "The device is lost.")


def _give_back_next(call: _Call) -> None:
    """Give back what was claimed ahead, which this process won't make."""
    if call.next is not None:
        call.next.batch.stop(Stop.DRAINED)
        settling.end_stopped(call.next.batch)
        _batches.discard(call.next.batch)
        call.next = None


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
