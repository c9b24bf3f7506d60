#!/usr/bin/env python
"""The project's command line: `uv run manage.py help` lists its commands."""

import os
import sys

# One task at a time per process, one process per GPU, no prefetching of messages. Dramatiq reads these on import.
WORKER_DEFAULTS = {
    "DRAMATIQ_NPROCS": "1",
    "DRAMATIQ_NTHREADS": "1",
    "dramatiq_queue_prefetch": "1",
    "dramatiq_worker_timeout": "500",
    "dramatiq_restart_delay": "500",
}


def main() -> None:
    """Run one management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    for name, value in WORKER_DEFAULTS.items():
        os.environ.setdefault(name, value)
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    from project.embedded.servers import START_HINT

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        sys.exit(f"{error}\n\nPostgreSQL does not answer. {START_HINT}")


if __name__ == "__main__":
    main()
