"""Bodies of error responses."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from tasks_app.answers.types import Count


class InvalidField(TypedDict):
    """An invalid value in a request."""

    path: Annotated[str, Field(description="Path of the value, separated by dots; empty for the whole body.")]
    code: str
    message: str


class Limit(TypedDict):
    """The limit that a request exceeds."""

    name: str
    max: Count


class Error(TypedDict):
    """Error in a response."""

    code: str
    message: Annotated[str, Field(description="For people; it may change.")]
    retryable: bool
    fields: NotRequired[Annotated[list[InvalidField], Field(min_length=1)]]
    limit: NotRequired[Limit]


class ErrorBody(TypedDict):
    """Body of an error response."""

    error: Error
