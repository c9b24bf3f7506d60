"""What turns a Dramatiq process into a worker: a Dramatiq middleware that starts the sweeper and drains at the end.

Dramatiq's broker is made while Django loads its apps, so the app's modules are imported when a worker boots.
"""

from __future__ import annotations

import threading

import dramatiq
from django.conf import settings


class WorkerMiddleware(dramatiq.Middleware):
    """Sweep while the worker lives; when it is told to end, claim no more."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Start the sweeper."""
        from tasks_app import sweeper

        threading.Thread(target=sweeper.run_forever, args=[self._stop], name="sweeper", daemon=True).start()

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Let the running task finish within the grace, or give it back."""
        from tasks_app import execution

        self._stop.set()
        execution.drain(settings.DRAIN_SECONDS)
