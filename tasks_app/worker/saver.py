"""Thread that saves the results of engine calls while later calls run."""

from __future__ import annotations

import logging
from concurrent.futures import Future, wait

from django.conf import settings
from django.db import connection

from tasks_app.engine.types import GenerationResult
from tasks_app.worker import finalize
from tasks_app.worker.batch import Batch
from tasks_app.worker.threads import SingleThreadExecutor

logger = logging.getLogger(__name__)

_saver_thread = SingleThreadExecutor("saving")
_last_save: Future[None] | None = None


def submit_results(batch: Batch, results: list[GenerationResult]) -> None:
    """Submit results for saving, once the previous ones are saved.

    This keeps the images of no more than two calls in memory.
    """
    global _last_save
    while _last_save is not None and wait([_last_save], timeout=settings.HEARTBEAT_SECONDS).not_done:
        finalize.send_heartbeat(batch)
    _last_save = _saver_thread.submit(lambda: _save_results(batch, results))
    _last_save.add_done_callback(_log_failure)


def has_pending() -> bool:
    """Return whether submitted results are not saved yet."""
    return _last_save is not None and not _last_save.done()


def flush_pending() -> None:
    """Wait until all submitted results are saved."""
    if _last_save is not None:
        wait([_last_save])


def _save_results(batch: Batch, results: list[GenerationResult]) -> None:
    try:
        finalize.save_results(batch, results)
    finally:
        connection.close()


def _log_failure(saved: Future[None]) -> None:
    if error := saved.exception():
        logger.error("The results of a run were not saved.", exc_info=error)
