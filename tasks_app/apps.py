"""The app's configuration."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TasksConfig(AppConfig):
    """Text-to-image tasks: the API, the admin and the workers."""

    name = "tasks_app"
    verbose_name = "Text to image"

    def ready(self) -> None:
        """Register the checks, and give the models that the settings name their rows after each migrate."""
        from tasks_app import catalog, checks  # noqa: F401

        post_migrate.connect(catalog.sync_after_migrate, sender=self)
