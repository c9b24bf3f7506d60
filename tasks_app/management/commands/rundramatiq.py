"""`manage.py rundramatiq`: django-dramatiq's own, which says in words what is missing before it starts.

django-dramatiq executes `dramatiq` in its own place, whose child then starts Django once more. Here Dramatiq is called
instead, and its child is forked with all that is imported.
"""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from django_dramatiq.management.commands.rundramatiq import Command as DjangoDramatiqCommand
from dramatiq import cli

from project import embedded
from tasks_app import actors, progress

# What only a new program can do: other ways to start the child, and to start it again when files change.
_OTHERWISE = ("use_spawn", "use_gevent", "watch_dir")
_VALUES = ("processes", "threads", "worker_shutdown_timeout", "pid_file", "log_file")


class Command(DjangoDramatiqCommand):  # type: ignore[misc]
    """Run a worker: one for each GPU."""

    help = "Runs a worker."

    def add_arguments(self, parser: CommandParser) -> None:
        """Listen to the one queue that tickets come through: each further one is asked ten times a second, too."""
        super().add_arguments(parser)
        parser.set_defaults(queues=[actors.generate.queue_name])

    def handle(self, *args: Any, **options: Any) -> None:
        """Start it, unless it would try to reach servers that nobody runs."""
        if (settings.EMBED_POSTGRES or settings.EMBED_REDIS) and not embedded.running(settings.VAR_DIR):
            raise CommandError(f"Neither PostgreSQL nor Redis runs. {embedded.WHAT_TO_START}")
        if any(options[name] for name in _OTHERWISE):
            super().handle(*args, **options)
        # Where it reads what to do, and what it executes at a SIGHUP, to start anew.
        sys.argv = [self._resolve_executable("dramatiq"), *self._arguments(**options)]
        _let_go()
        sys.exit(cli.main())  # type: ignore[no-untyped-call]

    def _arguments(self, **options: Any) -> list[str]:
        """Return what stands after `dramatiq` on its command line, as django-dramatiq writes it."""
        named = {f"--{name.replace('_', '-')}": options[name] for name in _VALUES if options[name] is not None}
        forks = [part for function in options["forks"] for part in ("--fork-function", function)]
        switches = ["-v"] * (options["verbosity"] - 1) + ["--skip-logging"] * options["skip_logging"]
        values = [part for name, value in named.items() for part in (name, str(value))]
        modules = self.discover_tasks_modules()
        return ["--path", *options["path"], *values, *forks, *switches, *modules, "--queues", *options["queues"]]


def _let_go() -> None:
    """Close what a child would share with this process: a connection can't be forked."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        if isinstance(connection, DatabaseWrapper):
            connection.close_pool()
    progress.client.close()
