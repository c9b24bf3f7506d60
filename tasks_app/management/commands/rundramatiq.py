"""`manage.py rundramatiq`: django-dramatiq's own, which says in words what is missing before it starts."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django_dramatiq.management.commands.rundramatiq import Command as DjangoDramatiqCommand

from project import embedded
from tasks_app import actors


class Command(DjangoDramatiqCommand):  # type: ignore[misc]
    """Run a worker: one for each GPU."""

    help = "Runs a worker."

    def add_arguments(self, parser: CommandParser) -> None:
        """Listen to the one queue that tickets come through: each further one is asked ten times a second, too."""
        super().add_arguments(parser)
        parser.set_defaults(queues=[actors.generate.queue_name])

    def handle(self, *args: Any, **options: Any) -> None:
        """Start it, unless it would try to reach servers that nobody runs."""
        if (settings.EMBED_POSTGRES or settings.EMBED_REDIS) and not embedded.find_running_services(settings.VAR_DIR):
            raise CommandError(f"Neither PostgreSQL nor Redis runs. {embedded.START_HINT}")
        super().handle(*args, **options)
