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
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection
from structlog.contextvars import bound_contextvars

from tasks_app import errors
from tasks_app.catalog import resolve
from tasks_app.contracts import Held
from tasks_app.engine.types import GenerationResult, Progress
from tasks_app.models import Task
from tasks_app.queue import claim_order, lifecycle
from tasks_app.worker import finalize, saver, shutdown
from tasks_app.worker.batch import Batch, Run, Stop, publish_previews, publish_progress, publish_starts
from tasks_app.worker.threads import SerialThread
from tasks_app.worker.warm_models import Warmth

logger = logging.getLogger(__name__)

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
_warmth = Warmth()
_batches: set[Batch] = set()
WORKER: str = settings.WORKER_NAME or f"{socket.gethostname()}:{os.getpid()}"


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
        call = _run_then_begin_next(call, begun)


def beside_tasks(call: Callable[[], Answer]) -> Future[Answer]:
    """Run a call in the inference thread, between two tasks."""
    return _inference.submit(call)


def busy() -> bool:
    """Return whether this process runs a task."""
    return bool(_batches)


def run(tasks: Sequence[Task]) -> None:
    """Run claimed tasks in one call, and save what they made."""
    _finish(_begin(tasks))


def _run_then_begin_next(call: _Call, begun: Work) -> _Call | None:
    # A function of its own: what a call made is let go of before the next one ends.
    with ExitStack() as at_last:
        at_last.callback(call.over.set)
        results = _see_through(call, begun, ahead=True)
        if results is not None:
            at_last.callback(_hand_over, call.batch, results)
        if call.next is not None or saver.is_behind() or settings.BATCH_WAIT_MS:
            # It may have to wait, and with another call begun there would be nobody to look after that; nor is what
            # is made to wait for company.
            at_last.pop_all().close()
        # First, or the saving thread would take its share of the time that the inference thread has to wait.
        return call.next or _begin_next(after=call)


def _begin_next(*, after: _Call | None = None) -> _Call | None:
    if shutdown.asked.is_set():
        return None
    tasks = _claim(_warmth.look(), beside=None if after is None else after.future)
    return _begin(tasks, after=after) if tasks else None


def _begin_ahead(call: _Call) -> None:
    """Claim what is to be made after this call, so that the inference thread needn't wait for the database."""
    # Nothing that would have to wait for another call to be saved; nor beside what may kill the worker.
    if saver.is_behind() or call.batch.suspect:
        return
    try:
        call.next = _begin_next(after=call)
    except finalize.DATABASE_AWAY as error:
        logger.warning("Nothing is claimed ahead: %s", type(error).__name__)
        connection.close()


def _begin(tasks: Sequence[Task], *, after: _Call | None = None) -> _Call:
    options = finalize.persist(lambda: resolve.load_options(tasks[0].model_id))
    batch = Batch([Run(task) for task in tasks], options, shutdown.hurried)
    _batches.add(batch)
    # Neither may cost the other its pictures.
    apart = batch.suspect or (after is not None and after.batch.suspect)
    with _logged(batch):
        future = _inference.submit(partial(_generate, batch, None if after is None else after.over, apart=apart))
    future.add_done_callback(lambda _: batch.reports.put(None))
    if after is not None and not apart:
        after.future.add_done_callback(partial(_over_unless_it_failed, after.over))
    return _Call(batch=batch, future=future)


def _over_unless_it_failed(over: threading.Event, made: Future[list[GenerationResult]]) -> None:
    # After an error the next one must wait: what that holds has to be freed, and the device may be lost.
    if not made.cancelled() and made.exception() is None:
        over.set()


def _generate(batch: Batch, over: threading.Event | None, *, apart: bool) -> list[GenerationResult]:
    """Make a batch once the call before it is over; `apart` from it, once nothing is unsaved."""
    if over is not None:
        over.wait()
    if apart:
        saver.finish()
    return batch.generate()


def _finish(call: _Call) -> None:
    results = _see_through(call, nothing)
    if results is not None:
        with _logged(call.batch):
            finalize.save(call.batch, results)


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


