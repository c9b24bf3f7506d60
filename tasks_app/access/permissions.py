"""Who may see and do what: keys by their scopes, staff by the permissions of the admin, others as API_AUTH says."""

from __future__ import annotations

from typing import TypeVar

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet

from tasks_app.contracts import Caller
from tasks_app.models import Scope, Task, Upload

Row = TypeVar("Row", Task, Upload)

NOBODY = Caller(scopes=frozenset())
# They share the tasks that came without a key.
ANONYMOUS = Caller(scopes=frozenset([Scope.READ, Scope.SUBMIT, Scope.MODELS]))
_BY_PERMISSION = {
    "tasks_app.view_task": {Scope.READ, Scope.READ_ANY, Scope.MODELS},
    "tasks_app.change_task": {Scope.READ, Scope.READ_ANY, Scope.MODELS, Scope.SUBMIT, Scope.CANCEL_ANY},
}


def visitor(user: User | AnonymousUser | None) -> Caller:
    """Return what somebody without a key may do, signed in to the admin or not."""
    anybody = ANONYMOUS if settings.API_AUTH == "optional" else NOBODY
    if user is None or not user.is_staff:
        return anybody
    granted = [scopes for permission, scopes in _BY_PERMISSION.items() if user.has_perm(permission)]
    return Caller(scopes=anybody.scopes.union(*granted))


def usable(uploads: QuerySet[Upload], caller: Caller) -> QuerySet[Upload]:
    """Return those of the uploads that the caller's tasks may begin with."""
    return uploads if Scope.READ_ANY in caller.scopes else own(uploads, caller)


def visible(tasks: QuerySet[Task], caller: Caller) -> QuerySet[Task]:
    """Return those of the tasks that the caller may see."""
    if Scope.READ_ANY in caller.scopes:
        return tasks
    return own(tasks, caller) if Scope.READ in caller.scopes else tasks.none()


def cancelable(tasks: QuerySet[Task], caller: Caller) -> QuerySet[Task]:
    """Return those of the tasks that the caller may cancel."""
    if Scope.CANCEL_ANY in caller.scopes:
        return tasks
    return own(tasks, caller) if Scope.SUBMIT in caller.scopes else tasks.none()


def repeatable(tasks: QuerySet[Task], caller: Caller) -> QuerySet[Task]:
    """Return those of the tasks that the caller may run again: its own, and what it may see of others."""
    return tasks if Scope.READ_ANY in caller.scopes else own(tasks, caller)


def own(rows: QuerySet[Row], caller: Caller) -> QuerySet[Row]:
    """Return those of the rows that came with the caller's key; without one, those that came without."""
    return rows.filter(key_id__isnull=True) if caller.key_id is None else rows.filter(key_id=caller.key_id)
