"""`manage.py sweep`: a single sweep, as every worker runs it periodically."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from tasks_app.worker import retention, sweeper


class Command(BaseCommand):
    """Sweep expired leases and passed deadlines, resend a lost wake-up, and purge by the retention rules."""

    help = "Sweeps once: expired leases, passed deadlines, lost tickets, retention. Every worker does it by itself."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Sweep once, and print the tasks that changed status and those that were purged."""
        moved = sweeper.sweep_tasks()
        sweeper.resend_lost_wake_ups(after_seconds=0)
        for task_id, status in moved:
            self.stdout.write(f"{task_id} {status}")
        self.stdout.write(f"{len(moved)} moved.")
        purged = 0
        for task_id, status in retention.purge_tasks():
            self.stdout.write(f"{task_id} {status}, purged")
            purged += 1
        self.stdout.write(f"{purged} purged.")
