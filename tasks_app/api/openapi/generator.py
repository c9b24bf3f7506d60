"""Hooks of drf-spectacular that build the schema from the table of endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry

from tasks_app.api.openapi import components
from tasks_app.api.openapi.operations import JSON, Operation, render_operation
from tasks_app.api.openapi.table import OPERATIONS

Schema = dict[str, Any]
Endpoint = tuple[str, str, str, Any]


class TableSchema(AutoSchema):
    """Schema of endpoints, with operations from the table and request bodies from serializers."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> Schema:
        """Return the endpoint's OpenAPI object.

        Raises:
            KeyError: the table has no entry for the endpoint.
        """
        self.path, self.path_regex, self.path_prefix = path, path_regex, path_prefix
        self.method, self.registry = method, registry
        operation = OPERATIONS[f"{method} {path}"]
        return render_operation(operation, self._resolve_body(operation))

    def _resolve_body(self, operation: Operation) -> Mapping[str, Schema]:
        if isinstance(operation.body, type):
            return {JSON: self.resolve_serializer(operation.body, "request").ref}
        return operation.body or {}


def strip_trailing_slashes(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Return the endpoints under their documented paths, without the optional trailing slash."""
    return [(path.rstrip("/"), *rest) for path, *rest in endpoints]


def complete_schema(result: Schema, **kwargs: Any) -> Schema:
    """Add the endpoints that are not DRF views, and the components that operations refer to."""
    for name, operation in OPERATIONS.items():
        method, path = name.split()
        operations = result["paths"].setdefault(path, {})
        if method.lower() not in operations:
            assert not isinstance(operation.body, type), f"{name} is no view of DRF's: its body needs schemas"
            operations[method.lower()] = render_operation(operation, operation.body or {})
    for kind, more in components.build_components().items():
        result["components"].setdefault(kind, {}).update(more)
    return result
