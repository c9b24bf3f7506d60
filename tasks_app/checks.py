"""System checks of the task-type registry and the settings. They must not import torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from tasks_app.catalog import resolve
from tasks_app.task_types import registry


@register()
def check_task_types(**kwargs: Any) -> list[CheckMessage]:
    """Check that every registered task type names existing modules and has a PROVIDERS entry."""
    messages: list[CheckMessage] = []
    for entry in registry.get_task_types():
        for dotted in (entry.params, entry.handler):
            if not _module_exists(dotted.rpartition(".")[0]):
                messages.append(Error(f"{entry.name}/{entry.provider}: no module for {dotted}.", id="tasks_app.E001"))
        if entry.provider not in settings.PROVIDERS:
            messages.append(
                Error(f"{entry.name}/{entry.provider}: PROVIDERS has no entry for this provider.", id="tasks_app.E002")
            )
    return messages


@register()
def check_default_model(**kwargs: Any) -> list[CheckMessage]:
    """Check that DEFAULT_MODEL_ID is a model that this server allows."""
    # The model's row is not used: checks also run without a database.
    if resolve.resolve_from_settings(settings.DEFAULT_MODEL_ID) is None:
        hint = "Set it to a folder of MODELS_DIR, an alias or a Hub id."
        return [Error(f"DEFAULT_MODEL_ID: {settings.DEFAULT_MODEL_ID} is not a model.", hint=hint, id="tasks_app.E003")]
    return []


@register()
def check_warm_models(**kwargs: Any) -> list[CheckMessage]:
    """Check that MAX_CACHED_MODELS has room for all WARM_MODELS."""
    if len(settings.WARM_MODELS) <= settings.PROVIDERS["diffusers"]["max_cached_models"]:
        return []
    hint = "Increase MAX_CACHED_MODELS, or list fewer models."
    return [Warning("WARM_MODELS: lists more models than MAX_CACHED_MODELS allows.", hint=hint, id="tasks_app.W004")]


@register()
def check_renamed_settings(**kwargs: Any) -> list[CheckMessage]:
    """Warn of settings in the process's environment that have another name since version 0.1."""
    return [
        Warning(f"{name}: ignored; it was renamed to {settings.RENAMED_SETTINGS[name]}.", id="tasks_app.W005")
        for name in sorted(settings.RENAMED_SETTINGS.keys() & os.environ.keys())
    ]


@register()
def check_sentry(**kwargs: Any) -> list[CheckMessage]:
    """Check that sentry-sdk is installed if SENTRY_DSN is set."""
    if settings.SENTRY_DSN is None or _module_exists("sentry_sdk"):
        return []
    hint = "Install it with `uv sync --extra sentry`."
    return [Error("SENTRY_DSN: is set, but sentry-sdk is not installed.", hint=hint, id="tasks_app.E004")]


@register()
def check_storage(**kwargs: Any) -> list[CheckMessage]:
    """Check that django-storages and boto3 are installed if images are stored in a bucket."""
    bucket = settings.STORAGES["default"]["BACKEND"] == "tasks_app.images.s3.BucketStorage"
    if not bucket or (_module_exists("storages") and _module_exists("boto3")):
        return []
    hint = "Install them with `uv sync --extra s3`."
    return [Error("S3_BUCKET: django-storages and boto3 are not installed.", hint=hint, id="tasks_app.E005")]


@register(Tags.database)
def check_upgradable(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse to migrate a database that is older than version 0.1, whose own migrations are gone."""
    messages: list[CheckMessage] = []
    for alias in databases or ():
        recorder = MigrationRecorder(connections[alias])
        applied = {name for app, name in recorder.applied_migrations() if app == "tasks_app"}
        if "0002_attempts" in applied and "0022_prompt_weighting" not in applied:
            hint = "First run `git checkout 0208789 && uv run manage.py migrate`, then switch back to this version."
            message = "The database is older than version 0.1 and can't be migrated directly."
            messages.append(Error(message, hint=hint, id="tasks_app.E006"))
    return messages


@register(Tags.security, deploy=True)
def check_allowed_models(**kwargs: Any) -> list[CheckMessage]:
    """Warn if the server loads any model that a client requests."""
    if "*" not in settings.ALLOWED_MODELS:
        return []
    hint = "List model ids, or an organization as `org/*`."
    return [
        Warning(
            "ALLOWED_MODELS: `*` lets any client download any model and fill the disk.", hint=hint, id="tasks_app.W001"
        )
    ]


@register(Tags.security, deploy=True)
def check_metrics(**kwargs: Any) -> list[CheckMessage]:
    """Warn if the metrics can be read without a token."""
    if settings.METRICS_TOKEN:
        return []
    return [Warning("METRICS_TOKEN: not set, so /metrics is public.", id="tasks_app.W003")]


@register(Tags.security, deploy=True)
def check_api_auth(**kwargs: Any) -> list[CheckMessage]:
    """Warn if the API can be used without a key."""
    if settings.API_AUTH == "required":
        return []
    hint = "Set API_AUTH=required, and create keys with `manage.py apikey create`."
    return [
        Warning("API_AUTH: anyone who can reach this server can use it without a key.", hint=hint, id="tasks_app.W002")
    ]


def _module_exists(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
