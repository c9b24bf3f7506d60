"""The groups `viewers`, who see every page of the service, and `operators`, who also act."""

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
    "change_webhookdelivery",
)


def create_groups(apps, schema_editor):
    """Create both groups, or add the permissions that existing ones lack; permissions that people added stay."""
    using = schema_editor.connection.alias
    _create_permissions(apps, using)
    own = apps.get_model("auth", "Permission").objects.using(using).filter(content_type__app_label="tasks_app")
    views = own.filter(codename__startswith="view_")
    groups = apps.get_model("auth", "Group").objects.using(using)
    for name, permissions in ((VIEWERS, views), (OPERATORS, views | own.filter(codename__in=ACTS))):
        group, _ = groups.get_or_create(name=name)
        group.permissions.add(*permissions)


def remove_groups(apps, schema_editor):
    """Delete both groups, with their memberships."""
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    groups.filter(name__in=[VIEWERS, OPERATORS]).delete()


def _create_permissions(apps, using):
    # Django creates them after all migrations, which is too late; and it creates none for an app without a models
    # module, which the apps of a migration don't have.
    config = apps.get_app_config("tasks_app")
    own = getattr(config, "models_module", None)
    config.models_module = own or True
    create_permissions(config, apps=apps, using=using, verbosity=0)
    config.models_module = own


class Migration(migrations.Migration):
    # So that a database of version 0.1 keeps its groups as they are.
    replaces = [("tasks_app", "0005_groups")]

    dependencies = [
        ("tasks_app", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(create_groups, remove_groups)]
