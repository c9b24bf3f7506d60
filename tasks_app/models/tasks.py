"""Tasks, their attempts and their images."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.db import models
from django.db.models import F, Q
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce, Now


class Status(models.TextChoices):
    """State of a task; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class Phase(models.TextChoices):
    """Stage of a running task."""

    LOADING = "loading"
    DENOISING = "denoising"
    DECODING = "decoding"
    SAVING = "saving"


LOWEST_PRIORITY, HIGHEST_PRIORITY = -10, 10
TERMINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)
_ended = Q(status__in=TERMINAL)
_running = Q(status=Status.RUNNING)
# All tasks without a key count as those of one owner.
_owner = Coalesce(F("key"), 0, output_field=models.BigIntegerField())


class Task(models.Model):
    """A request for images, from the POST request to its end."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    task_type = models.CharField(max_length=64)
    provider = models.CharField(max_length=64)
    requested_model_id = models.CharField("requested model", max_length=255)
    model_id = models.CharField("model", max_length=255, help_text="The model that the requested name resolved to.")
    revision = models.CharField(max_length=255, blank=True, help_text="The commit that was loaded.")
    params = models.JSONField(help_text="All effective parameters except provider, model and seed.")
    explicit_params = ArrayField(
        models.CharField(max_length=32),
        default=list,
        blank=True,
        help_text="Parameters that the client set itself: a model that doesn't support them refuses the task.",
    )
    seed = models.BigIntegerField()
    priority = models.SmallIntegerField(default=0)
    batch_key = models.CharField(
        max_length=32,
        blank=True,
        default="",
        db_default="",
        help_text="Tasks with the same key may run in one pipeline call. Empty: the task runs alone.",
    )

    status = models.CharField(max_length=16, choices=Status, default=Status.QUEUED)
    phase = models.CharField(max_length=16, choices=Phase, blank=True)
    step = models.PositiveIntegerField(default=0)
    total_steps = models.PositiveIntegerField(default=0)

    attempt = models.PositiveIntegerField(default=0, help_text="Rises with every claim and fences its writes.")
    lost_workers = models.PositiveIntegerField(
        default=0, help_text="Workers whose lease ran out while they ran the task."
    )
    max_lost_workers = models.PositiveIntegerField(
        default=3, help_text="The task fails when it has lost this many workers."
    )
    lease_until = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=255, blank=True)
    woken_at = models.DateTimeField(null=True, blank=True, help_text="When the sweeper last sent a wake-up for it.")
    deadline = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    error_code = models.CharField(max_length=32, blank=True)
    error_message = models.TextField(blank=True)
    error_traceback = models.TextField(blank=True)

    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    purged_at = models.DateTimeField(null=True, blank=True, help_text="When its images were purged.")
    timings = models.JSONField(default=dict, blank=True, help_text="Seconds by stage.")
    provenance = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        blank=True,
        help_text="Device, dtype and library versions, on which the images also depend.",
    )
    warnings = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        blank=True,
        help_text="Parts of the request that were shortened, adjusted or ignored: code, field and message of each.",
    )
    webhook_url = models.TextField(blank=True, help_text="Receiver that is notified when the task ends.")
    webhook_events = ArrayField(models.CharField(max_length=16), default=list, blank=True)
    webhook_due = models.BooleanField(
        default=False, help_text="The task has ended, and its delivery is not created yet."
    )
    key = models.ForeignKey(
        "tasks_app.ApiKey",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        db_index=False,
        related_name="tasks",
        help_text="The API key of the request.",
    )
    uploads = models.ManyToManyField("tasks_app.Upload", blank=True, related_name="tasks", help_text="Input images.")
    retried_from = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries")
    reproduces = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        db_index=False,
        related_name="reproductions",
        help_text="The task whose images this one should reproduce.",
    )
    reproduction = models.JSONField(null=True, blank=True, help_text="Comparison with the images of the original task.")

    class Meta:
        ordering = ("-created_at", "-id")
        # Never index lease_until, step or updated_at: a heartbeat would no longer be a heap-only update.
        indexes = (
            models.Index(
                F("priority").desc(), F("created_at"), F("id"), condition=Q(status=Status.QUEUED), name="task_claim"
            ),
            models.Index(
                _owner,
                F("model_id"),
                F("revision"),
                F("priority").desc(),
                F("created_at"),
                F("id"),
                condition=Q(status=Status.QUEUED),
                name="task_lane",
            ),
            models.Index(
                F("batch_key"),
                _owner,
                F("priority").desc(),
                F("created_at"),
                F("id"),
                condition=Q(status=Status.QUEUED) & ~Q(batch_key=""),
                name="task_batch",
            ),
            models.Index(_owner, F("started_at").desc(), condition=Q(started_at__isnull=False), name="task_served"),
            models.Index(fields=["id"], condition=_running, name="task_running"),
            models.Index(
                fields=["deadline"],
                condition=~_ended & Q(deadline__isnull=False),
                name="task_deadline",
            ),
            models.Index(F("created_at").desc(), F("id").desc(), name="task_newest"),
            models.Index(F("status"), F("created_at").desc(), F("id").desc(), name="task_newest_of_status"),
            models.Index(F("model_id"), F("created_at").desc(), F("id").desc(), name="task_newest_of_model"),
            models.Index(F("worker"), F("created_at").desc(), F("id").desc(), name="task_newest_of_worker"),
            models.Index(F("key"), F("created_at").desc(), F("id").desc(), name="task_newest_of_key"),
            models.Index(fields=["key", "status"], condition=~_ended, name="task_open_of_key"),
            models.Index(
                F("error_code"),
                F("created_at").desc(),
                F("id").desc(),
                condition=~Q(error_code=""),
                name="task_newest_of_error",
            ),
            models.Index(F("finished_at").desc(), condition=_ended, name="task_finished"),
            models.Index(
                F("status"),
                F("finished_at").desc(),
                F("id").desc(),
                condition=_ended & Q(purged_at__isnull=True),
                name="task_kept",
            ),
            models.Index(fields=["finished_at"], condition=_ended & Q(webhook_due=True), name="task_webhook_due"),
            models.Index(fields=["reproduces"], condition=Q(reproduces__isnull=False), name="task_reproduces"),
            GinIndex(SearchVector(KT("params__prompt"), config="simple"), name="task_prompt_words"),
        )
        constraints = (
            models.CheckConstraint(condition=Q(status__in=Status.values), name="task_status_known"),
            models.CheckConstraint(condition=Q(phase__in=["", *Phase.values]), name="task_phase_known"),
            models.CheckConstraint(
                condition=(_running & Q(lease_until__isnull=False) & ~Q(worker="") & ~Q(phase=""))
                | (~_running & Q(lease_until__isnull=True) & Q(phase="")),
                name="task_leased_while_running",
            ),
            models.CheckConstraint(
                condition=(_ended & Q(finished_at__isnull=False)) | (~_ended & Q(finished_at__isnull=True)),
                name="task_finished_when_ended",
            ),
            models.CheckConstraint(
                condition=(Q(status__in=[Status.FAILED, Status.CANCELED]) & ~Q(error_code=""))
                | (~Q(status__in=[Status.FAILED, Status.CANCELED]) & Q(error_code="")),
                name="task_error_when_failed",
            ),
            models.CheckConstraint(condition=Q(step__lte=F("total_steps")), name="task_step_in_range"),
            models.CheckConstraint(condition=Q(lost_workers__lte=F("attempt")), name="task_lost_workers_in_range"),
            models.CheckConstraint(condition=Q(max_lost_workers__gte=1), name="task_max_lost_workers_positive"),
            models.CheckConstraint(
                condition=Q(priority__gte=LOWEST_PRIORITY) & Q(priority__lte=HIGHEST_PRIORITY),
                name="task_priority_in_range",
            ),
            models.CheckConstraint(condition=Q(webhook_due=False) | ~Q(webhook_url=""), name="task_webhook_has_url"),
            models.CheckConstraint(condition=Q(seed__gte=0) & Q(seed__lt=2**32), name="task_seed_in_range"),
        )

    def __str__(self) -> str:
        return str(self.id)


class TaskAttempt(models.Model):
    """One claim of a task: its worker, its times and its outcome."""

    class Outcome(models.TextChoices):
        """Outcome of an attempt; empty while it runs."""

        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELED = "canceled"
        RELEASED = "released"
        LOST = "lost"

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    worker = models.CharField(max_length=255)
    started_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=16, choices=Outcome, blank=True)

    class Meta:
        ordering = ("number",)
        constraints = (
            models.UniqueConstraint(fields=["task", "number"], name="task_attempt_number_unique"),
            models.CheckConstraint(
                condition=Q(outcome="", ended_at__isnull=True) | (~Q(outcome="") & Q(ended_at__isnull=False)),
                name="task_attempt_outcome_when_ended",
            ),
        )

    def __str__(self) -> str:
        return f"{self.task_id}/{self.number}"


class TaskImage(models.Model):
    """One image of a task that succeeded."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="images")
    index = models.PositiveSmallIntegerField()
    attempt = models.PositiveIntegerField(help_text="The attempt that generated it.")
    file = models.FileField(max_length=255)
    content_type = models.CharField(max_length=32, default="image/png")
    seed = models.BigIntegerField()
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    flagged = models.BooleanField(default=False, help_text="The model's safety checker replaced this image.")
    blank = models.BooleanField(default=False, help_text="All pixels are black, as after a numeric overflow.")
    purged_at = models.DateTimeField(null=True, blank=True, help_text="When its file was deleted.")

    class Meta:
        ordering = ("index",)
        constraints = (models.UniqueConstraint(fields=["task", "index"], name="task_image_index_unique"),)

    def __str__(self) -> str:
        return f"{self.task_id}/{self.index}"
