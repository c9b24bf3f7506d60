"""Models that this server allows, their names, and the options they are loaded and called with by default.

A model's row defines all of this. Rows are edited in the admin and take effect with the next request. The settings
define the initial rows, and the patterns of Hub models that need no row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from yaml import YAMLError

from tasks_app.engine import model_files
from tasks_app.engine.types import LoadOptions
from tasks_app.errors import ModelLoadError, ModelNotAllowedError
from tasks_app.models import DiffusionModel, Pause
from tasks_app.task_types import parameters

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    class PausedAnnotation(TypedDict):
        """Annotations of a model's row."""

        is_paused: bool


logger = logging.getLogger(__name__)

# Columns with the values of parameters that a request omits.
DEFAULT_COLUMNS = ("steps", "guidance_scale", "width", "height", "scheduler", "negative_prompt")
# The Hub's names of parameters in a model card's front matter, and the columns that they fill.
_CARD_COLUMNS = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}

# Executed with every submission: building the statement with the ORM would take longer than running it.
_SELECT_BY_NAME = f"""
SELECT * FROM {DiffusionModel._meta.db_table}
 WHERE model_id = %s OR aliases @> ARRAY[%s]::varchar[] OR (is_default AND %s)
"""
# Executed with every run.
_OPTION_COLUMNS = [option.name for option in fields(LoadOptions)]
_SELECT_OPTIONS = f"SELECT {', '.join(_OPTION_COLUMNS)} FROM {DiffusionModel._meta.db_table} WHERE model_id = %s"


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model of MODELS_DIR or an id on the Hub; an empty revision means the newest one.

    `name` is the requested name, or the default model's if the request names none. `defaults` are the values of
    parameters that a request omits. `max_images` is the model's own limit of images per request, if it has one.
    """

    name: str
    model_id: str
    revision: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    max_images: int | None = None


def resolve_model(name: str | None) -> ResolvedModel:
    """Return the model of a public name; None means the default model.

    Raises:
        ModelNotAllowedError: the name is unknown, or this server doesn't allow the model.
    """
    wanted = settings.DEFAULT_MODEL_ID if name is None else name
    model_id = settings.MODEL_ALIASES.get(wanted, wanted)
    rows = list(DiffusionModel.objects.raw(_SELECT_BY_NAME, [model_id, wanted, name is None]))
    # A default row takes precedence over the setting, and a model's own name over an alias.
    rows.sort(key=lambda row: (name is None and row.is_default, row.model_id == model_id), reverse=True)
    by_default = name is None and bool(rows) and rows[0].is_default
    found = _resolve_from_row(rows[0], None if by_default else wanted) if rows else resolve_from_settings(wanted)
    if found is None:
        names = ", ".join(get_public_names())
        raise ModelNotAllowedError(f"This server does not allow this model. Allowed: {names}.")
    return found


def get_default_name() -> str:
    """Return the name of the model for requests that name none."""
    return pick_default_name(DiffusionModel.objects.filter(is_default=True))


def pick_default_name(rows: Iterable[DiffusionModel]) -> str:
    """Return the name of the default model among these rows, else the one in the settings."""
    return next((row.model_id for row in rows if row.is_default), str(settings.DEFAULT_MODEL_ID))


@transaction.atomic
def set_default_model(model: ResolvedModel) -> None:
    """Make this the model for requests that name none."""
    DiffusionModel.objects.filter(is_default=True).update(is_default=False)
    DiffusionModel.objects.update_or_create(model_id=model.model_id, defaults={"is_default": True})


def annotate_paused(rows: QuerySet[DiffusionModel]) -> QuerySet[WithAnnotations[DiffusionModel, PausedAnnotation]]:
    """Annotate each model with `is_paused`."""
    pauses = Pause.objects.filter(scope=Pause.Scope.MODEL, target=OuterRef("model_id"))
    return rows.annotate(is_paused=Exists(pauses))


def get_public_names() -> list[str]:
    """Return the names that a request may use: models, their aliases, and patterns."""
    return _collect_names(list(DiffusionModel.objects.all()))


def _collect_names(rows: list[DiffusionModel]) -> list[str]:
    refused = {row.model_id for row in rows if not row.allowed}
    named = {
        name for row in rows if row.allowed and is_valid_model_id(row.model_id) for name in (row.model_id, *row.aliases)
    }
    ruled = (
        {rule.partition("@")[0] for rule in settings.ALLOWED_MODELS}
        | get_local_model_names()
        | {settings.DEFAULT_MODEL_ID}
    )
    aliases = {alias for alias, model_id in settings.MODEL_ALIASES.items() if model_id not in refused}
    hidden = refused | {alias for alias, model_id in settings.MODEL_ALIASES.items() if model_id in refused}
    return sorted((named | ruled | aliases) - hidden)


def get_public_ids() -> list[str]:
    """Return the public names that are not patterns."""
    return _filter_ids(get_public_names())


def get_model_choices() -> tuple[str, dict[str, ResolvedModel | None]]:
    """Return the default model's name, and the model of each public name that is not a pattern.

    The model is None if it is no longer available.
    """
    rows = list(DiffusionModel.objects.all())
    named = {
        name: resolve_from_settings(name) if row is None else _resolve_from_row(row, name)
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
    return {name: by_name.get(settings.MODEL_ALIASES.get(name, name)) for name in _filter_ids(_collect_names(rows))}


def get_local_model_names() -> set[str]:
    """Return the names of the models in MODELS_DIR."""
    return model_files.get_model_names(settings.MODELS_DIR)


def is_valid_model_id(model_id: str) -> bool:
    """Return whether this is a valid Hub id, or a model that is in MODELS_DIR now."""
    return _is_hub_id(model_id) or model_id in get_local_model_names()


def find_name_owners(names: Iterable[str], *, besides: int = 0) -> dict[str, str]:
    """Return the model that already uses each of the names, in its row or the settings.

    The row with the primary key `besides` is left out.
    """
    wanted = set(names)
    found = {name: model_id for name, model_id in settings.MODEL_ALIASES.items() if name in wanted}
    rows = DiffusionModel.objects.filter(Q(model_id__in=wanted) | Q(aliases__overlap=list(wanted))).exclude(pk=besides)
    for row in rows:
        found |= dict.fromkeys(wanted & {row.model_id, *row.aliases}, row.model_id)
    return found


def get_pinned_revision(row: DiffusionModel) -> str:
    """Return the commit that the row or else the settings pin a model to; empty means the newest."""
    ruled = None if row.revision else resolve_from_settings(row.model_id)
    return ruled.revision if ruled else row.revision


def find_configuration(model_id: str, revision: str) -> Path | None:
    """Return the folder with a model's configuration, or None if this host has none."""
    hub_cache = settings.PROVIDERS["diffusers"]["hub_cache"]
    try:
        return (
            model_files.find_configuration(settings.MODELS_DIR, hub_cache, model_id, revision)
            if is_valid_model_id(model_id)
            else None
        )
    except ModelLoadError:
        return None


