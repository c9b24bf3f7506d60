"""Everything that can go wrong with a task, under one root; messages are for people and carry no paths or tokens."""

from __future__ import annotations


class TaskError(Exception):
    """Something in the service's own domain went wrong."""

    code = "internal"
    retryable = False


class InvalidParamsError(TaskError):
    """The parameters can't be carried out by the chosen model."""

    code = "invalid_params"


class ModelNotAllowedError(TaskError):
    """The model is not allowed on this server."""

    code = "model_not_allowed"


class ModelUnavailableError(TaskError):
    """The model's files are neither here nor to be fetched."""

    code = "model_unavailable"
    retryable = True


class ModelLoadError(TaskError):
    """The model's files are here but don't make a text-to-image pipeline."""

    code = "model_load_failed"


class OutOfMemoryError(TaskError):
    """The device has not enough memory for the task."""

    code = "out_of_memory"
    retryable = True


class DeviceLostError(TaskError):
    """The device failed in a way that only a new process gets over."""

    retryable = True


class TaskTimeoutError(TaskError):
    """The task's deadline passed."""

    code = "timed_out"
    retryable = True


class WorkerLostError(TaskError):
    """The workers that ran the task stopped answering too often."""

    code = "worker_lost"
    retryable = True


class TaskCanceledError(TaskError):
    """Somebody canceled the task."""

    code = "canceled"


class StorageError(TaskError):
    """The pictures could not be stored."""

    code = "storage_failed"
    retryable = True


class InvalidImageError(TaskError):
    """A picture's file does not tell how it was made."""

    code = "invalid_image"


class InternalError(TaskError):
    """The task failed with an error that the service does not know."""

    retryable = True


class QuotaExceededError(TaskError):
    """The caller has as much of something as it may have."""

    code = "limit_exceeded"
    retryable = True

    def __init__(self, limit: str, most: int, *, retry_after: float) -> None:
        """`limit` names it as the API does; `retry_after` is in seconds."""
        super().__init__(f"This key may have at most {most} {limit.replace('_', ' ')}.")
        self.limit, self.most, self.retry_after = limit, most, retry_after


class IdempotencyKeyReusedError(TaskError):
    """The Idempotency-Key was used before, for a request with another body."""

    code = "idempotency_key_reused"


class NotReproducibleError(TaskError):
    """Only a task that has succeeded can be reproduced."""

    code = "not_reproducible"


RETRYABLE = {error.code: error.retryable for error in TaskError.__subclasses__()}


class GenerationAbortedError(Exception):
    """Raised inside a run, from its progress callback, when its supervisor wants it to end."""


class WebhookUrlRefusedError(Exception):
    """A webhook's URL leads to where this server does not call; the message says why."""
