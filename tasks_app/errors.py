"""Exceptions of the service; the errors of tasks derive from TaskError.

Messages are shown to users and contain neither paths nor tokens.
"""

from __future__ import annotations


class TaskError(Exception):
    """Base class of the errors that end a task or reject a request."""

    code = "internal"
    retryable = False


class InvalidParamsError(TaskError):
    """The task can't be run with these parameters."""

    code = "invalid_params"


class ModelNotAllowedError(TaskError):
    """The model is not allowed on this server."""

    code = "model_not_allowed"


class ModelUnavailableError(TaskError):
    """The model's files are not on this host and can't be downloaded."""

    code = "model_unavailable"
    retryable = True


class ModelLoadError(TaskError):
    """The model's files are on this host but can't be loaded as a text-to-image pipeline."""

    code = "model_load_failed"


class OutOfMemoryError(TaskError):
    """The device doesn't have enough memory for the task."""

    code = "out_of_memory"
    retryable = True


class DeviceLostError(TaskError):
    """The device failed, and only a new process can use it again."""

    retryable = True


class TaskTimeoutError(TaskError):
    """The task did not finish before its deadline."""

    code = "timed_out"
    retryable = True


class WorkerLostError(TaskError):
    """Too many workers stopped responding while they ran this task."""

    code = "worker_lost"
    retryable = True


class TaskCanceledError(TaskError):
    """The task was canceled."""

    code = "canceled"


class StorageError(TaskError):
    """A file couldn't be stored, read or removed."""

    code = "storage_failed"
    retryable = True


class InvalidImageError(TaskError):
    """An image file can't be decoded, or contains no generation metadata."""

    code = "invalid_image"


class InternalError(TaskError):
    """The task failed with an unexpected error."""

    retryable = True


class QuotaExceededError(TaskError):
    """The caller has reached one of its limits."""

    code = "limit_exceeded"
    retryable = True

    def __init__(self, limit: str, most: int, *, retry_after: float) -> None:
        """Initialize with the limit's name as in the API, its maximum, and `retry_after` in seconds."""
        super().__init__(f"This key may have at most {most} {limit.replace('_', ' ')}. Try again later.")
        self.limit, self.most, self.retry_after = limit, most, retry_after


class IdempotencyKeyReusedError(TaskError):
    """The Idempotency-Key was already used for a request with a different body."""

    code = "idempotency_key_reused"


class NotReproducibleError(TaskError):
    """Only a task that succeeded can be reproduced."""

    code = "not_reproducible"


RETRYABLE = {error.code: error.retryable for error in TaskError.__subclasses__()}


class GenerationAbortedError(Exception):
    """Raised by a run's progress callback when the supervisor wants the run to end."""


class WebhookUrlRefusedError(Exception):
    """A webhook's URL is invalid or not allowed; the message gives the reason."""
