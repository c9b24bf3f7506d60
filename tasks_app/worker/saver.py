"""The thread that saves what calls made, beside the calls that come after them."""

from __future__ import annotations

import logging
from concurrent.futures import Future, wait

from django.conf import settings
from django.db import connection

from tasks_app.engine.types import GenerationResult
from tasks_app.worker import finalize
from tasks_app.worker.batch import Batch
from tasks_app.worker.threads import SerialThread

logger = logging.getLogger(__name__)

_thread = SerialThread("saving")
_last: Future[None] | None = None


def hand_over(batch: Batch, results: list[GenerationResult]) -> None:
    """Have it save these, once what it was given before is saved: no more than two calls' pictures are held."""
    global _last
    while _last is not None and wait([_last], timeout=settings.HEARTBEAT_SECONDS).not_done:
        finalize.beat(batch)
    _last = _thread.submit(lambda: _save(batch, results))
    _last.add_done_callback(_tell)


def is_behind() -> bool:
    """Return whether something that was handed over is not saved yet."""
    return _last is not None and not _last.done()


def finish() -> None:
    """Wait until what was handed over is saved."""
    if _last is not None:
        wait([_last])


def _save(batch: Batch, results: list[GenerationResult]) -> None:
    try:
        finalize.save(batch, results)
    finally:
        connection.close()


def _tell(saved: Future[None]) -> None:
    if error := saved.exception():
        logger.error("What a run made was not saved.", exc_info=error)
