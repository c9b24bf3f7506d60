"""The rows that are the truth: fields, constraints and indexes. `lifecycle` alone changes a task's status."""

from tasks_app.models.fleet import DiffusionModel, Pause, Worker, WorkerCommand
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
from tasks_app.models.webhooks import WebhookDelivery

__all__ = [
    "HIGHEST_PRIORITY",
    "LOWEST_PRIORITY",
    "TERMINAL",
    "DiffusionModel",
    "Pause",
    "Phase",
    "Status",
    "Task",
    "TaskAttempt",
    "TaskImage",
    "WebhookDelivery",
    "Worker",
    "WorkerCommand",
]