def fetch_load_options(model_id: str) -> LoadOptions:
    """Return the load options of a model from the database, the default ones if it has no row."""
    with connection.cursor() as cursor:
        cursor.execute(_SELECT_OPTIONS, [model_id])
        row = cursor.fetchone()
    return LoadOptions() if row is None else LoadOptions(**dict(zip(_OPTION_COLUMNS, row, strict=True)))


def load_options_of(row: DiffusionModel) -> LoadOptions:
    """Return the load options of a row."""
    return LoadOptions(**{option: getattr(row, option) for option in _OPTION_COLUMNS})


def resolve_from_settings(name: str) -> ResolvedModel | None:
    """Return the model if the settings alone allow it, else None."""
    model_id = settings.MODEL_ALIASES.get(name, name)
    if model_id in get_local_model_names():
        return ResolvedModel(name=name, model_id=model_id, revision="")
    # Rules that pin a revision take precedence over rules that only allow a model.
    for rule in sorted(_list_rules(), key=lambda rule: "@" not in rule):
        pattern, _, revision = rule.partition("@")
        if fnmatchcase(model_id, pattern) and _is_hub_id(model_id):
            return ResolvedModel(name=name, model_id=model_id, revision=revision)
    return None


def sync_rows() -> None:
    """Create rows for the models in MODELS_DIR and in the settings; existing rows are unchanged."""
    DiffusionModel.objects.bulk_create(_build_settings_rows(), ignore_conflicts=True)


def sync_after_migrate(**kwargs: Any) -> None:
    """Call `sync_rows` once the table exists."""
    if DiffusionModel._meta.db_table in connection.introspection.table_names():
        sync_rows()


def is_allowed(row: DiffusionModel) -> bool:
    """Return whether requests may use the model of a row."""
    return row.allowed and is_valid_model_id(row.model_id)


def _resolve_from_row(row: DiffusionModel, wanted: str | None) -> ResolvedModel | None:
    if not is_allowed(row):
        return None
    return ResolvedModel(
        name=wanted or row.model_id,
        model_id=row.model_id,
        revision=get_pinned_revision(row),
        defaults=get_request_defaults(row),
        max_images=row.max_batch,
    )


def get_request_defaults(row: DiffusionModel) -> dict[str, Any]:
    """Return the row's values for parameters that a request omits."""
    values = {name: getattr(row, name) for name in DEFAULT_COLUMNS}
    return {name: value for name, value in values.items() if value not in (None, "")}


def _list_rules() -> list[str]:
    return [settings.DEFAULT_MODEL_ID, *settings.MODEL_ALIASES.values(), *settings.ALLOWED_MODELS]


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _build_settings_rows() -> Iterator[DiffusionModel]:
    names = get_local_model_names() | {settings.MODEL_ALIASES.get(name, name) for name in _filter_ids(_list_rules())}
    for name in sorted(names):
        if resolve_from_settings(name) is not None:
            aliases = [alias for alias, model_id in settings.MODEL_ALIASES.items() if model_id == name]
            yield DiffusionModel(model_id=name, aliases=aliases, **_read_card(name))


def _filter_ids(rules: Iterable[str]) -> list[str]:
    ids = (rule.partition("@")[0] for rule in rules)
    return [name for name in ids if not set(name) & set("*?[")]


def _read_card(name: str) -> dict[str, Any]:
    """Return the default parameters and the licence in a local model's card."""
    path = settings.MODELS_DIR / name / "README.md"
    data = _read_front_matter(path) if name in get_local_model_names() and path.is_file() else {}
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
