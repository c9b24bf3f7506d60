"""The JSON that the API answers with, as components of the schema."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from rest_framework.serializers import Field

from tasks_app import errors
from tasks_app.api.openapi.errors import REFUSALS
from tasks_app.api.openapi.fields import schema_of
from tasks_app.api.openapi.operations import ref
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
# What is told by facades alone, which hold an answer until the task has ended.
OF_HELD = (500, 504)
# What only requests are refused with; the rest are the codes of tasks that ended without pictures.
_OF_REQUESTS = {
    error.code
    for error in (
        errors.ModelNotAllowed,
        errors.LimitExceeded,
        errors.KeyReused,
        errors.UnreadablePicture,
        errors.NotReproducible,
    )
}


def schemas() -> dict[str, Schema]:
    """Return all of them by name."""
    refusals = {refusal.name: _refusal(status) for status, refusal in REFUSALS.items() if status not in OF_HELD}
    return {
        "Task": _task(),
        "TaskParams": _params(),
        "Progress": _progress(),
        "Image": _image(),
        "TaskError": _task_error(),
        "Reproduction": _reproduction(),
        "TaskPage": _page(),
        "Recovered": _recovered(),
        "Upload": shape(id=UUID, sha256=said(TEXT, "Of the PNG that is kept."), width=COUNT, height=COUNT),
        "DiffusionModel": _model(),
        "Lora": shape(id=TEXT, bytes=said(COUNT, "Of its file.")),
        "Embedding": shape(id=TEXT, bytes=said(COUNT, "Of its file.")),
        "Event": _event(),
        "Links": shape(events=URI, images={"type": "array", "items": URI}),
        "Health": shape(status={"const": "ok"}),
        "Readiness": _readiness(),
        **refusals,
    }


def shape(optional: dict[str, Schema] | None = None, **members: Schema) -> Schema:
    """Return an object of these members."""
    return {"type": "object", "required": list(members), "properties": {**members, **(optional or {})}}


def nullable(schema: Schema) -> Schema:
    """Return the schema that takes null, too."""
    if "$ref" in schema:
        return {"oneOf": [schema, {"type": "null"}]}
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **choices}


def said(schema: Schema, description: str) -> Schema:
    """Return the schema with a description."""
    return {**schema, "description": description}


def _task() -> Schema:
    return shape(
        id=UUID,
        task_type=TEXT,
        status=said({"type": "string", "enum": Status.values}, "The last three never change."),
        priority={"type": "integer", "minimum": LOWEST_PRIORITY, "maximum": HIGHEST_PRIORITY},
        params=ref("schemas", "TaskParams"),
        model=said(
            shape(id=TEXT, revision=nullable(TEXT)),
            "What the name resolved to, and the commit that was loaded (`local` for a folder of the server).",
        ),
        progress=ref("schemas", "Progress"),
        queue_position=said(
            nullable({"type": "integer", "minimum": 1}), "Its place by priority and age while it is queued."
        ),
        paused=said(FLAG, "It is queued and waits for somebody to resume the queue or its model."),
        attempt=said(COUNT, "How often a worker has taken it."),
        images={"type": "array", "items": ref("schemas", "Image")},
        error=nullable(ref("schemas", "TaskError")),
        created_at=TIME,
        started_at=nullable(TIME),
        finished_at=nullable(TIME),
        timings=said({"type": "object", "additionalProperties": {"type": "number"}}, "Seconds by stage."),
        provenance=said(
            {"type": "object", "additionalProperties": TEXT},
            "What the pictures depend on beside parameters and commit; empty before it has succeeded.",
        ),
        retried_from=said(nullable(UUID), "The task that this one repeats."),
        reproduction=nullable(ref("schemas", "Reproduction")),
        urls=shape(self=URI, events=URI, cancel=URI, images=URI),
    )


def _params() -> Schema:
    """Return every effective parameter; those that came later are missing from older tasks."""
    # Inpainting has all that there are.
    known = {name: _value(field) for name, field in parameters.fields(INPAINTING).items()}
    required = ["provider", "model_id", "prompt", "steps", "seed"]
    return {"type": "object", "required": required, "properties": {**known, "provider": TEXT}}


def _value(field: Field[Any, Any, Any, Any]) -> Schema:
    return nullable(schema_of(field)) if field.allow_null else schema_of(field)


def _progress() -> Schema:
    return said(
        shape(
            {"bytes_done": nullable(COUNT), "bytes_total": nullable(COUNT)},
            phase=nullable({"type": "string", "enum": Phase.values}),
            step=COUNT,
            total_steps=COUNT,
            percent={"type": "integer", "minimum": 0, "maximum": 100},
            eta_seconds=nullable({"type": "number", "minimum": 0}),
        ),
        "Live while the task runs; bytes are those of a model that is being downloaded.",
    )


def _image() -> Schema:
    return shape(
        index=COUNT,
        url=URI,
        thumbnail_url=URI,
        seed=said(COUNT, "The task's seed + index."),
        width=COUNT,
        height=COUNT,
        content_type=TEXT,
        sha256=TEXT,
        flagged=said(FLAG, str(TaskImage._meta.get_field("flagged").help_text)),
        black=said(FLAG, str(TaskImage._meta.get_field("black").help_text)),
        purged=said(FLAG, "Its file was removed: its address is 410."),
    )


def _task_error() -> Schema:
    codes = sorted(errors.RETRYABLE.keys() - _OF_REQUESTS)
    return shape(
        code={"type": "string", "enum": codes},
        message=said(TEXT, "For people."),
        retryable=said(FLAG, "The same request may succeed another time."),
    )


def _reproduction() -> Schema:
    verdict: Schema = {"type": "string", "enum": list(get_args(Verdict))}
    image = shape(
        index=COUNT,
        verdict=verdict,
        psnr=said(nullable({"type": "number"}), "In decibels; null where pixels are equal or can't be compared."),
        same_file=said(FLAG, "The files are equal byte by byte."),
    )
    then_and_now: Schema = {"type": "array", "items": nullable(TEXT), "minItems": 2, "maxItems": 2}
    return shape(
        of=said(nullable(UUID), "The task that this one reproduces; null once that is deleted."),
        verdict=said(nullable(verdict), "The worst of the pictures'; null before it has succeeded."),
        images={"type": "array", "items": image},
        differs=said({"type": "object", "additionalProperties": then_and_now}, "What was, and is now, otherwise."),
    )


def _page() -> Schema:
    return shape(next=nullable(URI), previous=nullable(URI), results={"type": "array", "items": ref("schemas", "Task")})


def _recovered() -> Schema:
    return shape(
        source={"type": "string", "enum": ["diffusers-handler", "a1111"]},
        task_type=TEXT,
        params=said({"type": "object", "additionalProperties": True}, "Ready for `POST /task`."),
        ignored=said({"type": "object", "additionalProperties": True}, "What this server has nothing for."),
    )


def _model() -> Schema:
    known = parameters.fields()
    kinds: dict[type, Schema] = {str: TEXT, bool: FLAG}
    options = {option.name: kinds[type(option.default)] for option in fields(LoadOptions)}
    return shape(
        id=TEXT,
        aliases=said({"type": "array", "items": TEXT}, "Other names that requests may use."),
        default=said(FLAG, "Requests that name no model get this one."),
        allowed=said(FLAG, "Requests may name it."),
        paused=said(FLAG, "Its tasks wait until it is resumed."),
        revision=said(nullable(TEXT), "The commit that it stays at; null is the newest."),
        defaults=said(
            shape(**{name: nullable(schema_of(known[name])) for name in resolve.DEFAULTS}),
            "What a request gets that leaves them out; null is the parameter's own.",
        ),
        task_types=said(
            nullable({"type": "array", "minItems": 1, "items": TEXT}),
            "What it can be asked for; null where this server's web doesn't have the model's configuration.",
        ),
        schedulers=said(
            nullable({"type": "array", "minItems": 1, "items": TEXT}),
            "Those that it takes; null where this server's web doesn't have the model's configuration.",
        ),
        max_images=said({"type": "integer", "minimum": 1}, "How many pictures a request may ask for."),
        max_batch=said(nullable({"type": "integer", "minimum": 1}), "How many one call makes; null is the server's."),
        loading=said(shape(**options), "How workers load it."),
        license=nullable(TEXT),
        warm_on=said({"type": "array", "items": TEXT}, "The living workers that hold it."),
    )


def _readiness() -> Schema:
    parts = {name: said(TEXT, "`ok`, or what is wrong.") for name in ("database", "redis", "storage", "default_model")}
    workers = said(nullable(COUNT), "How many live; null while the database is away.")
    return shape(status={"enum": ["ok", "unavailable"]}, **parts, workers=workers)


def _event() -> Schema:
    """Return what one event of a stream is, its data parsed by what it is called."""
    of_task = {"task": UUID}
    status = shape({"queue_position": COUNT, "paused": FLAG}, **of_task, status=TEXT, attempt=COUNT)
    preview = shape(
        **of_task,
        attempt=COUNT,
        step=COUNT,
        total_steps=COUNT,
        width=COUNT,
        height=COUNT,
        src=said(URI, "A `data:` URL of the picture as it forms."),
    )
    data = {
        "status": status,
        "progress": {"allOf": [shape(**of_task, attempt=COUNT), ref("schemas", "Progress")]},
        "preview": preview,
        "image": {"allOf": [shape(**of_task), ref("schemas", "Image")]},
        "done": {"allOf": [shape(**of_task), ref("schemas", "Task")]},
    }
    return said({"oneOf": [_named(name, schema) for name, schema in data.items()]}, "One event of a stream.")


def _named(name: str, data: Schema) -> Schema:
    content = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return shape({"id": said(TEXT, "For `Last-Event-ID`.")}, event={"const": name}, data=content)


def _refusal(status: int) -> Schema:
    refusal = REFUSALS[status]
    members: dict[str, Schema] = {
        "code": {"type": "string", "enum": list(refusal.codes)},
        "message": said(TEXT, "For people."),
        "retryable": FLAG,
    }
    field = shape(path=said(TEXT, "Where it is, with dots; empty for the whole body."), code=TEXT, message=TEXT)
    more: dict[str, Schema] = {
        "fields": {"type": "array", "minItems": 1, "items": field},
        "limit": shape(name=TEXT, max=COUNT),
    }
    always = {name: more[name] for name in refusal.always}
    sometimes = {"fields": more["fields"]} if status == 400 else {}
    return shape(error=shape(sometimes, **members, **always))
