"""Generator of operations: what the views describe, completed by the rules that all endpoints follow."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry
from drf_spectacular.utils import OpenApiParameter

from tasks_app.api.http.negotiation import IgnoreAcceptNegotiation
from tasks_app.api.openapi.describe import component_ref
from tasks_app.api.openapi.errors import get_error_name
from tasks_app.models import Scope

Schema = dict[str, Any]
AUTH_SCHEMES = ("key", "basic", "session")
# A scheme of its own, because signed URLs only allow reading; operations name it with `auth=`.
SIGNED_URL_SCHEME = "signature"


class ServiceSchema(AutoSchema):
    """Operations of views; a view's docstring is the summary, its `scopes` are the security."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> Schema:
        """Return the endpoint's OpenAPI object."""
        operation = super().get_operation(path, path_regex, path_prefix, method, registry)
        assert operation is not None, "no view is excluded"
        scope = self._get_scope()
        needs = f"Needs the scope `{scope}`." if scope else "Needs no key."
        operation["description"] = "\n\n".join(part for part in (operation.get("description"), needs) if part)
        operation["security"] = self._build_security(operation.get("security", []))
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
        operation["responses"] = self._complete_responses(operation)
        return operation

    def get_summary(self) -> str:
        """Return the first sentence of the view's docstring."""
        return str(getattr(self.view, self.method.lower()).__doc__).partition("\n\n")[0]

    def get_description(self) -> str:  # type: ignore[override]  # as in drf-spectacular, not as in DRF
        """Return nothing: the docstring is the summary already."""
        return ""

    def get_auth(self) -> list[Schema]:
        """Return no scheme besides those that all endpoints share."""
        return []

    def _get_scope(self) -> Scope | None:
        is_public = not self.view.get_authenticators()
        return None if is_public else getattr(self.view, "scopes", {}).get(self.method, Scope.READ)

    def _build_security(self, more: list[str]) -> list[Schema]:
        if self._get_scope() is None:
            return []
        anonymous: list[Schema] = [{}] if settings.API_AUTH == "optional" else []
        return [*({name: []} for name in (*AUTH_SCHEMES, *more)), *anonymous]

    def _get_parameters(self) -> list[Schema]:
        asked = [parameter.name for parameter in self._list_described() if not parameter.response]
        return [component_ref("parameters", name) for name in (*_find_path_parameters(self.path), *asked)]

    def _list_described(self) -> list[OpenApiParameter]:
        return [found for found in self.get_override_parameters() if isinstance(found, OpenApiParameter)]

    def _get_response_headers_for_code(self, status_code: str, direction: str = "response") -> Schema:
        names = [header.name for header in self._list_described() if header.response == [int(status_code)]]
        return {name: component_ref("headers", name) for name in (*names, "X-Request-ID")}

    def _complete_responses(self, operation: Schema) -> Schema:
        """Return the responses with references to those to errors, which every endpoint has in the same form."""
        described = {status: response for status, response in operation["responses"].items() if status < "400"}
        errors = {int(status) for status in operation["responses"] if status >= "400"} | self._get_common_errors()
        if "requestBody" in operation:
            errors |= {413, 415}
        references = {str(status): component_ref("responses", get_error_name(self.path, status)) for status in errors}
        return dict(sorted({**references, **described}.items()))

    def _get_common_errors(self) -> set[int]:
        found = set() if self._get_scope() is None else {400, 401, 403, 429, 503}
        if _find_path_parameters(self.path):
            found.add(404)
        if self.view.content_negotiation_class is not IgnoreAcceptNegotiation:
            found.add(406)
        return found


def _find_path_parameters(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)
