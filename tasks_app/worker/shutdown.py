"""Shutdown of the worker process: graceful, with its tasks finished or released, or immediate."""

from __future__ import annotations

import logging
import os
import threading
from typing import NoReturn

logger = logging.getLogger(__name__)

# Exit statuses for faults that only a new process can fix; the process supervisor starts one.
EXIT_DEVICE_LOST = 70
EXIT_STALLED = 75

# Set once no more tasks may be claimed, and once running tasks have no time left.
requested = threading.Event()
deadline_passed = threading.Event()


def request_shutdown(grace_seconds: float) -> None:
    """Stop claiming tasks, and release those that run longer than the grace period.

    A second call ends the grace period.
    """
    if requested.is_set() or not grace_seconds:
        deadline_passed.set()
    else:
        timer = threading.Timer(grace_seconds, deadline_passed.set)
        timer.daemon = True
        timer.start()
    requested.set()


def exit_now(status: int, reason: str) -> NoReturn:
    """Exit at once, since the inference thread can't be stopped; open claims end when their leases expire."""
    logger.critical("%s The worker exits with status %s.", reason, status)
    os._exit(status)
