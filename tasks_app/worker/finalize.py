"""What becomes of the runs of a batch: their pictures stored and their rows ended, each on its own."""

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
from tasks_app.fields import printable
from tasks_app.images import comparison, storage
from tasks_app.models import Status
from tasks_app.queue import lifecycle
from tasks_app.worker.batch import Batch, Run, Stop, publish_end, publish_progress, publish_successes, recipe

logger = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError)
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")

Answer = TypeVar("Answer")


def beat(batch: Batch) -> None:
    """Record how far the runs are, prolong their leases, and let those end that somebody wants to end."""
    going = batch.going
    batch.next_beat = time.monotonic() + settings.HEARTBEAT_SECONDS
    try:
        beats = lifecycle.heartbeat([run.claim for run in going], batch.latest, lease_seconds=settings.LEASE_SECONDS)
    except DATABASE_AWAY as error:
        # The lease outlasts a short outage; a longer one is settled by the fence.
        logger.warning("No heartbeat: %s", type(error).__name__)
        connection.close()
        batch.database_answers = False
        return
    batch.database_answers = True
    for run in going:
        beat = beats.get(run.claim.task_id)
        if beat is None:
            run.stop(Stop.FENCED)
        elif beat.cancel_requested:
            run.stop(Stop.CANCELED)
        elif beat.overdue:
            run.stop(Stop.TIMED_OUT)


def save(batch: Batch, results: list[GenerationResult]) -> None:
    """Store the pictures of each run that goes on, and end those together: none waits for another's statement."""
    total = batch.latest.total_steps
    batch.latest = Progress(phase="saving", step=total, total_steps=total)
    publish_progress(batch)
    _beat_in_time(batch)
    stored = {
        run: success
        for run, result in zip(batch.runs, results, strict=True)
        if not run.settled and (success := _stored(batch, run, result))
    }
    ended = persist(lambda: lifecycle.succeed(list(stored.values()))) if stored else {}
    for run, success in stored.items():
        _conclude(run, partial(_succeeded, run, success, ended.get(run.claim.task_id)))
    publish_successes([run for run in stored if run.finished_at])


def end_stopped(batch: Batch) -> None:
    """End those of the runs that were asked to."""
    for run in batch.runs:
        if run.stop_reason is not None and not run.settled:
            _conclude(run, partial(_stopped, run))


def fail(run: Run, error: BaseException) -> None:
    """End a run that failed by itself."""
    _conclude(run, partial(_failed, run, error))


def give_back(batch: Batch, error: BaseException) -> None:
    """Give what failed in company back to the queue, since nobody knows which of the tasks it was.

    After too little memory fewer go together, after anything else each goes alone.
    """
    logger.warning("%s tasks failed together: %s", len(batch.runs), type(error).__name__, exc_info=_emptied(error))
    alone = not isinstance(error, errors.OutOfMemory)
    for run in batch.going:
        _conclude(run, partial(_released, run, alone=alone))
    end_stopped(batch)


def persist(write: Callable[[], Answer]) -> Answer:
    """Repeat a write until the database has answered it."""
    while True:
        try:
            return write()
        except DATABASE_AWAY as error:
            logger.warning("The database is away (%s); the outcome is held.", type(error).__name__)
            connection.close()
            # Within the time that sweepers leave the living to renew their leases after an outage.
            time.sleep(settings.HEARTBEAT_SECONDS)


def _conclude(run: Run, end: Callable[[], Status | None]) -> None:
    """End a run, once, and tell where its task went; of those that succeeded it is told together."""
    with bound_contextvars(task=str(run.claim.task_id), attempt=run.claim.attempt):
        outcome = end()
        run.settled = True
        logger.info("Task %s: attempt %s %s.", run.claim.task_id, run.claim.attempt, outcome or "lost its claim")
        if outcome and outcome != Status.SUCCEEDED:
            publish_end(run, outcome)


def _stored(batch: Batch, run: Run, result: GenerationResult) -> Success | None:
    """Store a run's pictures; None when it is to end otherwise, or can't be stored, and has ended with that."""
    if run.stop_reason:
        _conclude(run, partial(_stopped, run))
        return None
    started = time.monotonic()
    made_of = recipe(run.task, result)
    try:
        images = storage.store(run.claim, result.images, made_of, stored_one=partial(_beat_in_time, batch))
    except errors.StorageFailed as error:
        fail(run, error)
        return None
    timings = {**result.timings, "saving": round(time.monotonic() - started, 3)}
    return Success(
        claim=run.claim,
        images=tuple(images),
        revision=made_of.revision,
        timings=timings,
        size={"width": images[0].width, "height": images[0].height},
        provenance=made_of.provenance,
        reproduction=persist(lambda: comparison.compare(run.task, images, made_of)),
    )


def _succeeded(run: Run, success: Success, finished_at: datetime | None) -> Status | None:
    run.finished_at = finished_at
    if finished_at:
        return Status.SUCCEEDED
    storage.discard(success.images)
    return Status.CANCELED if persist(lambda: lifecycle.confirm_cancel(run.claim)) else None


def _beat_in_time(batch: Batch) -> None:
    if time.monotonic() >= batch.next_beat:
        beat(batch)


def _stopped(run: Run) -> Status | None:
    match run.stop_reason:
        case Stop.CANCELED:
            return Status.CANCELED if persist(lambda: lifecycle.confirm_cancel(run.claim)) else None
        case Stop.TIMED_OUT:
            return _failed(run, errors.TimedOut(str(errors.TimedOut.__doc__)))
        case Stop.DRAINED:
            return _released(run)
        case _:
            return None


def _released(run: Run, *, alone: bool = False) -> Status | None:
    return persist(lambda: lifecycle.release(run.claim, alone=alone))


def _failed(run: Run, error: BaseException) -> Status | None:
    expected = isinstance(error, errors.TaskError)
    code = error.code if isinstance(error, errors.TaskError) else errors.Internal.code
    message = str(error) if expected else f"The run failed with an unexpected {type(error).__name__}."
    message, trace = _storable(message), _storable("".join(traceback.format_exception(error)))
    level, shown = (logging.WARNING, None) if expected else (logging.ERROR, _emptied(error))
    logger.log(level, "Task %s: %s: %s", run.claim.task_id, code, message, exc_info=shown)
    moved = persist(lambda: lifecycle.fail(run.claim, code=code, message=message, traceback=trace))
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
