"""`manage.py services`: the embedded PostgreSQL and Redis in the foreground, for use from several terminals."""

from __future__ import annotations

import signal
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from project.embedded import servers as embedded_servers


class Command(BaseCommand):
    """Run the embedded servers until Ctrl-C; other commands attach to them."""

    help = "Runs the embedded PostgreSQL and Redis until Ctrl-C; other commands attach to them."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Start the servers without a configured URL, and wait until Ctrl-C."""
        if not (settings.EMBED_POSTGRES or settings.EMBED_REDIS):
            raise CommandError("DATABASE_URL and REDIS_URL are set: there is nothing to start.")
        for number in (signal.SIGINT, signal.SIGTERM):  # shells start background jobs with SIGINT ignored
            signal.signal(number, signal.default_int_handler)
        try:
            with embedded_servers.run_services(
                settings.VAR_DIR, postgres=settings.EMBED_POSTGRES, valkey=settings.EMBED_REDIS
            ) as services:
                self.stdout.write(f"PostgreSQL  {services.database_url or 'DATABASE_URL'}")
                self.stdout.write(f"Redis       {services.redis_url or 'REDIS_URL'}")
                self.stdout.write("Other terminals may now run manage.py commands. Ctrl-C stops both.")
                while embedded_servers.find_running_services(settings.VAR_DIR):
                    time.sleep(1)
            raise CommandError("A server ended; its log is in VAR_DIR.")
        except KeyboardInterrupt:
            self.stdout.write("Stopped.")
        except embedded_servers.EmbeddedError as error:
            raise CommandError(str(error)) from None
