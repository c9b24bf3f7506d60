"""Dramatiq middleware that makes a process a worker: it starts the background threads and drains at shutdown.

Dramatiq's broker is created while Django loads its apps, so the app's modules are imported when a worker boots.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

import dramatiq
from django.conf import settings

from project import log_config

logger = logging.getLogger(__name__)

PARENT_CHECK_SECONDS = 1.0
# Longest wait for the last heartbeat, for instance while the database is unavailable.
LAST_HEARTBEAT_SECONDS = 5.0


class WorkerMiddleware(dramatiq.Middleware):
    """Middleware that runs the background threads of a worker and stops its claims as soon as SIGTERM arrives."""

    def __init__(self) -> None:
        self._exiting = threading.Event()

    def after_process_boot(self, broker: dramatiq.Broker) -> None:
        """Add the worker's name to every log line."""
        from tasks_app.worker import supervisor

        log_config.add_process_fields(worker=supervisor.WORKER_NAME)

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Handle SIGTERM and start the background threads; called in the process's main thread."""
        from tasks_app.webhooks import sender
        from tasks_app.worker import heartbeat, retention, sweeper

        ended = threading.Event()
        _drain_on_sigterm(worker, ended)
        seen = heartbeat.WorkerHeartbeat(list(worker.consumers.values()), ended)
        _start_thread(partial(sweeper.run_forever, ended), ended)
        _start_thread(partial(sender.run_forever, ended), ended)
        _start_thread(partial(retention.run_forever, ended), ended)
        _start_thread(partial(_exit_with_parent, os.getppid(), ended), ended)
        self._beats = _start_thread(partial(seen.run_forever, self._exiting), ended)

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Save the remaining results, then deregister the worker."""
        from tasks_app.worker import heartbeat, saver

        saver.flush_pending()

        self._exiting.set()
        # A later heartbeat would show the worker as alive again.
        self._beats.join(LAST_HEARTBEAT_SECONDS)
        heartbeat.deregister_worker()


def _start_thread(work: Callable[[], None], ended: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=_drain_on_crash, args=[work, ended], daemon=True)
    thread.start()
    return thread


def _drain_on_crash(work: Callable[[], None], ended: threading.Event) -> None:
    """Run a thread that the worker depends on.

    If it fails, drain the worker; the process supervisor starts a new one.
    """
    try:
        work()
    except BaseException:
        if not ended.is_set():
            logger.critical("A worker thread crashed; the worker is shutting down.")
            os.kill(os.getpid(), signal.SIGTERM)
        raise


def _drain_on_sigterm(worker: dramatiq.Worker, ended: threading.Event) -> None:
    from tasks_app.worker import shutdown

    dramatiqs_own = signal.getsignal(signal.SIGTERM)

    def drain(number: int, frame: FrameType | None) -> None:
        first = not ended.is_set()
        ended.set()
        # Otherwise this worker would fetch the wake-up of a task that it releases itself.
        for consumer in worker.consumers.values():
            consumer.pause()
        shutdown.request_shutdown(settings.SHUTDOWN_GRACE_SECONDS)
        # A second signal ends the grace period; Dramatiq itself would exit with a failure.
        if first and callable(dramatiqs_own):
            dramatiqs_own(number, frame)

    signal.signal(signal.SIGTERM, drain)


def _exit_with_parent(parent: int, ended: threading.Event) -> None:
    """Drain without grace once Dramatiq's master is gone: no other process would restart or stop this one."""
    from tasks_app.worker import shutdown

    while os.getppid() == parent:
        if ended.wait(PARENT_CHECK_SECONDS):
            return
    shutdown.request_shutdown(0)
    os.kill(os.getpid(), signal.SIGTERM)
