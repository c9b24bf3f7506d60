"""A database of version 0.1 is migrated with all that it holds, or refused in words."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from tasks_app.models import ApiKey, SelectedCheckpoint, Task, TaskImage

VERSION_0_1 = Path(__file__).parents[1] / "support" / "data" / "version-0.1.sql"
# Every column, constraint and index of the service's tables.
SCHEMA = """
SELECT 'column', table_name, column_name, data_type || ' ' || is_nullable || ' ' || COALESCE(column_default, '')
FROM information_schema.columns WHERE table_name LIKE 'tasks_app_%%'
UNION ALL SELECT 'constraint', conrelid::regclass::text, '', pg_get_constraintdef(oid)
FROM pg_constraint WHERE conrelid::regclass::text LIKE 'tasks_app_%%' AND contype <> 'n'
UNION ALL SELECT 'index', tablename, '', regexp_replace(indexdef, 'INDEX \\S+', 'INDEX')
FROM pg_indexes WHERE tablename LIKE 'tasks_app_%%'
ORDER BY 1, 2, 3, 4
"""


@pytest.fixture
def old_database(empty_database: str) -> str:
    """Return the alias of a database that version 0.1 has made."""
    with connections[empty_database].cursor() as cursor:
        cursor.execute(VERSION_0_1.read_text().replace("%", "%%"), [])
        cursor.execute("SET search_path TO public")
    return empty_database


def schema(alias: str) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(SCHEMA, [])
        # A dump writes the same conditions with other casts.
        return sorted((*names, re.sub(r"::[a-z ]+|\[\]|[()]", "", text)) for *names, text in cursor.fetchall())


@pytest.mark.django_db(databases="__all__")
def test_a_database_of_version_0_1_keeps_all_its_rows(old_database: str) -> None:
    Group.objects.using(old_database).get(name="viewers").delete()
    call_command("migrate", database=old_database, verbosity=0)
    tasks = Task.objects.using(old_database)
    assert [(task.lost_workers, task.max_lost_workers, task.explicit_params) for task in tasks] == [
        (0, 3, ["guidance_scale"])
    ] * 3
    (again,) = (task.reproduction for task in tasks if task.reproduction)
    assert again == {
        "verdict": "identical",
        "images": [{"index": 0, "verdict": "identical", "psnr": None, "identical_file": True}],
        "differences": {},
    }
    assert [image.blank for image in TaskImage.objects.using(old_database)] == [False] * 3
    assert ApiKey.objects.using(old_database).get().name == "bot"
    assert SelectedCheckpoint.objects.using(old_database).get().name == "demo"
    # A group that people deleted stays deleted; the other has its permission for the renamed model.
    operators = Group.objects.using(old_database).get()
    assert operators.permissions.filter(codename="view_selectedcheckpoint").count() == 1
    assert not operators.permissions.filter(codename__endswith="chosenmodel").exists()


@pytest.mark.django_db(databases="__all__")
def test_it_ends_with_the_tables_of_a_new_database(old_database: str) -> None:
    call_command("migrate", database=old_database, verbosity=0)
    assert len(schema(old_database)) > 100
    assert schema(old_database) == schema("default")


@pytest.mark.django_db(databases="__all__")
def test_a_database_before_version_0_1_is_refused_in_words(old_database: str) -> None:
    with connections[old_database].cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE name = '0022_prompt_weighting'")
    with pytest.raises(SystemCheckError, match=r"(?s)older than version 0\.1.*git checkout 0208789"):
        call_command("migrate", database=old_database, verbosity=0, skip_checks=False)
