"""What keeps the list of tasks as quick with a million rows as with a thousand: bounded counts, filters, search.

Pages are counted up to a bound; what is older is reached by `before`, a keyset that starts the list anew below a task.
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


# Django's own can't be subscripted when it runs.
if TYPE_CHECKING:
    TaskPaginator = Paginator[Task]
else:
    TaskPaginator = Paginator


class BoundedPaginator(TaskPaginator):
    """Counts no further than the bound: a count of all rows would read them all."""

    @cached_property
    def count(self) -> int:
        """Return how many rows there are, or the bound."""
        rows: QuerySet[Task] = cast("QuerySet[Task]", self.object_list)
        return rows.order_by()[:MAX_COUNTED].count()


class NameFilter(admin.SimpleListFilter):
    """Filters a column by names that are known without reading the tasks; others can be asked for by address."""

    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the names, and the one that is asked for."""
        names = dict.fromkeys(self.get_names())
        if self.used_parameters.get(str(self.parameter_name)):
            names[self.used_parameters[str(self.parameter_name)]] = None
        return [(name, self.format_name(name)) for name in names]

    def get_names(self) -> list[str]:
        """Return the names to choose from."""
        raise NotImplementedError

    def format_name(self, name: str) -> str:
        """Write a name as people read it."""
        return name

    def has_output(self) -> bool:
        """Show the filter even when nothing can be chosen: it would be ignored otherwise."""
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        """Keep the chosen name."""
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class ErrorCodeFilter(NameFilter):
    """Filters by what went wrong."""

    title = "error"
    parameter_name = column = "error_code"

    def get_names(self) -> list[str]:
        """Return every public code."""
        return sorted(errors.RETRYABLE)

    def format_name(self, name: str) -> str:
        """Write the code in words."""
        return name.replace("_", " ")


class ModelFilter(NameFilter):
    """Filters by model."""

    title = "model"
    parameter_name = column = "model_id"

    def get_names(self) -> list[str]:
        """Return the models that have rows."""
        return list(DiffusionModel.objects.values_list("model_id", flat=True))


class WorkerFilter(NameFilter):
    """Filters by who ran it last."""

    title = "worker"
    parameter_name = column = "worker"

    def get_names(self) -> list[str]:
        """Return the workers that have rows."""
        return list(Worker.objects.values_list("name", flat=True))


class BeforeFilter(admin.SimpleListFilter):
    """Begins the list below a task: pages as deep as one likes cost the same."""

    title = "place in the list"
    parameter_name = "before"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the task that the list begins below, if there is one."""
        chosen = self.used_parameters.get(self.parameter_name)
        return [(chosen, f"older than {chosen[:8]}…")] if chosen else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        """Keep what is older than the task; without such a task, nothing."""
        if not self.value():
            return queryset
        task_id = _parse_uuid(str(self.value()))
        task = task_id and Task.objects.filter(pk=task_id).only("created_at").first()
        if not task:
            return queryset.none()
        older = Q(created_at__lt=task.created_at) | Q(created_at=task.created_at, pk__lt=task.pk)
        # The first condition, implied by the second, is the one that an index carries out.
        return queryset.filter(Q(created_at__lte=task.created_at) & older)


def search_tasks(tasks: QuerySet[Task], text: str) -> QuerySet[Task]:
    """Return the task of an id, or those whose prompt has words that begin with each of these."""
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
