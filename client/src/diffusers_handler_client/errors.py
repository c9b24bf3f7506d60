"""The exceptions of this package, with ApiError as their base class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers_handler_client.shapes import Task


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """Error in one field of a request; `path` is empty for the request as a whole."""

    path: str
    code: str
    message: str


class ApiError(Exception):
    """The service refused a request or could not answer it.

    `code` is one of the stable codes of docs/reference/api.md; `status` is the HTTP status, None without a response;
    `retry_after` is the number of seconds that the service asks the client to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None = None,
        fields: tuple[FieldError, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        """Store the details of the service's error response."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.fields = fields
        self.retry_after = retry_after


class Unreachable(ApiError):
    """No service answers at the address, or the connection broke off."""

    def __init__(self, message: str) -> None:
        """Store the cause."""
        super().__init__(message, code="unreachable")


class WaitTimeout(ApiError, TimeoutError):
    """The task has not ended within the given time; the service continues it."""

    def __init__(self, task: Task, seconds: float) -> None:
        """Store the last known state of the task."""
        super().__init__(f"Task {task.id} is still {task.status} after {seconds:g} s.", code="wait_timeout")
        self.task = task


class TaskFailed(ApiError):
    """The task ended without images; `task` has the reason, `retryable` is True if another attempt may succeed."""

    def __init__(self, task: Task) -> None:
        """Store the ended task."""
        reason = task.error.message if task.error else "no reason is given"
        super().__init__(f"Task {task.id} {task.status}: {reason}", code=task.error.code if task.error else "internal")
        self.task = task
        self.retryable = bool(task.error and task.error.retryable)
