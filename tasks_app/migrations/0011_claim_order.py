"""The indexes of the order in which workers claim."""

import django.db.models.functions.comparison
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # The indexes are built while the table is written to.
    atomic = False

    dependencies = [("tasks_app", "0010_chosen_model")]

    operations = [
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                django.db.models.functions.comparison.Coalesce(
                    models.F("key"), 0, output_field=models.BigIntegerField()
                ),
                models.F("model_id"),
                models.F("revision"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("created_at"),
                models.F("id"),
                condition=models.Q(("status", "queued")),
                name="task_lane",
            ),
        ),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                django.db.models.functions.comparison.Coalesce(
                    models.F("key"), 0, output_field=models.BigIntegerField()
                ),
                models.OrderBy(models.F("started_at"), descending=True),
                condition=models.Q(("started_at__isnull", False)),
                name="task_served",
            ),
        ),
    ]
