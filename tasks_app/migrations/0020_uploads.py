"""Pictures that tasks begin with."""

import importlib
import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Now


def grant(apps, schema_editor):
    """Let those of both groups that are still there see them."""
    using = schema_editor.connection.alias
    importlib.import_module("tasks_app.migrations.0005_groups")._create_permissions(apps, using)
    own = apps.get_model("auth", "Permission").objects.using(using).filter(content_type__app_label="tasks_app")
    for group in apps.get_model("auth", "Group").objects.using(using).filter(name__in=["viewers", "operators"]):
        group.permissions.add(*own.filter(codename="view_upload"))


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0019_reproduction")]

    operations = [
        migrations.CreateModel(
            name="Upload",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("sha256", models.CharField(help_text="Of its file as it is kept.", max_length=64)),
                ("width", models.PositiveIntegerField()),
                ("height", models.PositiveIntegerField()),
                ("created_at", models.DateTimeField(db_default=Now())),
                (
                    "purged_at",
                    models.DateTimeField(blank=True, help_text="When it was given up; its file goes next.", null=True),
                ),
                (
                    "key",
                    models.ForeignKey(
                        blank=True,
                        help_text="The API key that it came with.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="uploads",
                        to=settings.KNOX_TOKEN_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("purged_at__isnull", True)), fields=["created_at"], name="upload_kept"
                    ),
                    models.Index(
                        condition=models.Q(("purged_at__isnull", False)), fields=["purged_at"], name="upload_given_up"
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="task",
            name="uploads",
            field=models.ManyToManyField(
                blank=True,
                help_text="The pictures that it begins with.",
                related_name="tasks",
                to="tasks_app.upload",
            ),
        ),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
