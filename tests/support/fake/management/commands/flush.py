"""Django's `flush`, which ends each test with transactions, while other processes keep reading and writing."""

from typing import Any

from django.core.management import CommandError
from django.core.management.commands import flush
from psycopg.errors import DeadlockDetected

TRIES = 5


class Command(flush.Command):
    """Empty the tables; on a deadlock with a statement of a running worker, try again."""

    def handle(self, **options: Any) -> None:
        for left in reversed(range(TRIES)):
            try:
                super().handle(**options)
            except CommandError as error:
                cause = error.__cause__ and error.__cause__.__cause__
                if not left or not isinstance(cause, DeadlockDetected):
                    raise
            else:
                return
