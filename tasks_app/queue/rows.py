"""Tasks of the rows that a statement of our own returns, in the order that their columns have in the model.

The ORM's raw queries find out at every call which column is which: a third of a claim's processor time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection

from tasks_app.models import Task

_FIELDS = Task._meta.concrete_fields
_ATTNAMES = [field.attname for field in _FIELDS]
_CONVERTERS = [getattr(field, "from_db_value", None) for field in _FIELDS]


def select_columns(table: str) -> str:
    """Return the list of columns for a SELECT from this table, or from what goes by that name in the statement."""
    return ", ".join(f"{table}.{field.column}" for field in _FIELDS)


def build_tasks(rows: Iterable[Sequence[Any]]) -> list[Task]:
    """Return the tasks whose columns these are."""
    return [Task.from_db(connection.alias, _ATTNAMES, _convert_row(row)) for row in rows]


def _convert_row(row: Sequence[Any]) -> list[Any]:
    return [
        value if convert is None else convert(value, None, connection)
        for value, convert in zip(row, _CONVERTERS, strict=True)
    ]
