"""What can go wrong, under one root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers_handler_client.shapes import Task


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """What is wrong with one field of a request; `path` is empty for the request as a whole."""

    path: str
    code: str
    message: str


class ApiError(Exception):
    """The service refused a request or could not answer it.

    `code` is one of the stable codes of docs/api.md; `status` is the answer's, None where there was none; `retry_after`
    is how many seconds the service asks to wait.
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
        """Take what the service said."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.fields = fields
        self.retry_after = retry_after


class Unreachable(ApiError):
    """No service answers at the address, or its answer broke off."""

    def __init__(self, message: str) -> None:
        """Take what happened."""
        super().__init__(message, code="unreachable")


class WaitTimeout(ApiError, TimeoutError):
    """The task has not ended within the time that was given; it goes on."""

    def __init__(self, task: Task, seconds: float) -> None:
        """Take the task as it was seen last."""
        super().__init__(f"Task {task.id} is still {task.status} after {seconds:g} s.", code="wait_timeout")
        self.task = task


class TaskFailed(ApiError):
    """The task ended without pictures; `task` says how, `retryable` whether another try may help."""

    def __init__(self, task: Task) -> None:
        """Take the task as it ended."""
        reason = task.error.message if task.error else "no reason is given"
        super().__init__(f"Task {task.id} {task.status}: {reason}", code=task.error.code if task.error else "internal")
        self.task = task
        self.retryable = bool(task.error and task.error.retryable)
