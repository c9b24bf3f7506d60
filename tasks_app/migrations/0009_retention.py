"""What retention needs to know, and the index that it finds what is due by."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):
    # The index is built while the table is written to.
    atomic = False

    dependencies = [("tasks_app", "0008_worker_uses")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="purged_at",
            field=models.DateTimeField(blank=True, help_text="When its pictures were purged, if they were.", null=True),
        ),
        migrations.AddField(
            model_name="taskimage",
            name="purged_at",
            field=models.DateTimeField(blank=True, help_text="When its file was removed, if it was.", null=True),
        ),
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                F("status"),
                F("finished_at").desc(),
                F("id").desc(),
                condition=Q(("status__in", ["succeeded", "failed", "canceled"]), ("purged_at__isnull", True)),
                name="task_kept",
            ),
        ),
    ]
