"""The web's entry point: `uvicorn project.asgi:application --lifespan off --timeout-graceful-shutdown 5`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
_django = get_asgi_application()

from tasks_app.api.body import bounded  # noqa: E402 - needs the settings

application = bounded(_django)
