"""Validation of submitted tasks: all wrong fields are reported at once, and all defaults are resolved.

A value comes from the request, else from the model's row, else from the parameter's own default.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from typing import Any

from django.conf import settings
from rest_framework import serializers

from tasks_app import errors
from tasks_app.access import permissions
from tasks_app.catalog import resolve
from tasks_app.catalog.resolve import ResolvedModel
from tasks_app.contracts import ParsedMetadata, Principal, Submission, Webhook
from tasks_app.fields import (
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictIntegerField,
    StrictSerializer,
    get_field_errors,
    has_surrogate,
)
from tasks_app.images import metadata, uploads
from tasks_app.models import HIGHEST_PRIORITY, LOWEST_PRIORITY, WebhookEvent
from tasks_app.task_types import parameters, registry
from tasks_app.task_types.registry import TaskType
from tasks_app.webhooks import payload, url_policy

SEED_COUNT = 2**32
SIZE_PARAMS = {"width", "height"}


class AnyField(serializers.Field[Any, Any, Any, Any]):
    """A value that another serializer validates."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the value unchanged."""
        return data


class WebhookUrlField(StrictCharField):
    """A URL that this server may call, as far as that can be checked without resolving its host."""

    def to_internal_value(self, data: Any) -> str:
        """Return the URL."""
        try:
            url_policy.parse_url(data, payload.get_url_policy())
        except errors.WebhookUrlRefusedError as error:
            raise serializers.ValidationError(str(error), code="invalid") from None
        return str(data)


class WebhookEventsField(serializers.ListField):
    """A non-empty list of webhook events."""

    child = StrictChoiceField(WebhookEvent.values)
    default_error_messages = {"not_a_list": "Must be a list.", "empty": "Must not be empty."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_empty=False, **kwargs)


class WebhookSerializer(StrictSerializer):
    """The URL and the events of a task's webhook."""

    url = WebhookUrlField()
    events = WebhookEventsField(default=WebhookEvent.values)


