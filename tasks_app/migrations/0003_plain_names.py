"""Columns and JSON keys get the names that the API has since version 0.2; nothing is lost."""

from django.db import migrations, models


def rename_permissions(old, new):
    """Return a step that lets groups keep their permissions for the renamed model."""

    def rename(apps, schema_editor):
        permissions = apps.get_model("auth", "Permission").objects.using(schema_editor.connection.alias)
        for action in ("add", "change", "delete", "view"):
            permissions.filter(codename=f"{action}_{old.replace(' ', '')}").update(
                codename=f"{action}_{new.replace(' ', '')}", name=f"Can {action} {new}"
            )

    return rename


def rename_reproduction_keys(names):
    """Return a step that renames keys in the stored results of reproductions."""

    def rename(apps, schema_editor):
        tasks = apps.get_model("tasks_app", "Task").objects.using(schema_editor.connection.alias)
        for task in tasks.filter(reproduction__isnull=False).only("reproduction").iterator():
            found = {names.get(key, key): value for key, value in task.reproduction.items()}
            found["images"] = [
                {names.get(key, key): value for key, value in image.items()} for image in found["images"]
            ]
            tasks.filter(pk=task.pk).update(reproduction=found)

    return rename


OLD_MODEL, NEW_MODEL = "chosen model", "selected checkpoint"
NEW_KEYS = {"differs": "differences", "same_file": "identical_file"}
OLD_KEYS = {new: old for old, new in NEW_KEYS.items()}


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0002_groups")]

    operations = [
        migrations.RenameModel("ChosenModel", "SelectedCheckpoint"),
        migrations.RemoveConstraint("selectedcheckpoint", "chosen_model_unique"),
        migrations.AddConstraint(
            "selectedcheckpoint",
            models.UniqueConstraint(fields=["key"], nulls_distinct=False, name="selected_checkpoint_unique"),
        ),
        migrations.RunPython(rename_permissions(OLD_MODEL, NEW_MODEL), rename_permissions(NEW_MODEL, OLD_MODEL)),
        migrations.RenameField("taskimage", "black", "blank"),
        migrations.RenameField("task", "sent", "explicit_params"),
        migrations.RemoveConstraint("task", "task_losses_in_range"),
        migrations.RemoveConstraint("task", "task_max_attempts_positive"),
        migrations.RenameField("task", "losses", "lost_workers"),
        migrations.RenameField("task", "max_attempts", "max_lost_workers"),
        migrations.AlterField(
            "task",
            "lost_workers",
            models.PositiveIntegerField(default=0, help_text="Workers whose lease ran out while they ran the task."),
        ),
        migrations.AlterField(
            "task",
            "max_lost_workers",
            models.PositiveIntegerField(default=3, help_text="The task fails when it has lost this many workers."),
        ),
        migrations.AddConstraint(
            "task",
            models.CheckConstraint(
                condition=models.Q(lost_workers__lte=models.F("attempt")), name="task_lost_workers_in_range"
            ),
        ),
        migrations.AddConstraint(
            "task",
            models.CheckConstraint(condition=models.Q(max_lost_workers__gte=1), name="task_max_lost_workers_positive"),
        ),
        migrations.AddField(
            "task",
            "warnings",
            models.JSONField(
                blank=True,
                db_default=models.Value([], models.JSONField()),
                default=list,
                help_text="Parts of the request that were shortened, adjusted or ignored: code, field and message of each.",
            ),
        ),
        migrations.RunPython(rename_reproduction_keys(NEW_KEYS), rename_reproduction_keys(OLD_KEYS)),
    ]
