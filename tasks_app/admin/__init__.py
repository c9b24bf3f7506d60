"""The control plane: django-unfold pages that read rows and call the services."""

from django.contrib import admin
from django_dramatiq import admin as dramatiq_admin

from tasks_app.admin import accounts, catalog, deliveries, keys, pausing, tasks, workers

__all__ = ["accounts", "catalog", "deliveries", "keys", "pausing", "tasks", "workers"]

# Its table stays empty: rows of our own say everything. Importing its admin first makes the order of apps irrelevant.
admin.site.unregister(dramatiq_admin.Task)
