"""The thread that saves what calls made, beside the calls that come after them."""

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
    """Have it save these, once what it was given before is saved: no more than two calls' pictures are held."""
    global _last_save
    while _last_save is not None and wait([_last_save], timeout=settings.HEARTBEAT_SECONDS).not_done:
        finalize.send_heartbeat(batch)
    _last_save = _saver_thread.submit(lambda: _save_results(batch, results))
    _last_save.add_done_callback(_log_failure)


def has_pending() -> bool:
    """Return whether something that was handed over is not saved yet."""
    return _last_save is not None and not _last_save.done()


def flush_pending() -> None:
    """Wait until what was handed over is saved."""
    if _last_save is not None:
        wait([_last_save])


def _save_results(batch: Batch, results: list[GenerationResult]) -> None:
    try:
        finalize.save_results(batch, results)
    finally:
        connection.close()


def _log_failure(saved: Future[None]) -> None:
    if error := saved.exception():
        logger.error("What a run made was not saved.", exc_info=error)
