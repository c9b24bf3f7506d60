"""Webhook deliveries and their state."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from tasks_app.models.keys import WebhookEvent
from tasks_app.models.tasks import Task


class WebhookDelivery(models.Model):
    """The notification of one receiver that a task has ended; written by `webhooks.deliveries`."""

    class State(models.TextChoices):
        """State of a delivery; the last two are final unless it is redelivered."""

        PENDING = "pending"
        SENDING = "sending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False, help_text="The same in every attempt.")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=16, choices=WebhookEvent)
    url = models.TextField()
    state = models.CharField(max_length=16, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Since the delivery was last requested.")
    next_at = models.DateTimeField(
        db_default=Now(),
        help_text="When it is sent next, or, while it is being sent, when that attempt counts as lost.",
    )
    last_status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="HTTP status of the receiver.")
    last_error = models.TextField(blank=True)
    last_at = models.DateTimeField(null=True, blank=True, help_text="When it was last sent.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name_plural = "webhook deliveries"
        indexes = (
            models.Index(fields=["next_at"], condition=Q(state__in=["pending", "sending"]), name="delivery_due"),
            models.Index(F("created_at").desc(), F("id").desc(), name="delivery_newest"),
            models.Index(F("state"), F("created_at").desc(), F("id").desc(), name="delivery_newest_of_state"),
        )
        constraints = (
            models.UniqueConstraint(fields=["task", "event"], name="delivery_unique"),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "sending", "delivered", "failed"]), name="delivery_state_known"
            ),
            models.CheckConstraint(condition=Q(event__in=WebhookEvent.values), name="delivery_event_known"),
        )

    def __str__(self) -> str:
        return f"task.{self.event} of {self.task_id}"
