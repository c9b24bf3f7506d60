"""Bounded counts, filters and search that keep the task list as fast with a million rows as with a thousand.

Rows are counted up to MAX_COUNTED; older ones are reached through `before`, a keyset filter that starts the list below
a task.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.contrib import admin
from django.contrib.postgres.search import SearchQuery, SearchVector
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KT
from django.http import HttpRequest
from django.utils.functional import cached_property

from tasks_app import errors
from tasks_app.models import DiffusionModel, Task, Worker

MAX_COUNTED = 10_000


# Django's Paginator can't be subscripted at run time.
if TYPE_CHECKING:
    TaskPaginator = Paginator[Task]
else:
    TaskPaginator = Paginator


class BoundedPaginator(TaskPaginator):
    """Paginator that stops counting at MAX_COUNTED, because counting all rows would read them all."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most MAX_COUNTED."""
        rows: QuerySet[Task] = cast("QuerySet[Task]", self.object_list)
        return rows.order_by()[:MAX_COUNTED].count()


class NameFilter(admin.SimpleListFilter):
    """Filter on a column by names that are known without reading the tasks; the URL may contain other names."""

    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the known names and the requested one."""
        names = dict.fromkeys(self.get_names())
        if self.used_parameters.get(str(self.parameter_name)):
            names[self.used_parameters[str(self.parameter_name)]] = None
        return [(name, self.format_name(name)) for name in names]

    def get_names(self) -> list[str]:
        """Return the names to choose from."""
        raise NotImplementedError

    def format_name(self, name: str) -> str:
        """Format a name for display."""
        return name

    def has_output(self) -> bool:
        """Return True even without choices: Django would ignore the filter otherwise."""
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        """Filter by the chosen name, if there is one."""
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class ErrorCodeFilter(NameFilter):
    """Filter by error code."""

    title = "error"
    parameter_name = column = "error_code"

    def get_names(self) -> list[str]:
        """Return all public error codes."""
        return sorted(errors.RETRYABLE)

    def format_name(self, name: str) -> str:
        """Format the code as words."""
        return name.replace("_", " ")


class ModelFilter(NameFilter):
    """Filter by model."""

    title = "model"
    parameter_name = column = "model_id"

    def get_names(self) -> list[str]:
        """Return the models that have rows."""
        return list(DiffusionModel.objects.values_list("model_id", flat=True))


class WorkerFilter(NameFilter):
    """Filter by the worker that ran the task last."""

    title = "worker"
    parameter_name = column = "worker"

    def get_names(self) -> list[str]:
        """Return the workers that have rows."""
        return list(Worker.objects.values_list("name", flat=True))


class BeforeFilter(admin.SimpleListFilter):
    """Filter that starts the list below a task, so that deep pages cost as little as the first."""

    title = "place in the list"
    parameter_name = "before"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the task that the list starts below, if there is one."""
        chosen = self.used_parameters.get(self.parameter_name)
        return [(chosen, f"older than {chosen[:8]}…")] if chosen else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        """Return the tasks older than the given one; none if it does not exist."""
        if not self.value():
            return queryset
        task_id = _parse_uuid(str(self.value()))
        task = task_id and Task.objects.filter(pk=task_id).only("created_at").first()
        if not task:
            return queryset.none()
        older = Q(created_at__lt=task.created_at) | Q(created_at=task.created_at, pk__lt=task.pk)
        # The first condition is implied by the second, but it is the one that can use an index.
        return queryset.filter(Q(created_at__lte=task.created_at) & older)


def search_tasks(tasks: QuerySet[Task], text: str) -> QuerySet[Task]:
    """Return the task with this id, or the tasks whose prompt has a word that begins with each given word."""
    if task_id := _parse_uuid(text.strip()):
        return tasks.filter(pk=task_id)
    words = re.findall(r"\w+", text)
    if not words:
        return tasks.none()
    query = SearchQuery(" & ".join(f"{word}:*" for word in words), config="simple", search_type="raw")
    return tasks.alias(words=SearchVector(KT("params__prompt"), config="simple")).filter(words=query)


def _parse_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
