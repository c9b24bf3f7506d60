"""The schema, as JSON or YAML, and the page on which it can be read and tried out."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

# Nothing from elsewhere, and no script inside the page; Swagger UI brings its icons as data.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


class SchemaView(APIView):
    """`GET /schema`."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    # The first is for whoever takes anything, and for errors.
    renderer_classes = (OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer2, OpenApiYamlRenderer)

    def get(self, request: Request) -> Response:
        """Return the OpenAPI schema of this server."""
        return Response(_generate_schema())


@cache
def _generate_schema() -> dict[str, Any]:
    """Return the schema; what it depends on stays as it is while the process lives."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(public=True)
    return schema


@require_safe
def docs_view(request: HttpRequest) -> HttpResponse:
    """Answer the page; it asks for the schema itself."""
    answer = render(request, "api/docs.html")
    answer["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return answer
