"""API keys, which knox hashes and looks up, and rows per key: idempotency keys and selected checkpoints."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from knox.models import AbstractAuthToken
from knox.settings import CONSTANTS

from tasks_app.models.tasks import Task


class Scope(models.TextChoices):
    """Permissions of an API key."""

    READ = "read", "read own tasks"
    READ_ANY = "read-any", "read all tasks"
    SUBMIT = "submit", "submit tasks and cancel own tasks"
    CANCEL_ANY = "cancel-any", "cancel all tasks"
    MODELS = "models", "list the models"


class WebhookEvent(models.TextChoices):
    """Ends of a task that a webhook can be notified of."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class ApiKey(AbstractAuthToken):  # type: ignore[misc]  # knox has no types
    """An API key without its token: knox stores the hash, the first characters, the owner (`user`) and the expiry."""

    digest = models.CharField(max_length=CONSTANTS.DIGEST_LENGTH, unique=True, editable=False)
    name = models.CharField(max_length=100, help_text="Purpose of the key.")
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope))
    last_used_at = models.DateTimeField(null=True, blank=True)

    rate_per_minute = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests per minute. Empty: RATE_LIMIT_PER_MINUTE."
    )
    max_queued = models.PositiveIntegerField(
        null=True, blank=True, help_text="Queued tasks at once. Empty: MAX_QUEUED_PER_KEY."
    )
    max_running = models.PositiveIntegerField(
        null=True, blank=True, help_text="Running tasks at once. Empty: MAX_RUNNING_PER_KEY."
    )

    webhook_url = models.URLField(
        "webhook URL", max_length=2000, blank=True, help_text="Default webhook for this key's tasks."
    )
    webhook_events = ArrayField(
        models.CharField(max_length=16, choices=WebhookEvent),
        default=list,
        blank=True,
        help_text="Leave empty for all events.",
    )
    webhook_secret = models.CharField(max_length=100, editable=False, help_text="Signs the key's webhooks.")

    class Meta:
        ordering = ("name", "pk")
        verbose_name = "API key"
        constraints = (models.UniqueConstraint(fields=["user", "name"], name="api_key_name_unique"),)

    def __str__(self) -> str:
        return self.name


class IdempotencyKey(models.Model):
    """A client's name for one POST request; repeating the request returns the task that it created."""

    key = models.ForeignKey(ApiKey, null=True, on_delete=models.CASCADE, help_text="Empty for callers without a key.")
    name = models.CharField(max_length=255)
    body_sha256 = models.CharField(max_length=64)
    task = models.ForeignKey(Task, on_delete=models.CASCADE)
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["key", "name"], nulls_distinct=False, name="idempotency_key_unique"),
        )

    def __str__(self) -> str:
        return self.name


class SelectedCheckpoint(models.Model):
    """The checkpoint that a client of the A1111 API has selected."""

    key = models.ForeignKey(ApiKey, null=True, on_delete=models.CASCADE, help_text="Empty for callers without a key.")
    name = models.CharField(max_length=255)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["key"], nulls_distinct=False, name="selected_checkpoint_unique"),
        )

    def __str__(self) -> str:
        return self.name
