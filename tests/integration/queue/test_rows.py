"""Tasks of a statement's own rows are what the ORM reads."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.forms.models import model_to_dict
from django.utils import timezone

from tasks_app.models import Task
from tasks_app.queue import rows

MakeTask = Callable[..., Task]


@pytest.mark.django_db
def test_every_field_is_as_the_orm_reads_it(make_task: MakeTask) -> None:
    first = make_task(
        timings={"loading": 0.5},
        provenance={"device": "cpu"},
        webhook_events=["succeeded"],
        webhook_url="https://example.com",
        deadline=timezone.now(),
        explicit_params=["seed"],
    )
    second = make_task(retried_from=first, reproduction={"psnr": None})
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {rows.select_columns('task')} FROM {Task._meta.db_table} AS task ORDER BY created_at")
        found = rows.build_tasks(cursor.fetchall())
    assert found == [first, second]
    for task in found:
        assert model_to_dict(task) == model_to_dict(Task.objects.get(pk=task.pk))
        assert {
            type(getattr(task, field.attname)) for field in Task._meta.concrete_fields if field.name == "params"
        } == {dict}
        assert not task._state.adding
        assert task._state.db == "default"
        assert not task.get_deferred_fields()
