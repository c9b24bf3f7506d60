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
from tasks_app.errors import ModelLoadFailed, ModelNotAllowed
from tasks_app.models import DiffusionModel, Pause
from tasks_app.task_types import parameters

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    class Paused(TypedDict):
        """What is said of a row beside its columns."""

        is_paused: bool


logger = logging.getLogger(__name__)

# The columns that stand in for parameters which a request leaves out.
DEFAULTS = ("steps", "guidance_scale", "width", "height", "scheduler", "negative_prompt")
# Parameters of a model card's front matter, under the Hub's names, and the columns they fill.
_CARD = {"num_inference_steps": "steps", "guidance_scale": "guidance_scale", "width": "width", "height": "height"}

# Every request for a task asks so: made by the ORM each time, the statement would cost more than its answer.
_NAMED = f"""
SELECT * FROM {DiffusionModel._meta.db_table}
 WHERE model_id = %s OR aliases @> ARRAY[%s]::varchar[] OR (is_default AND %s)
"""
# So does every run.
_OPTIONS = [option.name for option in fields(LoadOptions)]
_LOADED_WITH = f"SELECT {', '.join(_OPTIONS)} FROM {DiffusionModel._meta.db_table} WHERE model_id = %s"


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


def resolve(name: str | None) -> ResolvedModel:
    """Return the model that a public name stands for; None stands for the default.

    Raises:
        ModelNotAllowed: it is no model's name, or this server doesn't allow it.
    """
    wanted = settings.DEFAULT_MODEL_ID if name is None else name
    model_id = settings.MODEL_ALIASES.get(wanted, wanted)
    rows = list(DiffusionModel.objects.raw(_NAMED, [model_id, wanted, name is None]))
    # A row that is the default goes before the setting, and a model's own name before an alias.
    rows.sort(key=lambda row: (name is None and row.is_default, row.model_id == model_id), reverse=True)
    by_default = name is None and bool(rows) and rows[0].is_default
    found = _by_row(rows[0], None if by_default else wanted) if rows else by_settings(wanted)
    if found is None:
        names = ", ".join(public_names())
        raise ModelNotAllowed(f"This server does not allow this model. It allows: {names}.")
    return found


def default_name() -> str:
    """Return the name of the model that a request gets which names none."""
    return default_among(DiffusionModel.objects.filter(is_default=True))


def default_among(rows: Iterable[DiffusionModel]) -> str:
    """Return the same, when these are all rows."""
    return next((row.model_id for row in rows if row.is_default), str(settings.DEFAULT_MODEL_ID))


@transaction.atomic
def make_default(model: ResolvedModel) -> None:
    """Give requests that name no model this one from now on."""
    DiffusionModel.objects.filter(is_default=True).update(is_default=False)
    DiffusionModel.objects.update_or_create(model_id=model.model_id, defaults={"is_default": True})


def with_pauses(rows: QuerySet[DiffusionModel]) -> QuerySet[WithAnnotations[DiffusionModel, Paused]]:
    """Say of each model whether it is paused (`is_paused`)."""
    pauses = Pause.objects.filter(scope=Pause.Scope.MODEL, target=OuterRef("model_id"))
    return rows.annotate(is_paused=Exists(pauses))


def public_names() -> list[str]:
    """Return what a request may ask for: models, their aliases, and patterns."""
    return _names(list(DiffusionModel.objects.all()))


def _names(rows: list[DiffusionModel]) -> list[str]:
    refused = {row.model_id for row in rows if not row.allowed}
    named = {name for row in rows if row.allowed and is_name(row.model_id) for name in (row.model_id, *row.aliases)}
    ruled = {rule.partition("@")[0] for rule in settings.ALLOWED_MODELS} | local_models() | {settings.DEFAULT_MODEL_ID}
    aliases = {alias for alias, model_id in settings.MODEL_ALIASES.items() if model_id not in refused}
    hidden = refused | {alias for alias, model_id in settings.MODEL_ALIASES.items() if model_id in refused}
    return sorted((named | ruled | aliases) - hidden)


def plain_names() -> list[str]:
    """Return the public names that are no patterns."""
    return _ids(public_names())


def menu() -> tuple[str, dict[str, ResolvedModel | None]]:
    """Return the default's name, and every public name that is no pattern with its model; None for one that is gone."""
    rows = list(DiffusionModel.objects.all())
    named = {name: by_settings(name) if row is None else _by_row(row, name) for name, row in _plain(rows).items()}
    return default_among(rows), named


def listed() -> dict[str, float]:
    """Return every public name that is no pattern, and the time since which its model has a row, else 0."""
    rows = list(DiffusionModel.objects.all())
    return {name: 0 if row is None else row.created_at.timestamp() for name, row in _plain(rows).items()}


def _plain(rows: list[DiffusionModel]) -> dict[str, DiffusionModel | None]:
    by_name = {name: row for row in rows for name in (row.model_id, *row.aliases)}
    return {name: by_name.get(settings.MODEL_ALIASES.get(name, name)) for name in _ids(_names(rows))}


def local_models() -> set[str]:
    """Return the models of MODELS_DIR."""
    return model_files.names(settings.MODELS_DIR)