def _go_with(call: _Call, begun: Work, *, ahead: bool) -> None:
    for each in call.batch.runs:
        logger.info("Task %s: attempt %s starts with %s.", each.task.pk, each.task.attempt, each.task.model_id)
    publish_starts(call.batch.runs)
    begun()
    _supervise(call, ahead=ahead)


def _hand_over(batch: Batch, results: list[GenerationResult]) -> None:
    with _logged(batch):
        saver.hand_over(batch, results)


def _claim(held: Held, *, beside: Future[Any] | None) -> list[Task]:
    tasks = lifecycle.claim(worker=WORKER, lease_seconds=settings.LEASE_SECONDS, held=held)
    return [*tasks, *_company(tasks, held, beside)] if settings.BATCH_WAIT_MS and tasks else tasks


def _company(tasks: Sequence[Task], held: Held, beside: Future[Any] | None) -> list[Task]:
    """Wait for others and claim those that came; none once the call is full."""
    try:
        if claim_order.is_full(tasks, held):
            return []
        _wait_for_company(beside)
        return lifecycle.join(tasks, worker=WORKER, lease_seconds=settings.LEASE_SECONDS, held=held)
    except finalize.DATABASE_AWAY as error:
        # The tasks are claimed, and go on without.
        logger.warning("No company is waited for: %s", type(error).__name__)
        connection.close()
        return []


def _wait_for_company(beside: Future[Any] | None) -> None:
    """Let others come; no longer than the call takes that is at work meanwhile."""
    seconds = settings.BATCH_WAIT_MS / 1000
    if beside is None or beside.done():
        shutdown.asked.wait(seconds)
    else:
        wait([beside], timeout=seconds)


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
        is_last_phase = report.phase == "decoding" != batch.latest.phase
        _follow(call, report)
        if time.monotonic() >= batch.next_beat:
            _beat(call)
        # A database that is away would be waited for once more.
        if ahead and is_last_phase and batch.database_answers:
            _begin_ahead(call)


def _stop_in_time(call: _Call) -> None:
    """Take back what has not begun and is not to, as behind a preload; what has begun goes on until it reports."""
    if call.batch.is_to_stop():
        call.future.cancel()
    if call.next is not None and shutdown.asked.is_set() and call.next.future.cancel():
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
        shutdown.end_process(
            shutdown.EXIT_HUNG, f"Task {batch.runs[0].claim.task_id}: no step for {settings.HANG_SECONDS} s."
        )


def _beat(call: _Call) -> None:
    finalize.beat(call.batch)
    if call.batch.going:
        # The others go on without them; the last one ends when its run has.
        finalize.end_stopped(call.batch)
    if call.next is not None:
        finalize.beat(call.next.batch)


def _end(call: _Call, error: BaseException) -> None:
    batch = call.batch
    if isinstance(error, errors.RunStopped):
        finalize.end_stopped(batch)
    elif len(batch.runs) == 1:
        finalize.fail(batch.runs[0], error)
    else:
        if isinstance(error, errors.OutOfMemory):
            first = batch.runs[0].task
            _warmth.learn(first.model_id, len(batch.runs) * first.params["num_images"])
        finalize.give_back(batch, error)
    if isinstance(error, errors.DeviceLost):
        saver.finish()
        _give_back_next(call)
        shutdown.end_process(shutdown.EXIT_DEVICE_LOST, "The device is lost.")


def _give_back_next(call: _Call) -> None:
    """Give back what was claimed ahead, which this process won't make."""
    if call.next is not None:
        call.next.batch.stop(Stop.DRAINED)
        finalize.end_stopped(call.next.batch)
        _batches.discard(call.next.batch)
        call.next = None


def _logged(batch: Batch) -> AbstractContextManager[None]:
    """Let what is logged name the task that leads the batch."""
    return bound_contextvars(task=str(batch.runs[0].claim.task_id), attempt=batch.runs[0].claim.attempt)
