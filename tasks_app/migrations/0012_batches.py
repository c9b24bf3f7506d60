"""What tasks have in common that one call can run, and the index that finds them by it."""

import django.db.models.functions.comparison
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # The index is built while the table is written to.
    atomic = False

    dependencies = [("tasks_app", "0011_claim_order")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="batch_key",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Tasks of one key may run in one call; one without runs alone.",
                max_length=32,
            ),
        ),
        migrations.AlterField(
            model_name="diffusionmodel",
            name="max_batch",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="How many pictures one call makes at most, of one request or of several; "
                "empty: the server's limits.",
                null=True,
            ),
        ),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                models.F("batch_key"),
                django.db.models.functions.comparison.Coalesce(
                    models.F("key"), 0, output_field=models.BigIntegerField()
                ),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("created_at"),
                models.F("id"),
                condition=models.Q(("status", "queued"), models.Q(("batch_key", ""), _negated=True)),
                name="task_batch",
            ),
        ),
    ]
