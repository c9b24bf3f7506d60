"""Table of all API endpoints by method and path; add a new endpoint here and to docs/reference/api.md."""

from __future__ import annotations

from typing import Any, get_args

from tasks_app.api.openapi import compat
from tasks_app.api.openapi.examples import (
    EMBEDDING,
    EVENT,
    IMAGE,
    LORA,
    MODEL,
    PAGE,
    QUEUED,
    READY,
    RECOVERED,
    REPRODUCING,
    SUBMISSIONS,
    SUCCEEDED,
    UPLOAD,
)
from tasks_app.api.openapi.operations import JSON, Operation, ResponseSpec, component_ref
from tasks_app.engine.types import OutputFormat
from tasks_app.models import Scope
from tasks_app.submissions import SubmissionSerializer

_TASK_CONTENT = {JSON: component_ref("schemas", "Task")}
_STREAM_CONTENT = {"text/event-stream": component_ref("schemas", "Event")}
_IMAGE_CONTENT: dict[str, Any] = {
    f"image/{kind}": {"type": "string", "format": "binary"} for kind in get_args(OutputFormat)
}
_PNG_CONTENT = {"image/png": _IMAGE_CONTENT["image/png"]}
_THUMBNAIL_CONTENT = {"image/webp": _IMAGE_CONTENT["image/webp"]}
_BYTES_HEADERS = ("ETag", "Cache-Control")
_NOT_MODIFIED = ResponseSpec(description="The client has these bytes.", headers=_BYTES_HEADERS)
_EVENTS_DESCRIPTION = """
Server-sent events: `status`, `progress`, `preview` and `image`, and `done` at the end of a task. Their data are JSON
with the task's id as `task`; `done` has the task, `image` one of its images. `Last-Event-ID` goes on where it was cut.
""".strip()


def _queued_response(example: Any) -> ResponseSpec:
    return ResponseSpec(
        description="The new task; with `Prefer: wait=N` as it is after the wait.",
        content=_TASK_CONTENT,
        example=example,
        headers=("Location", "Preference-Applied"),
        links=("task", "cancel", "images", "links"),
    )


def _replayed_response(example: Any) -> ResponseSpec:
    return ResponseSpec(
        description="The task that the same request made before.",
        content=_TASK_CONTENT,
        example=example,
        headers=("Location", "Idempotency-Replayed", "Preference-Applied"),
    )


