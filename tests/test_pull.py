"""`manage.py pull` where the database is not what it will be."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction


@pytest.mark.django_db
def test_a_model_is_fetched_before_the_first_migrate(settings: Any) -> None:
    said = StringIO()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE tasks_app_diffusionmodel RENAME TO elsewhere")
        call_command("pull", "demo", stdout=said)
        transaction.set_rollback(True)
    assert said.getvalue() == "demo is here, at revision local.\n"
