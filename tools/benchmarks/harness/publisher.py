"""Simulated busy workers: several steps a second for each running task, evenly spread, and a heartbeat a second."""

from __future__ import annotations

import sys
import time
from uuid import UUID

import django

from tasks_app.contracts import Claim
from tasks_app.engine.types import Progress, percent_done

STEPS_PER_SECOND = 5
TOTAL_STEPS = 1_000_000


def tell(task_id: UUID, step: int) -> None:
    """Publish one step with its time, and send a heartbeat for the row each second."""
    from tasks_app.events import progress
    from tasks_app.queue import lifecycle

    data = {
        "attempt": 1,
        "phase": "denoising",
        "step": step,
        "total_steps": TOTAL_STEPS,
        "percent": percent_done(step, TOTAL_STEPS),
        "eta_seconds": 60.0,
        "sent": time.time(),
    }
    progress.publish_event(task_id, "progress", data)
    if step % STEPS_PER_SECOND == 0:
        report = Progress(phase="denoising", step=step, total_steps=TOTAL_STEPS)
        lifecycle.renew_leases([Claim(task_id=task_id, attempt=1)], report, lease_seconds=3600)


def main(task_ids: list[UUID]) -> None:
    """Publish until the process is terminated."""
    django.setup()
    started, pause = time.monotonic(), 1 / STEPS_PER_SECOND / len(task_ids)
    number = 0
    while True:
        tell(task_ids[number % len(task_ids)], number // len(task_ids) + 1)
        number += 1
        time.sleep(max(0.0, started + number * pause - time.monotonic()))


if __name__ == "__main__":
    main([UUID(text) for text in sys.argv[1:]])
