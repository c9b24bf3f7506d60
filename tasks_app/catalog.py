"""Which models this server allows, what their names stand for, and which revisions are pinned."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from django.conf import settings
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tasks_app.errors import ModelNotAllowed


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A folder of MODELS_DIR or an id on the Hub; an empty revision means the newest one."""

    model_id: str
    revision: str


def resolve(name: str) -> ResolvedModel:
    """Return the model that a public name stands for.

    Raises:
        ModelNotAllowed: it is no model's name, or this server doesn't allow it.
    """
    if name in local_models():
        return ResolvedModel(model_id=name, revision="")
    model_id = settings.MODEL_ALIASES.get(name, name)
    # A rule that pins a revision goes before one that only allows.
    for rule in sorted(_rules(), key=lambda rule: "@" not in rule):
        pattern, _, revision = rule.partition("@")
        if fnmatchcase(model_id, pattern) and _is_hub_id(model_id):
            return ResolvedModel(model_id=model_id, revision=revision)
    raise ModelNotAllowed("This server does not allow this model. It allows: " + ", ".join(public_names()) + ".")


def public_names() -> list[str]:
    """Return what a request may ask for: folders, aliases, allowed ids and patterns."""
    allowed = (rule.partition("@")[0] for rule in settings.ALLOWED_MODELS)
    return sorted({*local_models(), *settings.MODEL_ALIASES, *allowed, settings.DEFAULT_MODEL_ID})


def local_models() -> set[str]:
    """Return the folders of MODELS_DIR that hold a pipeline."""
    return {index.parent.name for index in settings.MODELS_DIR.glob("*/model_index.json")}


def _rules() -> list[str]:
    return [settings.DEFAULT_MODEL_ID, *settings.MODEL_ALIASES.values(), *settings.ALLOWED_MODELS]


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name
