"""Every endpoint of the API, by method and path: a new one gets its entry here, and a row in docs/api.md."""

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
from tasks_app.api.openapi.operations import JSON, Answer, Operation, ref
from tasks_app.engine.types import OutputFormat
from tasks_app.models import Scope
from tasks_app.submissions import SubmissionSerializer

_TASK = {JSON: ref("schemas", "Task")}
_STREAM = {"text/event-stream": ref("schemas", "Event")}
_PICTURES: dict[str, Any] = {f"image/{kind}": {"type": "string", "format": "binary"} for kind in get_args(OutputFormat)}
_PNG = {"image/png": _PICTURES["image/png"]}
_SMALL = {"image/webp": _PICTURES["image/webp"]}
_BYTES = ("ETag", "Cache-Control")
_KNOWN = Answer(says="The client has these bytes.", headers=_BYTES)
_EVENTS = """
Server-sent events: `status`, `progress`, `preview` and `image`, and `done` at the end of a task. Their data are JSON
with the task's id as `task`; `done` has the task, `image` one of its images. `Last-Event-ID` goes on where it was cut.
""".strip()


def _queued(example: Any) -> Answer:
    return Answer(
        says="The new task; with `Prefer: wait=N` as it is after the wait.",
        content=_TASK,
        example=example,
        headers=("Location", "Preference-Applied"),
        links=("task", "cancel", "images", "links"),
    )


def _replayed(example: Any) -> Answer:
    return Answer(
        says="The task that the same request made before.",
        content=_TASK,
        example=example,
        headers=("Location", "Idempotency-Replayed", "Preference-Applied"),
    )


