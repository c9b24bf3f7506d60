"""Schemathesis hooks for details of this API that its schema doesn't cover."""

from typing import Any

import schemathesis
import yaml


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Send integers as integers: in JSON Schema 25.0 is one too, but this API rejects it on purpose."""
    if case.meta is None or case.meta.generation.mode.is_positive:
        case.body = _to_integers(case.body)


def _to_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to_integers(inner) for name, inner in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.deserializer("application/yaml", "application/vnd.oai.openapi")
def read_yaml(context: Any, response: Any) -> Any:
    return yaml.safe_load(response.content)
