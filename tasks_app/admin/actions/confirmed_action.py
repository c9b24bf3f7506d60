"""Actions that admin pages run after a confirmation, and the buttons that lead to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import urlencode

from django import forms
from django.contrib.admin.models import CHANGE
from django.contrib.auth.models import User
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

TargetT = TypeVar("TargetT")
# Cleaned data of a confirmation's form.
FormData = Mapping[str, Any]


class Button(TypedDict):
    """A link to an action's confirmation."""

    title: str
    icon: str
    url: str


class ConfirmationForm(forms.Form):
    """Form of a confirmation; subclasses derive choices and initial values from the action's targets."""

    def __init__(self, data: Mapping[str, Any] | None = None, *, targets: Sequence[Any]) -> None:
        super().__init__(data)


@dataclass(frozen=True, kw_only=True)
class ActionResult:
    """Result of an action for one target.

    `log` is empty if nothing changed; otherwise it is logged on `log_row`, or on the target. `next_url` is the page to
    show next; by default it is the page with the action's button.
    """

    message: str
    log: str = ""
    log_row: Model | None = None
    next_url: str = ""


@dataclass(frozen=True, kw_only=True)
class ConfirmedAction(Generic[TargetT]):
    """An action of an admin page that runs after confirmation.

    `name` ends its URL, below the pages of `model`; `is_applicable` returns whether a target would change, and
    `not_applicable` explains why not; `log_flag` is Django's kind of log entry.
    """

    name: str
    title: str
    icon: str
    model: type[Model]
    permission: str
    description: str | Callable[[TargetT], str]
    run: Callable[[TargetT, FormData, User], ActionResult]
    is_applicable: Callable[[TargetT], bool] = lambda target: True
    not_applicable: str = ""
    question: str = "{title} {target}?"
    form: Callable[..., forms.Form] = ConfirmationForm
    log_flag: int = CHANGE
    danger: bool = False

    @property
    def url_name(self) -> str:
        """Return the name of the URL that shows the confirmation on GET and runs the action on POST."""
        return f"tasks_app_{self.model._meta.model_name}_{self.name}"

    def get_url(self, *args: Any, **query: str) -> str:
        """Return that URL for a target."""
        given = urlencode({name: value for name, value in query.items() if value})
        return reverse(f"admin:{self.url_name}", args=args) + (f"?{given}" if given else "")

    def build_button(self, request: HttpRequest, *args: Any, **query: str) -> Button | None:
        """Return the button for a target; None if the user lacks the permission."""
        if not request.user.has_perm(self.permission):
            return None
        return Button(title=self.title, icon=self.icon, url=self.get_url(*args, **query))

    def describe_effect(self, targets: Sequence[TargetT]) -> str:
        """Return the description for these targets."""
        return self.description if isinstance(self.description, str) else self.description(targets[0])
