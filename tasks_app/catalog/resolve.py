"""Which models this server allows, what their names stand for, and how each is loaded and called by default.

A model's row says all of it; rows are edited in the admin and take effect with the next request. The settings say which
rows there are to begin with, and by patterns which models of the Hub need no row.
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
        """What is said of a row beside its columns."""

        is_paused: bool


logger = logging.getLogger(__name__)

# The columns that stand in for parameters which a request leaves out.
DEFAULT_COLUMNS = ("steps", "guidance_scale", "width", "height", "scheduler", "negative_prompt")
# Parameters of a model card's front matter, under the Hub's names, and the columns they fill.
_CARD_COLUMNS = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}

# Every request for a task asks so: made by the ORM each time, the statement would cost more than its answer.
_SELECT_BY_NAME = f"""
SELECT * FROM {DiffusionModel._meta.db_table}
 WHERE model_id = %s OR aliases @> ARRAY[%s]::varchar[] OR (is_default AND %s)
"""
# So does every run.
_OPTION_COLUMNS = [option.name for option in fields(LoadOptions)]
_SELECT_OPTIONS = f"SELECT {', '.join(_OPTION_COLUMNS)} FROM {DiffusionModel._meta.db_table} WHERE model_id = %s"


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model of MODELS_DIR or an id on the Hub; an empty revision means the newest one.

    `name` is the one that it was asked for by, the default's where a request names none.
    `defaults` are parameters of a request that leaves them out; `max_images` is how many pictures it may ask for, where
    that is fewer than elsewhere.
    """

    name: str
    model_id: str
    revision: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    max_images: int | None = None


def resolve_model(name: str | None) -> ResolvedModel:
    """Return the model that a public name stands for; None stands for the default.

    Raises:
        ModelNotAllowed: it is no model's name, or this server doesn't allow it.
    """
    wanted = settings.DEFAULT_MODEL_ID if name is None else name
    model_id = settings.MODEL_ALIASES.get(wanted, wanted)
    rows = list(DiffusionModel.objects.raw(_SELECT_BY_NAME, [model_id, wanted, name is None]))
    # A row that is the default goes before the setting, and a model's own name before an alias.
    rows.sort(key=lambda row: (name is None and row.is_default, row.model_id == model_id), reverse=True)
    by_default = name is None and bool(rows) and rows[0].is_default
    found = _resolve_from_row(rows[0], None if by_default else wanted) if rows else resolve_from_settings(wanted)
    if found is None:
        names = ", ".join(get_public_names())
        raise ModelNotAllowedError(f"This server does not allow this model. It allows: {names}.")
    return found


def get_default_name() -> str:
    """Return the name of the model that a request gets which names none."""
    return pick_default_name(DiffusionModel.objects.filter(is_default=True))


def pick_default_name(rows: Iterable[DiffusionModel]) -> str:
    """Return the same, when these are all rows."""
    return next((row.model_id for row in rows if row.is_default), str(settings.DEFAULT_MODEL_ID))


@transaction.atomic
def set_default_model(model: ResolvedModel) -> None:
    """Give requests that name no model this one from now on."""
    DiffusionModel.objects.filter(is_default=True).update(is_default=False)
    DiffusionModel.objects.update_or_create(model_id=model.model_id, defaults={"is_default": True})


def annotate_paused(rows: QuerySet[DiffusionModel]) -> QuerySet[WithAnnotations[DiffusionModel, PausedAnnotation]]:
    """Say of each model whether it is paused (`is_paused`)."""
    pauses = Pause.objects.filter(scope=Pause.Scope.MODEL, target=OuterRef("model_id"))
    return rows.annotate(is_paused=Exists(pauses))


def get_public_names() -> list[str]:
    """Return what a request may ask for: models, their aliases, and patterns."""
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
    """Return the public names that are no patterns."""
    return _filter_ids(get_public_names())


def get_model_choices() -> tuple[str, dict[str, ResolvedModel | None]]:
    """Return the default's name, and every public name that is no pattern with its model; None for one that is gone."""
    rows = list(DiffusionModel.objects.all())
    named = {
        name: resolve_from_settings(name) if row is None else _resolve_from_row(row, name)
        for name, row in _map_ids_to_rows(rows).items()
    }
    return pick_default_name(rows), named


def get_created_by_id() -> dict[str, float]:
    """Return every public name that is no pattern, and the time since which its model has a row, else 0."""
    rows = list(DiffusionModel.objects.all())
    return {name: 0 if row is None else row.created_at.timestamp() for name, row in _map_ids_to_rows(rows).items()}


