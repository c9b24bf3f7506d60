"""Errors, all of them kinds of `ApiError`."""

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
    """The service rejected a request or could not answer it.

    `code` is one of the stable codes of docs/reference/api.md, `status` the answer's status or None without an answer,
    and `retry_after` the number of seconds that the service asks to wait.
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
        """Store the parts of the answer."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.fields = fields
        self.retry_after = retry_after


class Unreachable(ApiError):
    """No service answers at the address, or the connection broke off."""

    def __init__(self, message: str) -> None:
        """Store a description of the failure."""
        super().__init__(message, code="unreachable")


class WaitTimeout(ApiError, TimeoutError):
    """The task has not ended in time; it continues."""

    def __init__(self, task: Task, seconds: float) -> None:
        """Store the task as last read."""
        super().__init__(f"Task {task.id} is still {task.status} after {seconds:g} s.", code="wait_timeout")
        self.task = task


class TaskFailed(ApiError):
    """The task failed or was canceled; `retryable` is whether submitting it again may help."""

    def __init__(self, task: Task) -> None:
        """Store the task as it ended."""
        reason = task.error.message if task.error else "no reason is given"
        super().__init__(f"Task {task.id} {task.status}: {reason}", code=task.error.code if task.error else "internal")
        self.task = task
        self.retryable = bool(task.error and task.error.retryable)
