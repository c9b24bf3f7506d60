"""Compatibility API for clients of OpenAI's images API, such as the `openai` package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import answers, errors
from tasks_app.api.compat.tasks import CompatSerializer, UnsupportedField, encode_image, pick_params, submit_and_wait
from tasks_app.api.http import signed_urls
from tasks_app.api.openapi.describe import WAIT_ERRORS, build_parameters, build_response, component_ref
from tasks_app.catalog import choices as model_choices
from tasks_app.fields import StrictCharField, StrictChoiceField
from tasks_app.models import Scope, Task
from tasks_app.submissions import AnyField

_SIZE_PATTERN = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_FIELD_NAMES = {
    "prompt": "prompt",
    "model_id": "model",
    "num_images": "n",
    **{name: name for name in ("negative_prompt", "seed", "steps", "guidance_scale", "scheduler", "output_format")},
}
# Accepted and ignored: models here do not have these parameters and work well without them.
IGNORED_FIELDS = ("user", "safety_identifier", "quality", "style", "moderation", "output_compression")


class SizeField(StrictCharField):
    """Size as `WIDTHxHEIGHT`, or `auto` for the model's own."""

    default_error_messages = {"size": "Must be auto or WIDTHxHEIGHT, such as 512x512."}

    def to_internal_value(self, data: Any) -> str:
        """Return the size unchanged."""
        if data != "auto" and not _SIZE_PATTERN.fullmatch(data):
            self.fail("size")
        return str(data)


def _any_field() -> AnyField:
    return AnyField(required=False, allow_null=True)


def _choice_field(*choices: str) -> StrictChoiceField:
    return StrictChoiceField(list(choices), required=False, allow_null=True)


class GenerationSerializer(CompatSerializer):
    """Body of `POST /v1/images/generations`, including parameters that OpenAI does not have (`extra_body`)."""

    field_names = {"model_id": "model", "num_images": "n", "width": "size", "height": "size"}

    prompt = _any_field()
    model = _any_field()
    n = _any_field()
    size = SizeField(required=False, allow_null=True)
    response_format = _choice_field("url", "b64_json")
    output_format = _any_field()

    negative_prompt = _any_field()
    seed = _any_field()
    steps = _any_field()
    guidance_scale = _any_field()
    scheduler = _any_field()

    background = _choice_field("auto", "opaque")

    stream = UnsupportedField()
    partial_images = UnsupportedField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Return the declared fields and the ignored ones."""
        return {**super().get_fields(), **{name: _any_field() for name in IGNORED_FIELDS}}

    def build_params(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters in the format of `POST /task`."""
        size = data.get("size")
        sides = _SIZE_PATTERN.fullmatch(size) if isinstance(size, str) else None
        return pick_params(data, _FIELD_NAMES) | ({"width": int(sides[1]), "height": int(sides[2])} if sides else {})


class GenerationView(APIView):
    """`POST /v1/images/generations`."""

    scopes = {"POST": Scope.SUBMIT}

    @extend_schema(
        operation_id="createImage",
        tags=["OpenAI"],
        parameters=build_parameters("Idempotency-Key"),
        request={"application/json": component_ref("schemas", "Generation")},
        responses={200: build_response(answers.Generated, "The images."), **WAIT_ERRORS},
        examples=[
            OpenApiExample(
                "two", {"model": "demo", "prompt": "a beach", "n": 2, "size": "64x64", "seed": 42}, request_only=True
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Generate images, and respond when they are ready."""
        serializer = GenerationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        embedded = serializer.validated_data.get("response_format") == "b64_json"
        return submit_and_wait(request, serializer.build_submission(), partial(_build_response_body, request, embedded))


def _build_response_body(request: Request, embedded: bool, task: Task) -> answers.Generated:
    images = list(task.images.all())
    assert task.finished_at is not None, "it has succeeded"
    return {
        "created": int(task.finished_at.timestamp()),
        "data": [
            answers.GeneratedBase64(b64_json=encode_image(image))
            if embedded
            else answers.GeneratedURL(url=signed_urls.build_signed_url(request, "task-image", task.pk, image.index))
            for image in images
        ],
        "size": f"{images[0].width}x{images[0].height}",
        "output_format": images[0].content_type.removeprefix("image/"),
    }


class ModelListView(APIView):
    """`GET /v1/models`."""

    scopes = {"GET": Scope.MODELS}

    @extend_schema(
        operation_id="listModels", tags=["OpenAI"], responses={200: build_response(answers.Models, "The models.")}
    )
    def get(self, request: Request) -> Response:
        """List the models that a request may name."""
        listed = [_serialize_model(*entry) for entry in model_choices.get_created_by_id().items()]
        answer: answers.Models = {"object": "list", "data": listed}
        return Response(answer)


class ModelDetailView(APIView):
    """`GET /v1/models/{name}`."""

    scopes = {"GET": Scope.MODELS}

    @extend_schema(
        operation_id="getModel", tags=["OpenAI"], responses={200: build_response(answers.Model, "The model.")}
    )
    def get(self, request: Request, name: str) -> Response:
        """Return one model."""
        listed = model_choices.get_created_by_id()
        if name not in listed:
            raise NotFound(f"{errors.ModelNotAllowedError.__doc__}")
        return Response(_serialize_model(name, listed[name]))


def _serialize_model(name: str, created: float) -> answers.Model:
    return {"id": name, "object": "model", "created": int(created), "owned_by": name.rpartition("/")[0] or "local"}