def _map_ids_to_rows(rows: list[DiffusionModel]) -> dict[str, DiffusionModel | None]:
    by_name = {name: row for row in rows for name in (row.model_id, *row.aliases)}
    return {name: by_name.get(settings.MODEL_ALIASES.get(name, name)) for name in _filter_ids(_collect_names(rows))}


def get_local_model_names() -> set[str]:
    """Return the models of MODELS_DIR."""
    return model_files.get_model_names(settings.MODELS_DIR)


def is_valid_model_id(model_id: str) -> bool:
    """Return whether a model can be meant at all: folders and files come and go."""
    return _is_hub_id(model_id) or model_id in get_local_model_names()


def find_name_owners(names: Iterable[str], *, besides: int = 0) -> dict[str, str]:
    """Return by name the model that it stands for already, by its row or the settings, but for one row."""
    wanted = set(names)
    found = {name: model_id for name, model_id in settings.MODEL_ALIASES.items() if name in wanted}
    rows = DiffusionModel.objects.filter(Q(model_id__in=wanted) | Q(aliases__overlap=list(wanted))).exclude(pk=besides)
    for row in rows:
        found |= dict.fromkeys(wanted & {row.model_id, *row.aliases}, row.model_id)
    return found


def get_pinned_revision(row: DiffusionModel) -> str:
    """Return the commit that a model stays at by its row, else by the settings; empty is the newest."""
    ruled = None if row.revision else resolve_from_settings(row.model_id)
    return ruled.revision if ruled else row.revision


def find_configuration(model_id: str, revision: str) -> Path | None:
    """Return the folder that says what a model consists of, where this host has one."""
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
    """Return how a worker is to load a model."""
    with connection.cursor() as cursor:
        cursor.execute(_SELECT_OPTIONS, [model_id])
        row = cursor.fetchone()
    return LoadOptions() if row is None else LoadOptions(**dict(zip(_OPTION_COLUMNS, row, strict=True)))


def load_options_of(row: DiffusionModel) -> LoadOptions:
    """Return how a worker is to load the model of a row."""
    return LoadOptions(**{option: getattr(row, option) for option in _OPTION_COLUMNS})


def resolve_from_settings(name: str) -> ResolvedModel | None:
    """Return the model as the settings alone allow it; None when they don't."""
    model_id = settings.MODEL_ALIASES.get(name, name)
    if model_id in get_local_model_names():
        return ResolvedModel(name=name, model_id=model_id, revision="")
    # A rule that pins a revision goes before one that only allows.
    for rule in sorted(_list_rules(), key=lambda rule: "@" not in rule):
        pattern, _, revision = rule.partition("@")
        if fnmatchcase(model_id, pattern) and _is_hub_id(model_id):
            return ResolvedModel(name=name, model_id=model_id, revision=revision)
    return None


def sync_rows() -> None:
    """Give every model that the settings name a row, if it has none yet; rows that are there stay as they are."""
    DiffusionModel.objects.bulk_create(_build_settings_rows(), ignore_conflicts=True)


def sync_after_migrate(**kwargs: Any) -> None:
    """Do the same when all tables are there."""
    if DiffusionModel._meta.db_table in connection.introspection.table_names():
        sync_rows()


def is_allowed(row: DiffusionModel) -> bool:
    """Return whether requests may name the model of a row."""
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
    """Return the parameters that the model of a row stands in for where a request leaves them out."""
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
    """Return what a local model's card says of its own defaults and licence."""
    path = settings.MODELS_DIR / name / "README.md"
    data = _read_front_matter(path) if name in get_local_model_names() and path.is_file() else {}
    if not data:
        return {}
    # Many cards say only whether the Hub may run the model: `inference: false`.
    inference = data.get("inference")
    given = inference.get("parameters", {}) if isinstance(inference, dict) else {}
    found = {column: given[name] for name, column in _CARD_COLUMNS.items() if name in given}
    usable = {} if parameters.find_default_errors(found) else found
    return usable | {"license_note": str(data.get("license", ""))}


def _read_front_matter(path: Path) -> dict[str, Any]:
    """Return what a card says in its front matter; one that can't be read must stop neither a migrate nor a worker."""
    try:
        text = path.read_text(encoding="utf-8")
        if not text.startswith("---"):
            return {}  # a card without front matter, which the library would complain about
        found: dict[str, Any] = ModelCard(text, ignore_metadata_errors=True).data.to_dict()  # type: ignore[no-untyped-call]
    except (OSError, ValueError, YAMLError) as error:
        logger.warning("The card of the model %s can't be read (%s).", path.parent.name, type(error).__name__)
        return {}
    return found
