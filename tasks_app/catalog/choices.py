"""The models that people can choose from, and the default one."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.db import transaction

from tasks_app.catalog import resolve
from tasks_app.models import DiffusionModel


def get_default_name() -> str:
    """Return the name of the model for requests that name none."""
    return pick_default_name(DiffusionModel.objects.filter(is_default=True))


def pick_default_name(rows: Iterable[DiffusionModel]) -> str:
    """Return the name of the default model among these rows, else the one in the settings."""
    return next((row.model_id for row in rows if row.is_default), str(settings.DEFAULT_MODEL_ID))


@transaction.atomic
def set_default_model(model: resolve.ResolvedModel) -> None:
    """Make this the model for requests that name none."""
    DiffusionModel.objects.filter(is_default=True).update(is_default=False)
    DiffusionModel.objects.update_or_create(model_id=model.model_id, defaults={"is_default": True})


def get_public_ids() -> list[str]:
    """Return the public names that are not patterns."""
    return resolve.drop_patterns(resolve.get_public_names())


def get_model_choices() -> tuple[str, dict[str, resolve.ResolvedModel | None]]:
    """Return the default model's name, and the model of each public name that is not a pattern.

    The model is None if it is no longer available.
    """
    rows = list(DiffusionModel.objects.all())
    named = {
        name: resolve.resolve_from_settings(name) if row is None else resolve.resolve_from_row(row, name)
        for name, row in _map_ids_to_rows(rows).items()
    }
    return pick_default_name(rows), named


def get_created_by_id() -> dict[str, float]:
    """Return the creation timestamp of the row of each public name that is not a pattern.

    The timestamp is 0 for models without a row.
    """
    rows = list(DiffusionModel.objects.all())
    return {name: 0 if row is None else row.created_at.timestamp() for name, row in _map_ids_to_rows(rows).items()}


def _map_ids_to_rows(rows: list[DiffusionModel]) -> dict[str, DiffusionModel | None]:
    by_name = {name: row for row in rows for name in (row.model_id, *row.aliases)}
    return {
        name: by_name.get(settings.MODEL_ALIASES.get(name, name))
        for name in resolve.drop_patterns(resolve.collect_names(rows))
    }
