"""Models that this server allows, their names, and the options they are loaded and called with by default.

A model's row defines all of this. Rows are edited in the admin and take effect with the next request. The settings
define the initial rows, and the patterns of Hub models that need no row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tasks_app.engine import model_files
from tasks_app.errors import ModelLoadError, ModelNotAllowedError
from tasks_app.models import DiffusionModel

logger = logging.getLogger(__name__)

# Columns with the values of parameters that a request omits.
DEFAULT_COLUMNS = ("steps", "guidance_scale", "width", "height", "scheduler", "negative_prompt")

# Executed with every submission: building the statement with the ORM would take longer than running it.
_SELECT_BY_NAME = f"""
SELECT * FROM {DiffusionModel._meta.db_table}
 WHERE model_id = %s OR aliases @> ARRAY[%s]::varchar[] OR (is_default AND %s)
"""


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
    found = resolve_from_row(rows[0], None if by_default else wanted) if rows else resolve_from_settings(wanted)
    if found is None:
        names = ", ".join(get_public_names())
        raise ModelNotAllowedError(f"This server does not allow this model. Allowed: {names}.")
    return found


def get_public_names() -> list[str]:
    """Return the names that a request may use: models, their aliases, and patterns."""
    return collect_names(list(DiffusionModel.objects.all()))


def collect_names(rows: list[DiffusionModel]) -> list[str]:
    """Return the names that a request may use, given all rows."""
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


def resolve_from_settings(name: str) -> ResolvedModel | None:
    """Return the model if the settings alone allow it, else None."""
    model_id = settings.MODEL_ALIASES.get(name, name)
    if model_id in get_local_model_names():
        return ResolvedModel(name=name, model_id=model_id, revision="")
    # Rules that pin a revision take precedence over rules that only allow a model.
    for rule in sorted(list_rules(), key=lambda rule: "@" not in rule):
        pattern, _, revision = rule.partition("@")
        if fnmatchcase(model_id, pattern) and _is_hub_id(model_id):
            return ResolvedModel(name=name, model_id=model_id, revision=revision)
    return None


def is_allowed(row: DiffusionModel) -> bool:
    """Return whether requests may use the model of a row."""
    return row.allowed and is_valid_model_id(row.model_id)


def resolve_from_row(row: DiffusionModel, wanted: str | None) -> ResolvedModel | None:
    """Return the model of a row under the requested name, or None if requests may not use it."""
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


def list_rules() -> list[str]:
    """Return the rules of the settings that allow models: ids, pinned ids and patterns."""
    return [settings.DEFAULT_MODEL_ID, *settings.MODEL_ALIASES.values(), *settings.ALLOWED_MODELS]


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def drop_patterns(rules: Iterable[str]) -> list[str]:
    """Return the model ids of rules, without revisions and patterns."""
    ids = (rule.partition("@")[0] for rule in rules)
    return [name for name in ids if not set(name) & set("*?[")]
