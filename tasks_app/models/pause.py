"""Pauses of the queue, of models and of workers."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Pause(models.Model):
    """A pause of the queue, a model or a worker; it blocks claims until it is deleted."""

    class Scope(models.TextChoices):
        """Kinds of pauses; all but the one of the queue have a target."""

        QUEUE = "queue"
        MODEL = "model"
        WORKER = "worker"

    scope = models.CharField(max_length=16, choices=Scope)
    target = models.CharField(max_length=255, blank=True, help_text="The model's or the worker's name.")
    since = models.DateTimeField(db_default=Now())
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["scope", "target"], name="pause_unique"),
            models.CheckConstraint(
                condition=(Q(scope="queue", target="")) | (Q(scope__in=["model", "worker"]) & ~Q(target="")),
                name="pause_target_fits_scope",
            ),
        )

    def __str__(self) -> str:
        return f"{self.scope} {self.target}".strip()