OPERATIONS = {
    "GET /task": Operation(
        id="listTasks",
        tag="tasks",
        summary="List tasks, the newest first.",
        parameters=("status", "model_id", "limit", "cursor"),
        answers={
            200: ResponseSpec(
                description="A page of tasks.", content={JSON: component_ref("schemas", "TaskPage")}, example=PAGE
            )
        },
        refusals=(404, 406),
    ),
    "POST /task": Operation(
        id="submitTask",
        tag="tasks",
        summary="Queue a task.",
        description='Types are strict: `true`, `"25"` and `25.0` are no integers. All wrong fields are named at once.',
        parameters=("Idempotency-Key", "Prefer"),
        body=SubmissionSerializer,
        examples=SUBMISSIONS,
        answers={
            201: _queued_response(QUEUED),
            200: _replayed_response(QUEUED),
        },
        refusals=(406, 422),
        scope=Scope.SUBMIT,
    ),
    "POST /task/from-image": Operation(
        id="readImage",
        tag="tasks",
        summary="Return the parameters that a picture's file tells.",
        description="One that this service made, or one with A1111's `parameters`. Its bytes say of which kind it is.",
        body=_IMAGE_CONTENT,
        answers={
            200: ResponseSpec(
                description="What it tells.", content={JSON: component_ref("schemas", "Recovered")}, example=RECOVERED
            ),
        },
        refusals=(406,),
    ),
    "POST /upload": Operation(
        id="uploadImage",
        tag="images",
        summary="Keep a picture for tasks to begin with.",
        description="As its pixels alone, upright and on white. It goes when it is older than the server keeps uploads "
        "and no task refers to it.",
        body=_IMAGE_CONTENT,
        answers={
            201: ResponseSpec(
                description="What is kept.", content={JSON: component_ref("schemas", "Upload")}, example=UPLOAD
            )
        },
        refusals=(406,),
        scope=Scope.SUBMIT,
    ),
    "GET /upload/{upload_id}": Operation(
        id="getUpload",
        tag="images",
        summary="Return an upload's picture; its bytes never change.",
        parameters=("upload_id", "If-None-Match", "If-Match"),
        answers={
            200: ResponseSpec(description="The picture.", content=_PNG_CONTENT, headers=_BYTES_HEADERS),
            304: _NOT_MODIFIED,
        },
        refusals=(404, 412),
    ),
    "GET /task/{task_id}": Operation(
        id="getTask",
        tag="tasks",
        summary="Return a task, with live progress while it runs.",
        parameters=("task_id",),
        answers={200: ResponseSpec(description="The task.", content=_TASK_CONTENT, example=SUCCEEDED)},
        refusals=(404, 406),
    ),
    "POST /task/{task_id}/cancel": Operation(
        id="cancelTask",
        tag="tasks",
        summary="Cancel a task; one that has ended stays as it is.",
        description="A queued task ends at once, a running one within its step.",
        parameters=("task_id",),
        answers={
            200: ResponseSpec(
                description="The task, whatever its state was.",
                content=_TASK_CONTENT,
                example=QUEUED,
                links=("task", "events"),
            )
        },
        refusals=(404, 406),
        scope=Scope.SUBMIT,
    ),
    "POST /task/{task_id}/reproduce": Operation(
        id="reproduceTask",
        tag="tasks",
        summary="Queue a task that succeeded once more, alone, to compare the pictures.",
        description="Same parameters, same seed, same commit. When it has ended, `reproduction` tells what came of it.",
        parameters=("task_id", "Idempotency-Key", "Prefer"),
        answers={201: _queued_response(REPRODUCING), 200: _replayed_response(REPRODUCING)},
        refusals=(404, 406, 409, 422),
        scope=Scope.SUBMIT,
    ),
    "GET /task/{task_id}/events": Operation(
        id="streamTask",
        tag="events",
        summary="Stream what happens to a task, until it has ended.",
        description=_EVENTS_DESCRIPTION,
        parameters=("task_id", "Last-Event-ID"),
        answers={
            200: ResponseSpec(
                description="The stream.", content=_STREAM_CONTENT, example=EVENT, headers=("Cache-Control",)
            )
        },
        refusals=(404,),
        signed=True,
    ),
    "GET /events": Operation(
        id="streamTasks",
        tag="events",
        summary="Stream what happens to many tasks, until all have ended.",
        description=_EVENTS_DESCRIPTION,
        parameters=("task", "Last-Event-ID"),
        answers={
            200: ResponseSpec(
                description="The stream.", content=_STREAM_CONTENT, example=EVENT, headers=("Cache-Control",)
            )
        },
        refusals=(404,),
        signed=True,
    ),
    "GET /task/{task_id}/links": Operation(
        id="signLinks",
        tag="images",
        summary="Return addresses that need no key for a while.",
        description="For an `EventSource`, an `<img>`, or whoever is to see it.",
        parameters=("task_id",),
        answers={200: ResponseSpec(description="The addresses.", content={JSON: component_ref("schemas", "Links")})},
        refusals=(404, 406),
    ),
    "GET /task/{task_id}/images": Operation(
        id="listImages",
        tag="images",
        summary="List a task's pictures.",
        parameters=("task_id",),
        answers={
            200: ResponseSpec(
                description="The pictures; none before the task has succeeded.",
                content={JSON: {"type": "array", "items": component_ref("schemas", "Image")}},
                example=[IMAGE],
            )
        },
        refusals=(404, 406),
    ),
    "GET /task/{task_id}/images/{index}": Operation(
        id="getImage",
        tag="images",
        summary="Return a picture's bytes; they never change.",
        parameters=("task_id", "index", "If-None-Match", "If-Match"),
        answers={
            200: ResponseSpec(description="The picture.", content=_IMAGE_CONTENT, headers=_BYTES_HEADERS),
            302: ResponseSpec(description="The picture is in a bucket.", headers=("Location", "Cache-Control")),
            304: _NOT_MODIFIED,
        },
        refusals=(404, 410, 412),
        signed=True,
    ),
    "GET /task/{task_id}/images/{index}/thumbnail": Operation(
        id="getThumbnail",
        tag="images",
        summary="Return a picture as WebP, at most 256 pixels wide and high.",
        parameters=("task_id", "index", "If-None-Match", "If-Match"),
        answers={
            200: ResponseSpec(description="The small picture.", content=_THUMBNAIL_CONTENT, headers=_BYTES_HEADERS),
            304: _NOT_MODIFIED,
        },
        refusals=(404, 410, 412),
        signed=True,
    ),
    "GET /models": Operation(
        id="describeModels",
        tag="models",
        summary="List the models: what requests may name, and how each is loaded and called.",
        answers={
            200: ResponseSpec(
                description="All of them by name, those that are not allowed too.",
                content={JSON: {"type": "array", "items": component_ref("schemas", "DiffusionModel")}},
                example=[MODEL],
            )
        },
        refusals=(406,),
        scope=Scope.MODELS,
    ),
    "GET /loras": Operation(
        id="listLoras",
        tag="models",
        summary="List the LoRAs that requests may name.",
        answers={
            200: ResponseSpec(
                description="All of them by name.",
                content={JSON: {"type": "array", "items": component_ref("schemas", "Lora")}},
                example=[LORA],
            )
        },
        refusals=(406,),
        scope=Scope.MODELS,
    ),
    "GET /embeddings": Operation(
        id="listEmbeddings",
        tag="models",
        summary="List the embeddings that requests may name.",
        answers={
            200: ResponseSpec(
                description="All of them by name.",
                content={JSON: {"type": "array", "items": component_ref("schemas", "Embedding")}},
                example=[EMBEDDING],
            )
        },
        refusals=(406,),
        scope=Scope.MODELS,
    ),
    **compat.OPERATIONS,
    "GET /schema": Operation(
        id="getSchema",
        tag="service",
        summary="Return this schema.",
        answers={
            200: ResponseSpec(
                description="OpenAPI 3.1.",
                content={
                    kind: {"type": "object"}
                    for kind in (
                        JSON,
                        "application/vnd.oai.openapi+json",
                        "application/yaml",
                        "application/vnd.oai.openapi",
                    )
                },
            )
        },
        refusals=(406,),
        scope=None,
    ),
    "GET /healthz": Operation(
        id="health",
        tag="service",
        summary="Say that the process is up.",
        answers={
            200: ResponseSpec(
                description="It is.", content={JSON: component_ref("schemas", "Health")}, example={"status": "ok"}
            )
        },
        scope=None,
    ),
    "GET /readyz": Operation(
        id="readiness",
        tag="service",
        summary="Say whether the service can work.",
        answers={
            200: ResponseSpec(
                description="Database, Redis and storage can be used, and all migrations are applied.",
                content={JSON: component_ref("schemas", "Readiness")},
                example=READY,
            ),
            503: ResponseSpec(
                description="What is missing.",
                content={JSON: component_ref("schemas", "Readiness")},
                example={**READY, "status": "unavailable", "redis": "does not answer"},
            ),
        },
        scope=None,
    ),
    "GET /metrics": Operation(
        id="metrics",
        tag="service",
        summary="Return all metrics for Prometheus.",
        description="Where the server has a METRICS_TOKEN, only for who sends that as a bearer token.",
        answers={200: ResponseSpec(description="The metrics.", content={"text/plain": {"type": "string"}})},
        refusals=(401,),
        scope=None,
    ),
}
