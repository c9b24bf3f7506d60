"""Admin pages, built with django-unfold, that read rows and call the services."""

from django.contrib import admin
from django_dramatiq import admin as dramatiq_admin

from tasks_app.admin import accounts, deliveries, diffusion_models, keys, pauses, tasks, workers

__all__ = ["accounts", "deliveries", "diffusion_models", "keys", "pauses", "tasks", "workers"]

# django-dramatiq's task table stays empty, because the app keeps its own rows. Importing its admin first makes the
# order of apps irrelevant.
admin.site.unregister(dramatiq_admin.Task)
