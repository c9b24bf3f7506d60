"""OpenAPI schema as JSON or YAML, and the page to read it and try it out."""

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
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

# Only this server's own resources and no inline scripts; Swagger UI embeds its icons as `data:` URLs.
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
    # The first one is used for errors and for clients that accept anything.
    renderer_classes = (OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer2, OpenApiYamlRenderer)

    @extend_schema(
        operation_id="getSchema",
        tags=["service"],
        responses=OpenApiResponse({"type": "object"}, "OpenAPI 3.1."),
    )
    def get(self, request: Request) -> Response:
        """Return the OpenAPI schema of this server."""
        return Response(_generate_schema())


@cache
def _generate_schema() -> dict[str, Any]:
    """Return the schema, cached because its inputs do not change while the process runs."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(public=True)
    return schema


@require_safe
def docs_view(request: HttpRequest) -> HttpResponse:
    """Return the documentation page, which fetches the schema itself."""
    answer = render(request, "api/docs.html")
    answer["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return answer
