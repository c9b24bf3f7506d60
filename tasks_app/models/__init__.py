"""Database models, the source of truth: fields, constraints and indexes.

Only `queue.lifecycle` changes a task's status.
"""

from tasks_app.models.diffusion_model import DiffusionModel
from tasks_app.models.keys import ApiKey, IdempotencyKey, Scope, SelectedCheckpoint, WebhookEvent
from tasks_app.models.pause import Pause
from tasks_app.models.tasks import (
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    TERMINAL,
    Phase,
    Status,
    Task,
    TaskAttempt,
    TaskImage,
)
from tasks_app.models.uploads import Upload
from tasks_app.models.webhooks import WebhookDelivery
from tasks_app.models.worker import Worker, WorkerCommand

__all__ = [
    "HIGHEST_PRIORITY",
    "LOWEST_PRIORITY",
    "TERMINAL",
    "ApiKey",
    "DiffusionModel",
    "IdempotencyKey",
    "Pause",
    "Phase",
    "Scope",
    "SelectedCheckpoint",
    "Status",
    "Task",
    "TaskAttempt",
    "TaskImage",
    "Upload",
    "WebhookDelivery",
    "WebhookEvent",
    "Worker",
    "WorkerCommand",
]
