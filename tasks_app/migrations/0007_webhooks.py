"""Webhooks: whom tasks tell how they ended, the deliveries, and who may see them and send them again."""

import importlib
import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

GRANTS = {
    "viewers": ["view_webhookdelivery"],
    "operators": ["view_webhookdelivery", "change_webhookdelivery"],
}


def grant(apps, schema_editor):
    """Give those of both groups that are still there what they need here."""
    using = schema_editor.connection.alias
    importlib.import_module("tasks_app.migrations.0005_groups")._create_permissions(apps, using)
    own = apps.get_model("auth", "Permission").objects.using(using).filter(content_type__app_label="tasks_app")
    for group in apps.get_model("auth", "Group").objects.using(using).filter(name__in=GRANTS):
        group.permissions.add(*own.filter(codename__in=GRANTS[group.name]))


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0006_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4,
                        editable=False,
                        help_text="The same in every attempt.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "event",
                    models.CharField(
                        choices=[("succeeded", "Succeeded"), ("failed", "Failed"), ("canceled", "Canceled")],
                        max_length=16,
                    ),
                ),
                ("url", models.TextField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("sending", "Sending"),
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                (
                    "attempts",
                    models.PositiveSmallIntegerField(default=0, help_text="Since somebody last asked for it."),
                ),
                (
                    "next_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it is sent next; while it is being sent, when that counts as lost.",
                    ),
                ),
                (
                    "last_status",
                    models.PositiveSmallIntegerField(blank=True, help_text="What the receiver answered.", null=True),
                ),
                ("last_error", models.TextField(blank=True)),
                ("last_at", models.DateTimeField(blank=True, help_text="When it was last tried.", null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "verbose_name_plural": "webhook deliveries",
                "ordering": ("-created_at", "-id"),
            },
        ),
        migrations.AddField(
            model_name="task",
            name="webhook_due",
            field=models.BooleanField(default=False, help_text="Its end has not been made a delivery yet."),
        ),
        migrations.AddField(
            model_name="task",
            name="webhook_events",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=16), blank=True, default=list, size=None
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="webhook_url",
            field=models.TextField(blank=True, help_text="Who is told how it ended."),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("status__in", ("succeeded", "failed", "canceled")), ("webhook_due", True)),
                fields=["finished_at"],
                name="task_webhook_due",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("webhook_due", False), models.Q(("webhook_url", ""), _negated=True), _connector="OR"
                ),
                name="task_webhook_has_url",
            ),
        ),
        migrations.AddField(
            model_name="webhookdelivery",
            name="task",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="tasks_app.task"
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=models.Q(("state__in", ["pending", "sending"])), fields=["next_at"], name="delivery_due"
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="delivery_newest",
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                models.F("state"),
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="delivery_newest_of_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.UniqueConstraint(fields=("task", "event"), name="delivery_unique"),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["pending", "sending", "delivered", "failed"])),
                name="delivery_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("event__in", ["succeeded", "failed", "canceled"])), name="delivery_event_known"
            ),
        ),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
