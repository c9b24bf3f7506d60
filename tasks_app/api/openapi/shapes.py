"""Schemas of the JSON that the API returns, as OpenAPI components."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from rest_framework.serializers import Field

from tasks_app import errors
from tasks_app.api.openapi.errors import ERROR_RESPONSES
from tasks_app.api.openapi.fields import schema_of
from tasks_app.api.openapi.operations import component_ref
from tasks_app.catalog import resolve
from tasks_app.contracts import Verdict
from tasks_app.engine.types import LoadOptions
from tasks_app.models import HIGHEST_PRIORITY, LOWEST_PRIORITY, Phase, Status, TaskImage
from tasks_app.task_types import parameters
from tasks_app.task_types.registry import INPAINTING

Schema = dict[str, Any]
UUID: Schema = {"type": "string", "format": "uuid"}
URI: Schema = {"type": "string", "format": "uri"}
TIME: Schema = {"type": "string", "format": "date-time"}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
# Statuses that only the compatibility APIs return, because they hold a response until the task has ended.
COMPAT_ONLY_STATUSES = (500, 504)
# Codes that only reject requests; the rest are the codes of tasks that ended without images.
_REQUEST_ERROR_CODES = {
    error.code
    for error in (
        errors.ModelNotAllowedError,
        errors.QuotaExceededError,
        errors.IdempotencyKeyReusedError,
        errors.InvalidImageError,
        errors.NotReproducibleError,
    )
}


def build_schemas() -> dict[str, Schema]:
    """Return all schemas by name."""
    refusals = {
        refusal.name: _error_schema(status)
        for status, refusal in ERROR_RESPONSES.items()
        if status not in COMPAT_ONLY_STATUSES
    }
    return {
        "Task": _task_schema(),
        "TaskParams": _params_schema(),
        "Progress": _progress_schema(),
        "Image": _image_schema(),
        "TaskError": _task_error_schema(),
        "Reproduction": _reproduction_schema(),
        "TaskPage": _page_schema(),
        "Recovered": _recovered_schema(),
        "Upload": object_schema(
            id=UUID, sha256=with_description(TEXT, "Of the PNG that is kept."), width=COUNT, height=COUNT
        ),
        "DiffusionModel": _model_schema(),
        "Lora": object_schema(id=TEXT, bytes=with_description(COUNT, "Of its file.")),
        "Embedding": object_schema(id=TEXT, bytes=with_description(COUNT, "Of its file.")),
        "Event": _event_schema(),
        "Links": object_schema(events=URI, images={"type": "array", "items": URI}),
        "Health": object_schema(status={"const": "ok"}),
        "Readiness": _readiness_schema(),
        **refusals,
    }


def object_schema(optional: dict[str, Schema] | None = None, **members: Schema) -> Schema:
    """Return the schema of an object with these members, which are required unless they are in `optional`."""
    return {"type": "object", "required": list(members), "properties": {**members, **(optional or {})}}


def make_nullable(schema: Schema) -> Schema:
    """Return the schema with null allowed."""
    if "$ref" in schema:
        return {"oneOf": [schema, {"type": "null"}]}
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **choices}


def with_description(schema: Schema, description: str) -> Schema:
    """Return the schema with a description."""
    return {**schema, "description": description}


def _task_schema() -> Schema:
    return object_schema(
        id=UUID,
        task_type=TEXT,
        status=with_description({"type": "string", "enum": Status.values}, "The last three never change."),
        priority={"type": "integer", "minimum": LOWEST_PRIORITY, "maximum": HIGHEST_PRIORITY},
        params=component_ref("schemas", "TaskParams"),
        model=with_description(
            object_schema(id=TEXT, revision=make_nullable(TEXT)),
            "What the name resolved to, and the commit that was loaded (`local` for a folder of the server).",
        ),
        progress=component_ref("schemas", "Progress"),
        queue_position=with_description(
            make_nullable({"type": "integer", "minimum": 1}), "Its place by priority and age while it is queued."
        ),
        paused=with_description(FLAG, "It is queued and waits for somebody to resume the queue or its model."),
        attempt=with_description(COUNT, "How often a worker has taken it."),
        images={"type": "array", "items": component_ref("schemas", "Image")},
        error=make_nullable(component_ref("schemas", "TaskError")),
        created_at=TIME,
        started_at=make_nullable(TIME),
        finished_at=make_nullable(TIME),
        timings=with_description({"type": "object", "additionalProperties": {"type": "number"}}, "Seconds by stage."),
        provenance=with_description(
            {"type": "object", "additionalProperties": TEXT},
            "What the pictures depend on beside parameters and commit; empty before it has succeeded.",
        ),
        retried_from=with_description(make_nullable(UUID), "The task that this one repeats."),
        reproduction=make_nullable(component_ref("schemas", "Reproduction")),
        urls=object_schema(self=URI, events=URI, cancel=URI, images=URI),
    )


def _params_schema() -> Schema:
    """Return the schema of all effective parameters; older tasks lack those that were added later."""
    # Inpainting has every parameter.
    known = {name: _field_schema(field) for name, field in parameters.get_param_fields(INPAINTING).items()}
    required = ["provider", "model_id", "prompt", "steps", "seed"]
    return {"type": "object", "required": required, "properties": {**known, "provider": TEXT}}


def _field_schema(field: Field[Any, Any, Any, Any]) -> Schema:
    return make_nullable(schema_of(field)) if field.allow_null else schema_of(field)


def _progress_schema() -> Schema:
    return with_description(
        object_schema(
            {"bytes_done": make_nullable(COUNT), "bytes_total": make_nullable(COUNT)},
            phase=make_nullable({"type": "string", "enum": Phase.values}),
            step=COUNT,
            total_steps=COUNT,
            percent={"type": "integer", "minimum": 0, "maximum": 100},
            eta_seconds=make_nullable({"type": "number", "minimum": 0}),
        ),
        "Live while the task runs; bytes are those of a model that is being downloaded.",
    )


def _image_schema() -> Schema:
    return object_schema(
        index=COUNT,
        url=URI,
        thumbnail_url=URI,
        seed=with_description(COUNT, "The task's seed + index."),
        width=COUNT,
        height=COUNT,
        content_type=TEXT,
        sha256=TEXT,
        flagged=with_description(FLAG, str(TaskImage._meta.get_field("flagged").help_text)),
        blank=with_description(FLAG, str(TaskImage._meta.get_field("blank").help_text)),
        purged=with_description(FLAG, "Its file was removed: its address is 410."),
    )


def _task_error_schema() -> Schema:
    codes = sorted(errors.RETRYABLE.keys() - _REQUEST_ERROR_CODES)
    return object_schema(
        code={"type": "string", "enum": codes},
        message=with_description(TEXT, "For people."),
        retryable=with_description(FLAG, "The same request may succeed another time."),
    )


def _reproduction_schema() -> Schema:
    verdict: Schema = {"type": "string", "enum": list(get_args(Verdict))}
    image = object_schema(
        index=COUNT,
        verdict=verdict,
        psnr=with_description(
            make_nullable({"type": "number"}), "In decibels; null where pixels are equal or can't be compared."
        ),
        identical_file=with_description(FLAG, "The files are equal byte by byte."),
    )
    then_and_now: Schema = {"type": "array", "items": make_nullable(TEXT), "minItems": 2, "maxItems": 2}
    return object_schema(
        of=with_description(make_nullable(UUID), "The task that this one reproduces; null once that is deleted."),
        verdict=with_description(make_nullable(verdict), "The worst of the pictures'; null before it has succeeded."),
        images={"type": "array", "items": image},
        differences=with_description(
            {"type": "object", "additionalProperties": then_and_now}, "What was, and is now, otherwise."
        ),
    )


def _page_schema() -> Schema:
    return object_schema(
        next=make_nullable(URI),
        previous=make_nullable(URI),
        results={"type": "array", "items": component_ref("schemas", "Task")},
    )


def _recovered_schema() -> Schema:
    return object_schema(
        source={"type": "string", "enum": ["diffusers-handler", "a1111"]},
        task_type=TEXT,
        params=with_description({"type": "object", "additionalProperties": True}, "Ready for `POST /task`."),
        ignored=with_description({"type": "object", "additionalProperties": True}, "What this server has nothing for."),
    )


def _model_schema() -> Schema:
    known = parameters.get_param_fields()
    kinds: dict[type, Schema] = {str: TEXT, bool: FLAG}
    options = {option.name: kinds[type(option.default)] for option in fields(LoadOptions)}
    return object_schema(
        id=TEXT,
        aliases=with_description({"type": "array", "items": TEXT}, "Other names that requests may use."),
        default=with_description(FLAG, "Requests that name no model get this one."),
        allowed=with_description(FLAG, "Requests may name it."),
        paused=with_description(FLAG, "Its tasks wait until it is resumed."),
        revision=with_description(make_nullable(TEXT), "The commit that it stays at; null is the newest."),
        defaults=with_description(
            object_schema(**{name: make_nullable(schema_of(known[name])) for name in resolve.DEFAULT_COLUMNS}),
            "What a request gets that leaves them out; null is the parameter's own.",
        ),
        task_types=with_description(
            make_nullable({"type": "array", "minItems": 1, "items": TEXT}),
            "What it can be asked for; null where this server's web doesn't have the model's configuration.",
        ),
        schedulers=with_description(
            make_nullable({"type": "array", "minItems": 1, "items": TEXT}),
            "Those that it takes; null where this server's web doesn't have the model's configuration.",
        ),
        max_images=with_description({"type": "integer", "minimum": 1}, "How many pictures a request may ask for."),
        max_batch=with_description(
            make_nullable({"type": "integer", "minimum": 1}), "How many one call makes; null is the server's."
        ),
        load_options=with_description(object_schema(**options), "How workers load it."),
        license=make_nullable(TEXT),
        loaded_on=with_description({"type": "array", "items": TEXT}, "The living workers that hold it."),
    )


def _readiness_schema() -> Schema:
    parts = {
        name: with_description(TEXT, "`ok`, or what is wrong.")
        for name in ("database", "redis", "storage", "default_model")
    }
    workers = with_description(make_nullable(COUNT), "How many live; null while the database is away.")
    return object_schema(status={"enum": ["ok", "unavailable"]}, **parts, workers=workers)


def _event_schema() -> Schema:
    """Return the schema of an event of a stream; the event's name determines the schema of its data."""
    of_task = {"task": UUID}
    status = object_schema({"queue_position": COUNT, "paused": FLAG}, **of_task, status=TEXT, attempt=COUNT)
    preview = object_schema(
        **of_task,
        attempt=COUNT,
        step=COUNT,
        total_steps=COUNT,
        width=COUNT,
        height=COUNT,
        src=with_description(URI, "A `data:` URL of the picture as it forms."),
    )
    data = {
        "status": status,
        "progress": {"allOf": [object_schema(**of_task, attempt=COUNT), component_ref("schemas", "Progress")]},
        "preview": preview,
        "image": {"allOf": [object_schema(**of_task), component_ref("schemas", "Image")]},
        "done": {"allOf": [object_schema(**of_task), component_ref("schemas", "Task")]},
    }
    return with_description(
        {"oneOf": [_named_event_schema(name, schema) for name, schema in data.items()]}, "One event of a stream."
    )


def _named_event_schema(name: str, data: Schema) -> Schema:
    content = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return object_schema({"id": with_description(TEXT, "For `Last-Event-ID`.")}, event={"const": name}, data=content)


def _error_schema(status: int) -> Schema:
    refusal = ERROR_RESPONSES[status]
    members: dict[str, Schema] = {
        "code": {"type": "string", "enum": list(refusal.codes)},
        "message": with_description(TEXT, "For people."),
        "retryable": FLAG,
    }
    field = object_schema(
        path=with_description(TEXT, "Where it is, with dots; empty for the whole body."), code=TEXT, message=TEXT
    )
    more: dict[str, Schema] = {
        "fields": {"type": "array", "minItems": 1, "items": field},
        "limit": object_schema(name=TEXT, max=COUNT),
    }
    always = {name: more[name] for name in refusal.required_members}
    sometimes = {"fields": more["fields"]} if status == 400 else {}
    return object_schema(error=object_schema(sometimes, **members, **always))
