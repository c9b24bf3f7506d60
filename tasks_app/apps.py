"""The app's configuration."""

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Text-to-image tasks: the API, the admin and the workers."""

    name = "tasks_app"
    verbose_name = "Text to image"

    def ready(self) -> None:
        """Register the checks."""
        from tasks_app import checks  # noqa: F401
