"""Uploaded images that tasks start from."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Upload(models.Model):
    """An image that a client uploaded; tasks refer to it. Its file name is derived from its id."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    key = models.ForeignKey(
        "tasks_app.ApiKey",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="uploads",
        help_text="The API key of the request.",
    )
    sha256 = models.CharField(max_length=64, help_text="Of the stored PNG.")
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_default=Now())
    purged_at = models.DateTimeField(null=True, blank=True, help_text="When it expired; its file is deleted next.")

    class Meta:
        indexes = (
            models.Index(fields=["created_at"], condition=Q(purged_at__isnull=True), name="upload_kept"),
            models.Index(fields=["purged_at"], condition=Q(purged_at__isnull=False), name="upload_given_up"),
        )

    def __str__(self) -> str:
        return str(self.id)
