"""Workers and the commands that are sent to them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Worker(models.Model):
    """A process that runs tasks, as of its last heartbeat; `queue.workers` writes the row and derives its state."""

    name = models.CharField(primary_key=True, max_length=255)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=64, help_text="Version of the service.")
    device = models.CharField(max_length=32, blank=True, help_text="Empty until its engine has started.")
    device_name = models.CharField(max_length=255, blank=True)
    memory_used = models.PositiveBigIntegerField(null=True, blank=True, help_text="In bytes.")
    memory_total = models.PositiveBigIntegerField(null=True, blank=True)
    warm = models.JSONField(default=list, blank=True, help_text="The models that are loaded, with their revisions.")
    uses = models.JSONField(default=list, blank=True, help_text="Loads and cache hits of each model.")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("host", "name")

    def __str__(self) -> str:
        return self.name


class WorkerCommand(models.Model):
    """A command that one worker runs between its tasks."""

    class Kind(models.TextChoices):
        """Action on a model."""

        PRELOAD = "preload"
        UNLOAD = "unload"

    worker = models.ForeignKey(Worker, on_delete=models.CASCADE, related_name="commands")
    kind = models.CharField(max_length=16, choices=Kind)
    model_id = models.CharField(max_length=255)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(db_default=Now())
    taken_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ("-created_at", "-pk")
        indexes = (models.Index(fields=["worker", "id"], condition=Q(taken_at=None), name="worker_command_open"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.model_id}"
