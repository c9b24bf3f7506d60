"""Checks of real responses and events against the OpenAPI schema."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from django.urls import URLResolver
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator, FormatChecker

Schema = dict[str, Any]
OPEN_KEYWORDS = {"allOf", "contentSchema"}  # keywords under which several object schemas are combined


@cache
def get_schema() -> Schema:
    """Return the schema of a server with the tests' settings."""
    found: Schema = SchemaGenerator().get_schema(public=True)
    return found


def list_operations() -> list[str]:
    """Return the method and path of each operation in the schema."""
    return [f"{method.upper()} {path}" for path, item in get_schema()["paths"].items() for method in item]


def find_url_names(patterns: Iterable[Any]) -> set[str]:
    """Return the names of all URLs, including those of nested lists."""
    nested = [find_url_names(pattern.url_patterns) for pattern in patterns if isinstance(pattern, URLResolver)]
    return {pattern.name for pattern in patterns if not isinstance(pattern, URLResolver)}.union(*nested)


def resolve_component(reference: Schema) -> Schema:
    """Return the target of a reference, and any other schema unchanged."""
    if "$ref" not in reference:
        return reference
    kind, name = reference["$ref"].split("/")[-2:]
    found: Schema = get_schema()["components"][kind][name]
    return found


def find_problems(part: Schema, value: Any, *, closed: bool = True) -> list[str]:
    """Return a value's validation errors; if `closed`, members that the schema does not name are errors too."""
    components = get_schema()["components"]
    whole = {**part, "components": _close_objects(components) if closed else components}
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def check_response(method: str, path: str, answer: Any) -> None:
    """Fail if a response of Django's client or an HTTP client does not match the operation's schema."""
    operation = get_schema()["paths"][path][method.lower()]
    assert str(answer.status_code) in operation["responses"], f"{answer.status_code} is not documented"
    response = resolve_component(operation["responses"][str(answer.status_code)])
    for name, header in response.get("headers", {}).items():
        assert (
            name in answer.headers or name.lower() in answer.headers or not resolve_component(header).get("required")
        ), f"{name} is missing"
    content: Mapping[str, Schema] = response.get("content", {})
    kind = answer.headers.get("content-type", "").partition(";")[0]
    assert not content or kind in content, f"{kind} is not documented"
    if kind.endswith("json") and content:
        assert not find_problems(content[kind]["schema"], answer.json()), find_problems(
            content[kind]["schema"], answer.json()
        )


def check_event(name: str, data: Mapping[str, Any]) -> None:
    """Fail if the data of a stream's event does not match the schema."""
    shapes = {
        one["properties"]["event"]["const"]: one for one in get_schema()["components"]["schemas"]["Event"]["oneOf"]
    }
    found = find_problems(shapes[name]["properties"]["data"]["contentSchema"], data, closed=False)
    assert not found, found


def _close_objects(part: Any) -> Any:
    if isinstance(part, list):
        return [_close_objects(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    closed = {name: inner if name in OPEN_KEYWORDS else _close_objects(inner) for name, inner in part.items()}
    is_object = part.get("type") == "object" and isinstance(part.get("properties"), dict)
    return {"additionalProperties": False, **closed} if is_object else closed
