"""Django application configuration."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TasksConfig(AppConfig):
    """Text-to-image tasks: the API, the admin and the workers."""

    name = "tasks_app"
    verbose_name = "Text to image"

    def ready(self) -> None:
        """Register the system checks, and create missing model rows after each migrate."""
        from tasks_app import checks  # noqa: F401
        from tasks_app.catalog import rows as model_rows

        post_migrate.connect(model_rows.sync_after_migrate, sender=self)