class SubmissionSerializer(StrictSerializer):
    """The body of `POST /task`; all wrong fields are reported at once.

    The context may contain the `caller`, and `meant`: true if the client sent every field deliberately. Clients of the
    compatibility APIs also send fields that no user chose.
    """

    task_type = StrictChoiceField(sorted({entry.name for entry in registry.get_task_types()}))
    params = AnyField()
    priority = StrictIntegerField(
        min_value=LOWEST_PRIORITY,
        max_value=HIGHEST_PRIORITY,
        default=0,
        help_text="Tasks with a higher priority run first.",
    )
    batchable = StrictBooleanField(
        default=None,
        allow_null=True,
        help_text="Whether the task may share a batch with others. Default: true, or false if `seed` is set.",
    )
    webhook = WebhookSerializer(default=None, allow_null=True, help_text="URL to notify when the task ends.")

    _resolved_model: ResolvedModel | None = None

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the validated values; the serializer of the task type and provider validates `params`."""
        found: dict[str, Any] = {}
        values: dict[str, Any] = {}
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            found |= get_field_errors(error)
        if isinstance(data, dict) and "params" in data:
            self._resolved_model, wrong_model = _resolve_model(data["params"])
            params = _build_params_serializer(
                data, self._resolved_model, self.context.get("caller", permissions.NO_ACCESS)
            )
            if params.is_valid() and not wrong_model:
                values["params"] = params.validated_data
            else:
                found["params"] = {**params.errors, **wrong_model}
        if found:
            raise serializers.ValidationError(found)
        return values

    def validate_webhook(self, webhook: dict[str, Any] | None) -> dict[str, Any] | None:
        """Reject a webhook that could not be signed.

        Each key has its own secret; callers without a key share the server's.
        """
        caller: Principal | None = self.context.get("caller")
        has_key = caller is not None and caller.key_id is not None
        if webhook is not None and not has_key and settings.WEBHOOK_SECRET is None:
            raise serializers.ValidationError(
                "Webhooks need an API key, or WEBHOOK_SECRET on the server.", code="unsigned"
            )
        return webhook

    def build_submission(self) -> Submission:
        """Return the submission, with defaults filled in, a seed chosen and the model resolved."""
        values = self.validated_data
        params = dict(values["params"])
        provider, seed = params.pop("provider"), params.pop("seed")
        params.pop("model_id", None)
        model = self._resolved_model
        assert model is not None, "a valid submission has a model"
        # A seed asks for exactly the same image again, so such a request is unbatched by default.
        batchable = seed is None if values["batchable"] is None else values["batchable"]
        entry = registry.get_task_type(values["task_type"], provider)
        explicit = self._get_explicit_params(entry)
        return Submission(
            task_type=values["task_type"],
            provider=provider,
            requested_model_id=model.name,
            model_id=model.model_id,
            revision=model.revision,
            params=params,
            seed=secrets.randbelow(SEED_COUNT) if seed is None else seed,
            priority=values["priority"],
            batch_key=parameters.build_batch_key(
                entry, model.model_id, model.revision, params, explicit_params=explicit
            )
            if batchable
            else "",
            explicit_params=explicit,
            uploads=tuple(parameters.get_upload_ids(entry, params).values()),
            webhook=_build_webhook(values["webhook"]),
        )

    def _get_explicit_params(self, entry: TaskType) -> frozenset[str]:
        meant = self.initial_data["params"].keys() if self.context.get("meant") else ()
        return parameters.get_optional_support(entry).intersection(meant)


def _build_webhook(values: dict[str, Any] | None) -> Webhook | None:
    if values is None:
        return None
    return Webhook(url=values["url"], events=tuple(dict.fromkeys(values["events"])))


def read_image_params(content: bytes, caller: Principal) -> ParsedMetadata:
    """Return the generation parameters in an image file.

    Parameters that this server does not accept are returned as `ignored`.

    Raises:
        InvalidImageError: the file contains no parameters.
        ValidationError: no valid request can be built from the parameters.
    """
    told = metadata.read_metadata(content)
    params = dict(told.params)
    wrong = set(_find_errors(told.task_type, params, caller).get("params", {}))
    if wrong & SIZE_PARAMS:
        wrong |= SIZE_PARAMS
    ignored = {name: params.pop(name) for name in wrong & params.keys()}
    if refused := _find_errors(told.task_type, params, caller):
        raise serializers.ValidationError(refused)
    return replace(told, params=params, ignored={**told.ignored, **ignored})


def _find_errors(task_type: str, params: dict[str, Any], caller: Principal) -> dict[str, Any]:
    body = {"task_type": task_type, "params": params}
    serializer = SubmissionSerializer(data=body, context={"caller": caller})
    return {} if serializer.is_valid() else dict(serializer.errors)


def _build_params_serializer(
    data: dict[str, Any], model: ResolvedModel | None, caller: Principal
) -> serializers.Serializer[Any]:
    """Return the serializer of the task type and provider.

    If one of them is unknown, return the first serializer, so that the errors in the parameters are reported too.
    """
    params = data["params"] if isinstance(data["params"], dict) else {}
    named = data.get("task_type"), params.get("provider", "diffusers")
    entries = registry.get_task_types()
    entry = next((entry for entry in entries if (entry.name, entry.provider) == named), entries[0])
    defaults = {} if model is None else model.defaults
    fewer = None if model is None else model.max_images
    max_images = min(settings.MAX_IMAGES, fewer or settings.MAX_IMAGES)
    folder = None if model is None else resolve.find_configuration(model.model_id, model.revision)
    uploaded = partial(uploads.find_upload, caller=caller)
    return parameters.build_serializer(
        entry, data["params"], defaults=defaults, max_images=max_images, folder=folder, uploaded=uploaded
    )


def _resolve_model(params: Any) -> tuple[ResolvedModel | None, dict[str, Any]]:
    """Return the requested model, or the errors of its name."""
    name = params.get("model_id") if isinstance(params, dict) else None
    if name is not None and (not isinstance(name, str) or not name or "\0" in name or has_surrogate(name)):
        return None, {}  # rejected by the field itself
    try:
        return resolve.resolve_model(name), {}
    except errors.ModelNotAllowedError as error:
        return None, {"model_id": [serializers.ErrorDetail(str(error), code=error.code)]}