OPERATIONS = {
    "GET /task": Operation(
        id="listTasks",
        tag="tasks",
        summary="List tasks, the newest first.",
        parameters=("status", "model_id", "limit", "cursor"),
        answers={200: Answer(says="A page of tasks.", content={JSON: ref("schemas", "TaskPage")}, example=PAGE)},
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
            201: _queued(QUEUED),
            200: _replayed(QUEUED),
        },
        refusals=(406, 422),
        scope=Scope.SUBMIT,
    ),
    "POST /task/from-image": Operation(
        id="readImage",
        tag="tasks",
        summary="Return the parameters that a picture's file tells.",
        description="One that this service made, or one with A1111's `parameters`. Its bytes say of which kind it is.",
        body=_PICTURES,
        answers={
            200: Answer(says="What it tells.", content={JSON: ref("schemas", "Recovered")}, example=RECOVERED),
        },
        refusals=(406,),
    ),
    "POST /upload": Operation(
        id="uploadImage",
        tag="images",
        summary="Keep a picture for tasks to begin with.",
        description="As its pixels alone, upright and on white. It goes when it is older than the server keeps uploads "
        "and no task refers to it.",
        body=_PICTURES,
        answers={201: Answer(says="What is kept.", content={JSON: ref("schemas", "Upload")}, example=UPLOAD)},
        refusals=(406,),
        scope=Scope.SUBMIT,
    ),
    "GET /upload/{upload_id}": Operation(
        id="getUpload",
        tag="images",
        summary="Return an upload's picture; its bytes never change.",
        parameters=("upload_id", "If-None-Match", "If-Match"),
        answers={200: Answer(says="The picture.", content=_PNG, headers=_BYTES), 304: _KNOWN},
        refusals=(404, 412),
    ),
    "GET /task/{task_id}": Operation(
        id="getTask",
        tag="tasks",
        summary="Return a task, with live progress while it runs.",
        parameters=("task_id",),
        answers={200: Answer(says="The task.", content=_TASK, example=SUCCEEDED)},
        refusals=(404, 406),
    ),
    "POST /task/{task_id}/cancel": Operation(
        id="cancelTask",
        tag="tasks",
        summary="Cancel a task; one that has ended stays as it is.",
        description="A queued task ends at once, a running one within its step.",
        parameters=("task_id",),
        answers={
            200: Answer(
                says="The task, whatever its state was.", content=_TASK, example=QUEUED, links=("task", "events")
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
        answers={201: _queued(REPRODUCING), 200: _replayed(REPRODUCING)},
        refusals=(404, 406, 409, 422),
        scope=Scope.SUBMIT,
    ),
    "GET /task/{task_id}/events": Operation(
        id="streamTask",
        tag="events",
        summary="Stream what happens to a task, until it has ended.",
        description=_EVENTS,
        parameters=("task_id", "Last-Event-ID"),
        answers={200: Answer(says="The stream.", content=_STREAM, example=EVENT, headers=("Cache-Control",))},
        refusals=(404,),
        signed=True,
    ),
    "GET /events": Operation(
        id="streamTasks",
        tag="events",
        summary="Stream what happens to many tasks, until all have ended.",
        description=_EVENTS,
        parameters=("task", "Last-Event-ID"),
        answers={200: Answer(says="The stream.", content=_STREAM, example=EVENT, headers=("Cache-Control",))},
        refusals=(404,),
        signed=True,
    ),
    "GET /task/{task_id}/links": Operation(
        id="signLinks",
        tag="images",
        summary="Return addresses that need no key for a while.",
        description="For an `EventSource`, an `<img>`, or whoever is to see it.",
        parameters=("task_id",),
        answers={200: Answer(says="The addresses.", content={JSON: ref("schemas", "Links")})},
        refusals=(404, 406),
    ),
    "GET /task/{task_id}/images": Operation(
        id="listImages",
        tag="images",
        summary="List a task's pictures.",
        parameters=("task_id",),
        answers={
            200: Answer(
                says="The pictures; none before the task has succeeded.",
                content={JSON: {"type": "array", "items": ref("schemas", "Image")}},
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
            200: Answer(says="The picture.", content=_PICTURES, headers=_BYTES),
            302: Answer(says="The picture is in a bucket.", headers=("Location", "Cache-Control")),
            304: _KNOWN,
        },
        refusals=(404, 410, 412),
        signed=True,
    ),
    "GET /task/{task_id}/images/{index}/thumbnail": Operation(
        id="getThumbnail",
        tag="images",
        summary="Return a picture as WebP, at most 256 pixels wide and high.",
        parameters=("task_id", "index", "If-None-Match", "If-Match"),
        answers={200: Answer(says="The small picture.", content=_SMALL, headers=_BYTES), 304: _KNOWN},
        refusals=(404, 410, 412),
        signed=True,
    ),
    "GET /models": Operation(
        id="describeModels",
        tag="models",
        summary="List the models: what requests may name, and how each is loaded and called.",
        answers={
            200: Answer(
                says="All of them by name, those that are not allowed too.",
                content={JSON: {"type": "array", "items": ref("schemas", "DiffusionModel")}},
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
            200: Answer(
                says="All of them by name.",
                content={JSON: {"type": "array", "items": ref("schemas", "Lora")}},
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
            200: Answer(
                says="All of them by name.",
                content={JSON: {"type": "array", "items": ref("schemas", "Embedding")}},
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
            200: Answer(
                says="OpenAPI 3.1.",
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
        answers={200: Answer(says="It is.", content={JSON: ref("schemas", "Health")}, example={"status": "ok"})},
        scope=None,
    ),
    "GET /readyz": Operation(
        id="readiness",
        tag="service",
        summary="Say whether the service can work.",
        answers={
            200: Answer(
                says="Database, Redis and storage can be used, and all migrations are applied.",
                content={JSON: ref("schemas", "Readiness")},
                example=READY,
            ),
            503: Answer(
                says="What is missing.",
                content={JSON: ref("schemas", "Readiness")},
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
        answers={200: Answer(says="The metrics.", content={"text/plain": {"type": "string"}})},
        refusals=(401,),
        scope=None,
    ),
}
