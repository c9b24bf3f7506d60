"""What turns a Dramatiq process into a worker: a Dramatiq middleware that starts the sweeper and drains at the end.

Dramatiq's broker is made while Django loads its apps, so the app's modules are imported when a worker boots.
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

from project import logs

logger = logging.getLogger(__name__)

PARENT_CHECK_SECONDS = 1.0
# How long the last beat may take, as while the database is away.
LAST_HEARTBEAT_SECONDS = 5.0


class WorkerMiddleware(dramatiq.Middleware):
    """Sweep and be seen while the worker lives; when it is told to end, claim no more at that very moment."""

    def __init__(self) -> None:
        self._exiting = threading.Event()

    def after_process_boot(self, broker: dramatiq.Broker) -> None:
        """Let every line of the log say which worker writes it."""
        from tasks_app.worker import supervisor

        logs.add_process_fields(worker=supervisor.WORKER_NAME)

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Start what a worker does beside its tasks; called in the process's main thread."""
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
        """Say that the worker has gone, once what it made is saved."""
        from tasks_app.worker import heartbeat, saver

        saver.flush_pending()

        self._exiting.set()
        # A beat after this would say that the worker is there.
        self._beats.join(LAST_HEARTBEAT_SECONDS)
        heartbeat.deregister_worker()


def _start_thread(work: Callable[[], None], ended: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=_drain_on_crash, args=[work, ended], daemon=True)
    thread.start()
    return thread


def _drain_on_crash(work: Callable[[], None], ended: threading.Event) -> None:
    """Do what the worker can't be without: an error that ends it drains the worker, and its supervisor starts anew."""
    try:
        work()
    except BaseException:
        if not ended.is_set():
            logger.critical("A thread of the worker has died; the worker ends.")
            os.kill(os.getpid(), signal.SIGTERM)
        raise


def _drain_on_sigterm(worker: dramatiq.Worker, ended: threading.Event) -> None:
    from tasks_app.worker import shutdown

    dramatiqs_own = signal.getsignal(signal.SIGTERM)

    def drain(number: int, frame: FrameType | None) -> None:
        first = not ended.is_set()
        ended.set()
        # Else the ticket that this worker gives back would be fetched by itself.
        for consumer in worker.consumers.values():
            consumer.pause()
        shutdown.request_shutdown(settings.SHUTDOWN_GRACE_SECONDS)
        # A second signal takes the grace away; Dramatiq's own answer would be to exit with a failure.
        if first and callable(dramatiqs_own):
            dramatiqs_own(number, frame)

    signal.signal(signal.SIGTERM, drain)


def _exit_with_parent(parent: int, ended: threading.Event) -> None:
    """Drain without grace when Dramatiq's master is gone: nobody would restart or stop this process."""
    from tasks_app.worker import shutdown

    while os.getppid() == parent:
        if ended.wait(PARENT_CHECK_SECONDS):
            return
    shutdown.request_shutdown(0)
    os.kill(os.getpid(), signal.SIGTERM)
