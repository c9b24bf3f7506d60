"""Django's `flush`, by which each test with transactions ends, beside parts that go on reading and writing."""

from typing import Any

from django.core.management import CommandError
from django.core.management.commands import flush
from psycopg.errors import DeadlockDetected

TRIES = 5


class Command(flush.Command):
    """Empties the tables; when a running worker's statement and this one wait for each other, it tries again."""

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
