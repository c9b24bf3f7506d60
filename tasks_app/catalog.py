"""Which models this server allows, and what their names stand for."""

from __future__ import annotations

from fnmatch import fnmatchcase

from django.conf import settings
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tasks_app.errors import ModelNotAllowed


def resolve(name: str) -> str:
    """Return the model that a public name stands for: a folder of MODELS_DIR or an id on the Hub.

    Raises:
        ModelNotAllowed: it is no model's name, or this server doesn't allow it.
    """
    if name in local_models():
        return name
    if name in settings.MODEL_ALIASES:
        return str(settings.MODEL_ALIASES[name])
    if _is_hub_id(name) and _allowed(name):
        return name
    raise ModelNotAllowed("This server does not allow this model. It allows: " + ", ".join(public_names()) + ".")


def public_names() -> list[str]:
    """Return what a request may ask for: folders, aliases, allowed ids and patterns."""
    return sorted({*local_models(), *settings.MODEL_ALIASES, *settings.ALLOWED_MODELS, settings.DEFAULT_MODEL_ID})


def local_models() -> set[str]:
    """Return the folders of MODELS_DIR that hold a pipeline."""
    return {index.parent.name for index in settings.MODELS_DIR.glob("*/model_index.json")}


def _allowed(name: str) -> bool:
    patterns = [settings.DEFAULT_MODEL_ID, *settings.MODEL_ALIASES.values(), *settings.ALLOWED_MODELS]
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name
