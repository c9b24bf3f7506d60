"""The groups `viewers`, who see everything of the service, and `operators`, who act."""

from django.contrib.auth.management import create_permissions
from django.db import migrations

VIEWERS, OPERATORS = "viewers", "operators"
ACTS = (
    "change_task",
    "delete_task",
    "add_pause",
    "delete_pause",
    "add_diffusionmodel",
    "change_diffusionmodel",
    "add_workercommand",
)


def create_groups(apps, schema_editor):
    """Make both groups, or give those that are there what they lack; what people added to them stays."""
    using = schema_editor.connection.alias
    _create_permissions(apps, using)
    own = apps.get_model("auth", "Permission").objects.using(using).filter(content_type__app_label="tasks_app")
    views = own.filter(codename__startswith="view_")
    groups = apps.get_model("auth", "Group").objects.using(using)
    for name, permissions in ((VIEWERS, views), (OPERATORS, views | own.filter(codename__in=ACTS))):
        group, _ = groups.get_or_create(name=name)
        group.permissions.add(*permissions)


def remove_groups(apps, schema_editor):
    """Take both groups away, with whoever is in them."""
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    groups.filter(name__in=[VIEWERS, OPERATORS]).delete()


def _create_permissions(apps, using):
    # Django makes them after all migrations, which is too late; and it makes none for an app without a models module,
    # which the apps of a migration don't have.
    config = apps.get_app_config("tasks_app")
    own = getattr(config, "models_module", None)
    config.models_module = own or True
    create_permissions(config, apps=apps, using=using, verbosity=0)
    config.models_module = own


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0004_control_plane"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(create_groups, remove_groups)]
