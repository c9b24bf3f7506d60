"""The rows of models: their initial values, load options and annotations."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from huggingface_hub import ModelCard
from yaml import YAMLError

from tasks_app.catalog import resolve
from tasks_app.engine.types import LoadOptions
from tasks_app.models import DiffusionModel, Pause
from tasks_app.task_types import parameters

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    class PausedAnnotation(TypedDict):
        """Annotations of a model's row."""

        is_paused: bool


logger = logging.getLogger(__name__)

# The Hub's names of parameters in a model card's front matter, and the columns that they fill.
_CARD_COLUMNS = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}
# Executed with every run.
_OPTION_COLUMNS = [option.name for option in fields(LoadOptions)]
_SELECT_OPTIONS = f"SELECT {', '.join(_OPTION_COLUMNS)} FROM {DiffusionModel._meta.db_table} WHERE model_id = %s"


def annotate_paused(rows: QuerySet[DiffusionModel]) -> QuerySet[WithAnnotations[DiffusionModel, PausedAnnotation]]:
    """Annotate each model with `is_paused`."""
    pauses = Pause.objects.filter(scope=Pause.Scope.MODEL, target=OuterRef("model_id"))
    return rows.annotate(is_paused=Exists(pauses))


def fetch_load_options(model_id: str) -> LoadOptions:
    """Return the load options of a model from the database, the default ones if it has no row."""
    with connection.cursor() as cursor:
        cursor.execute(_SELECT_OPTIONS, [model_id])
        row = cursor.fetchone()
    return LoadOptions() if row is None else LoadOptions(**dict(zip(_OPTION_COLUMNS, row, strict=True)))


def load_options_of(row: DiffusionModel) -> LoadOptions:
    """Return the load options of a row."""
    return LoadOptions(**{option: getattr(row, option) for option in _OPTION_COLUMNS})


def sync_rows() -> None:
    """Create rows for the models in MODELS_DIR and in the settings; existing rows are unchanged."""
    DiffusionModel.objects.bulk_create(_build_settings_rows(), ignore_conflicts=True)


def sync_after_migrate(**kwargs: Any) -> None:
    """Call `sync_rows` once the table exists."""
    if DiffusionModel._meta.db_table in connection.introspection.table_names():
        sync_rows()


def _build_settings_rows() -> Iterator[DiffusionModel]:
    names = resolve.get_local_model_names() | {
        settings.MODEL_ALIASES.get(name, name) for name in resolve.drop_patterns(resolve.list_rules())
    }
    for name in sorted(names):
        if resolve.resolve_from_settings(name) is not None:
            aliases = [alias for alias, model_id in settings.MODEL_ALIASES.items() if model_id == name]
            yield DiffusionModel(model_id=name, aliases=aliases, **_read_card(name))


def _read_card(name: str) -> dict[str, Any]:
    """Return the default parameters and the licence in a local model's card."""
    path = settings.MODELS_DIR / name / "README.md"
    data = _read_front_matter(path) if name in resolve.get_local_model_names() and path.is_file() else {}
    if not data:
        return {}
    # In many cards `inference` only states whether the Hub may run the model: `inference: false`.
    inference = data.get("inference")
    given = inference.get("parameters", {}) if isinstance(inference, dict) else {}
    found = {column: given[name] for name, column in _CARD_COLUMNS.items() if name in given}
    usable = {} if parameters.find_default_errors(found) else found
    return usable | {"license_note": str(data.get("license", ""))}


def _read_front_matter(path: Path) -> dict[str, Any]:
    """Return a card's front matter; an unreadable card must stop neither a migrate nor a worker."""
    try:
        text = path.read_text(encoding="utf-8")
        if not text.startswith("---"):
            return {}  # the library would complain about a card without front matter
        found: dict[str, Any] = ModelCard(text, ignore_metadata_errors=True).data.to_dict()  # type: ignore[no-untyped-call]
    except (OSError, ValueError, YAMLError) as error:
        logger.warning("Can't read the model card of %s (%s).", path.parent.name, type(error).__name__)
        return {}
    return found
