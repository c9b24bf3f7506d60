"""`manage.py rundramatiq`: django-dramatiq's command, with a clear error if the embedded servers are not running."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django_dramatiq.management.commands.rundramatiq import Command as DjangoDramatiqCommand

from project.embedded import servers as embedded_servers
from tasks_app import actors


class Command(DjangoDramatiqCommand):  # type: ignore[misc]
    """Run a worker; start one for each GPU."""

    help = "Runs a worker."

    def add_arguments(self, parser: CommandParser) -> None:
        """Consume only the queue of wake-ups by default: each further queue would be polled ten times a second."""
        super().add_arguments(parser)
        parser.set_defaults(queues=[actors.generate.queue_name])

    def handle(self, *args: Any, **options: Any) -> None:
        """Start the worker, unless it needs the embedded servers and they are not running."""
        if (settings.EMBED_POSTGRES or settings.EMBED_REDIS) and not embedded_servers.find_running_services(
            settings.VAR_DIR
        ):
            raise CommandError(f"Neither PostgreSQL nor Redis runs. {embedded_servers.START_HINT}")
        super().handle(*args, **options)
