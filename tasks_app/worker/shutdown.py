"""How a worker process ends: by and by, with what it is at work on finished or given back, or at once."""

from __future__ import annotations

import logging
import os
import threading
from typing import NoReturn

logger = logging.getLogger(__name__)

# What a worker ends with when only a new process can help; its supervisor starts one.
EXIT_DEVICE_LOST = 70
EXIT_STALLED = 75

# Set once no more is to be claimed, and once there is no more time for what runs.
requested = threading.Event()
deadline_passed = threading.Event()


def request_shutdown(grace_seconds: float) -> None:
    """Claim no more; a task that runs longer than the grace is given back. Asked a second time: no more grace."""
    if requested.is_set() or not grace_seconds:
        deadline_passed.set()
    else:
        timer = threading.Timer(grace_seconds, deadline_passed.set)
        timer.daemon = True
        timer.start()
    requested.set()


def exit_now(status: int, reason: str) -> NoReturn:
    """End at once: the inference thread can't be stopped, and a claim that is still held ends with its lease."""
    logger.critical("%s The worker ends with %s.", reason, status)
    os._exit(status)
