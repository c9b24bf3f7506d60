"""The admin's log of user actions on rows."""

from __future__ import annotations

from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Model
from django.http import HttpRequest


def write_entry(request: HttpRequest, subject: Model, message: str, flag: int = CHANGE) -> None:
    """Log an action of the current user on a row; `flag` is Django's flag for it, CHANGE or DELETION."""
    assert request.user.pk is not None, "only people who are logged in get here"
    LogEntry.objects.log_actions(request.user.pk, [subject], flag, change_message=message, single_object=True)
