"""Endpoint that lists the models: the names that requests may use, and how each is loaded and called."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import answers
from tasks_app.api.openapi.describe import build_list_response
from tasks_app.catalog import capabilities, resolve
from tasks_app.catalog import choices as model_choices
from tasks_app.catalog import rows as model_rows
from tasks_app.models import DiffusionModel, Scope
from tasks_app.queue import workers

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    ModelRow = WithAnnotations[DiffusionModel, model_rows.PausedAnnotation]

_NO_DEFAULTS = dict.fromkeys(resolve.DEFAULT_COLUMNS)


class ModelListView(APIView):
    """`GET /models`."""

    scopes = {"GET": Scope.MODELS}

    @extend_schema(
        operation_id="describeModels",
        tags=["models"],
        responses={200: build_list_response(answers.DiffusionModel, "All models, also those that are not allowed.")},
    )
    def get(self, request: Request) -> Response:
        """List the models by name, each with its row's settings and the workers that have it loaded."""
        rows = list(model_rows.annotate_paused(DiffusionModel.objects.all()))
        default, loaded_on = model_choices.pick_default_name(rows), workers.get_workers_by_model()
        default = settings.MODEL_ALIASES.get(default, default)
        return Response([_serialize_model(row, default, loaded_on.get(row.model_id, [])) for row in rows])


def _serialize_model(row: ModelRow, default: str, loaded_on: list[str]) -> answers.DiffusionModel:
    revision = resolve.get_pinned_revision(row)
    return {
        "id": row.model_id,
        "aliases": row.aliases,
        "default": row.model_id == default,
        "allowed": resolve.is_allowed(row),
        "paused": row.is_paused,
        "revision": revision or None,
        "defaults": cast("answers.ModelDefaults", {**_NO_DEFAULTS, **resolve.get_request_defaults(row)}),
        "task_types": capabilities.get_supported_task_types(row.model_id, revision),
        "schedulers": capabilities.get_schedulers(row.model_id, revision),
        "max_images": min(settings.MAX_IMAGES, row.max_batch or settings.MAX_IMAGES),
        "max_batch": row.max_batch,
        "load_options": asdict(model_rows.load_options_of(row)),
        "license": row.license_note or None,
        "loaded_on": loaded_on,
    }
