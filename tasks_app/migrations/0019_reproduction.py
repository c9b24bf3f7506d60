"""What pictures depend on, and how those of a task that was run again compare with the first."""

import django.db.models.deletion
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # The index is built while the table is written to.
    atomic = False

    dependencies = [("tasks_app", "0016_default_model")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="provenance",
            field=models.JSONField(
                blank=True,
                db_default=models.Value({}, models.JSONField()),
                default=dict,
                help_text="What its pictures depend on beside parameters, seed and revision: device, dtype, versions.",
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="reproduces",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                help_text="The task that this one was made from, to see whether it comes out the same.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="reproductions",
                to="tasks_app.task",
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="reproduction",
            field=models.JSONField(blank=True, help_text="How its pictures compare with the other task's.", null=True),
        ),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                condition=models.Q(("reproduces__isnull", False)), fields=["reproduces"], name="task_reproduces"
            ),
        ),
    ]