def is_name(model_id: str) -> bool:
    """Return whether a model can be meant at all: folders and files come and go."""
    return _is_hub_id(model_id) or model_id in local_models()


def holders(names: Iterable[str], *, besides: int = 0) -> dict[str, str]:
    """Return by name the model that it stands for already, by its row or the settings, but for one row."""
    wanted = set(names)
    found = {name: model_id for name, model_id in settings.MODEL_ALIASES.items() if name in wanted}
    rows = DiffusionModel.objects.filter(Q(model_id__in=wanted) | Q(aliases__overlap=list(wanted))).exclude(pk=besides)
    for row in rows:
        found |= dict.fromkeys(wanted & {row.model_id, *row.aliases}, row.model_id)
    return found


def revision(row: DiffusionModel) -> str:
    """Return the commit that a model stays at by its row, else by the settings; empty is the newest."""
    ruled = None if row.revision else by_settings(row.model_id)
    return ruled.revision if ruled else row.revision


def configuration(model_id: str, revision: str) -> Path | None:
    """Return the folder that says what a model consists of, where this host has one."""
    hub_cache = settings.PROVIDERS["diffusers"]["hub_cache"]
    try:
        return (
            model_files.configuration(settings.MODELS_DIR, hub_cache, model_id, revision) if is_name(model_id) else None
        )
    except ModelLoadFailed:
        return None


def load_options(model_id: str) -> LoadOptions:
    """Return how a worker is to load a model."""
    with connection.cursor() as cursor:
        cursor.execute(_LOADED_WITH, [model_id])
        row = cursor.fetchone()
    return LoadOptions() if row is None else LoadOptions(**dict(zip(_OPTIONS, row, strict=True)))


def loading(row: DiffusionModel) -> LoadOptions:
    """Return how a worker is to load the model of a row."""
    return LoadOptions(**{option: getattr(row, option) for option in _OPTIONS})


def by_settings(name: str) -> ResolvedModel | None:
    """Return the model as the settings alone allow it; None when they don't."""
    model_id = settings.MODEL_ALIASES.get(name, name)
    if model_id in local_models():
        return ResolvedModel(name=name, model_id=model_id, revision="")
    # A rule that pins a revision goes before one that only allows.
    for rule in sorted(_rules(), key=lambda rule: "@" not in rule):
        pattern, _, revision = rule.partition("@")
        if fnmatchcase(model_id, pattern) and _is_hub_id(model_id):
            return ResolvedModel(name=name, model_id=model_id, revision=revision)
    return None


def sync() -> None:
    """Give every model that the settings name a row, if it has none yet; rows that are there stay as they are."""
    DiffusionModel.objects.bulk_create(_named_by_settings(), ignore_conflicts=True)


def sync_after_migrate(**kwargs: Any) -> None:
    """Do the same when all tables are there."""
    if DiffusionModel._meta.db_table in connection.introspection.table_names():
        sync()


def is_allowed(row: DiffusionModel) -> bool:
    """Return whether requests may name the model of a row."""
    return row.allowed and is_name(row.model_id)


def _by_row(row: DiffusionModel, wanted: str | None) -> ResolvedModel | None:
    if not is_allowed(row):
        return None
    return ResolvedModel(
        name=wanted or row.model_id,
        model_id=row.model_id,
        revision=revision(row),
        defaults=own_defaults(row),
        max_images=row.max_batch,
    )


def own_defaults(row: DiffusionModel) -> dict[str, Any]:
    """Return the parameters that the model of a row stands in for where a request leaves them out."""
    values = {name: getattr(row, name) for name in DEFAULTS}
    return {name: value for name, value in values.items() if value not in (None, "")}


def _rules() -> list[str]:
    return [settings.DEFAULT_MODEL_ID, *settings.MODEL_ALIASES.values(), *settings.ALLOWED_MODELS]


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _named_by_settings() -> Iterator[DiffusionModel]:
    names = local_models() | {settings.MODEL_ALIASES.get(name, name) for name in _ids(_rules())}
    for name in sorted(names):
        if by_settings(name) is not None:
            aliases = [alias for alias, model_id in settings.MODEL_ALIASES.items() if model_id == name]
            yield DiffusionModel(model_id=name, aliases=aliases, **_card(name))


def _ids(rules: Iterable[str]) -> list[str]:
    ids = (rule.partition("@")[0] for rule in rules)
    return [name for name in ids if not set(name) & set("*?[")]


def _card(name: str) -> dict[str, Any]:
    """Return what a local model's card says of its own defaults and licence."""
    path = settings.MODELS_DIR / name / "README.md"
    data = _front_matter(path) if name in local_models() and path.is_file() else {}
    if not data:
        return {}
    # Many cards say only whether the Hub may run the model: `inference: false`.
    inference = data.get("inference")
    given = inference.get("parameters", {}) if isinstance(inference, dict) else {}
    found = {column: given[name] for name, column in _CARD.items() if name in given}
    usable = {} if parameters.wrong_defaults(found) else found
    return usable | {"license_note": str(data.get("license", ""))}


def _front_matter(path: Path) -> dict[str, Any]:
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
