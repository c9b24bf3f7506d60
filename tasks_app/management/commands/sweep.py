"""`manage.py sweep`: one sweep, as every worker does it all the time."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from tasks_app import sweeper


class Command(BaseCommand):
    """Move on what silent workers and deadlines left behind, and send a ticket that got lost."""

    help = "Sweeps once: expired leases, passed deadlines, lost tickets. Every worker does it by itself."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Sweep once and say what moved."""
        moved = sweeper.sweep()
        sweeper.wake_for_lost_tickets(after_seconds=0)
        for task_id, status in moved:
            self.stdout.write(f"{task_id} {status}")
        self.stdout.write(f"{len(moved)} moved.")
