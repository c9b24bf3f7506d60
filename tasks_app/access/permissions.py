"""Permissions of callers: keys by their scopes, staff by admin permissions, all others by API_AUTH."""

from __future__ import annotations

from typing import TypeVar

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet

from tasks_app.contracts import Principal
from tasks_app.models import Scope, Task, Upload

OwnedRow = TypeVar("OwnedRow", Task, Upload)

NO_ACCESS = Principal(scopes=frozenset())
# Anonymous callers share all tasks without a key.
ANONYMOUS = Principal(scopes=frozenset([Scope.READ, Scope.SUBMIT, Scope.MODELS]))
_SCOPES_BY_PERMISSION = {
    "tasks_app.view_task": {Scope.READ, Scope.READ_ANY, Scope.MODELS},
    "tasks_app.change_task": {Scope.READ, Scope.READ_ANY, Scope.MODELS, Scope.SUBMIT, Scope.CANCEL_ANY},
}


def get_user_principal(user: User | AnonymousUser | None) -> Principal:
    """Return the principal of a caller without a key, signed in to the admin or not."""
    anybody = ANONYMOUS if settings.API_AUTH == "optional" else NO_ACCESS
    if user is None or not user.is_staff:
        return anybody
    granted = [scopes for permission, scopes in _SCOPES_BY_PERMISSION.items() if user.has_perm(permission)]
    return Principal(scopes=anybody.scopes.union(*granted))


def filter_usable(uploads: QuerySet[Upload], caller: Principal) -> QuerySet[Upload]:
    """Return the uploads that the caller's tasks may use."""
    return uploads if Scope.READ_ANY in caller.scopes else filter_own(uploads, caller)


def filter_visible(tasks: QuerySet[Task], caller: Principal) -> QuerySet[Task]:
    """Return the tasks that the caller may see."""
    if Scope.READ_ANY in caller.scopes:
        return tasks
    return filter_own(tasks, caller) if Scope.READ in caller.scopes else tasks.none()


def filter_cancelable(tasks: QuerySet[Task], caller: Principal) -> QuerySet[Task]:
    """Return the tasks that the caller may cancel."""
    if Scope.CANCEL_ANY in caller.scopes:
        return tasks
    return filter_own(tasks, caller) if Scope.SUBMIT in caller.scopes else tasks.none()


def filter_repeatable(tasks: QuerySet[Task], caller: Principal) -> QuerySet[Task]:
    """Return the tasks that the caller may run again: its own, and those of others that it may see."""
    return tasks if Scope.READ_ANY in caller.scopes else filter_own(tasks, caller)


def filter_own(rows: QuerySet[OwnedRow], caller: Principal) -> QuerySet[OwnedRow]:
    """Return the rows of the caller's key, or those without a key if the caller has none."""
    return rows.filter(key_id__isnull=True) if caller.key_id is None else rows.filter(key_id=caller.key_id)
