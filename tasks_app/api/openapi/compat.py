"""Endpoints of the compatibility APIs, with the request and response formats of OpenAI and A1111."""

from __future__ import annotations

from typing import Any

from tasks_app import answers
from tasks_app.api.compat import a1111, openai
from tasks_app.api.openapi.answers import schema_of_answer
from tasks_app.api.openapi.fields import nullable_schema_of, schema_of
from tasks_app.api.openapi.operations import JSON, Operation, ResponseSpec, component_ref
from tasks_app.models import Scope
from tasks_app.task_types import parameters

Schema = dict[str, Any]
OBJECT: Schema = {"type": "object", "additionalProperties": True}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
OBJECT_OR_NULL: Schema = {**OBJECT, "type": ["object", "null"]}
COUNT_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 1}
# Statuses of the response if the task does not succeed while the client waits.
_WAIT_STATUSES = (409, 410, 422, 500, 503, 504)


def build_body_schemas() -> dict[str, Schema]:
    """Return the schemas of the compatibility APIs' requests by name."""
    return {"Generation": _generation_schema(), "TextToImage": _text_to_image_schema()}


def _param_schemas(*names: str) -> dict[str, Schema]:
    found = parameters.get_param_fields()
    return {name: nullable_schema_of(found[name]) for name in names}


def _generation_schema() -> Schema:
    fields = parameters.get_param_fields()
    properties = {
        "prompt": schema_of(fields["prompt"]),
        **_param_schemas("negative_prompt", "seed", "steps", "guidance_scale", "scheduler", "output_format"),
        "model": nullable_schema_of(fields["model_id"]),
        "n": nullable_schema_of(fields["num_images"]),
        "size": {**TEXT_OR_NULL, "pattern": "^(auto|[0-9]{1,5}x[0-9]{1,5})$"},
        "response_format": {"enum": ["url", "b64_json", None]},
        "background": {"enum": ["auto", "opaque", None]},
        "stream": {"enum": [False, None], "description": "Not supported."},
        "partial_images": {"enum": [0, None], "description": "Not supported."},
        **{name: {"description": "Without effect."} for name in openai.IGNORED_FIELDS},
    }
    return {"type": "object", "required": ["prompt"], "properties": properties, "additionalProperties": False}


def _text_to_image_schema() -> Schema:
    found = parameters.get_param_fields()
    properties = {
        "prompt": schema_of(found["prompt"]),
        **_param_schemas("negative_prompt", "steps", "width", "height"),
        "cfg_scale": nullable_schema_of(found["guidance_scale"]),
        "seed": {**nullable_schema_of(found["seed"]), "minimum": -1},
        "batch_size": COUNT_OR_NULL,
        "n_iter": COUNT_OR_NULL,
        **dict.fromkeys(("sampler_name", "sampler_index", "scheduler"), TEXT_OR_NULL),
        "override_settings": OBJECT_OR_NULL,
        "alwayson_scripts": OBJECT_OR_NULL,
        "send_images": {"type": ["boolean", "null"]},
    }
    return {"type": "object", "required": ["prompt"], "properties": properties}


def _ok_response(says: str, schema: Schema) -> dict[int, ResponseSpec]:
    return {200: ResponseSpec(description=says, content={JSON: schema})}


def _a1111_operation(name: str, summary: str, says: str, schema: Schema, **more: Any) -> Operation:
    refusals = (406, *more.pop("refusals", ()))
    answers = _ok_response(says, schema)
    return Operation(id=name, tag="A1111", summary=summary, kind="A1111", answers=answers, refusals=refusals, **more)


def _array_of(item: Any) -> Schema:
    return {"type": "array", "items": schema_of_answer(item)}


def _openai_operation(name: str, summary: str, says: str, schema: str, **more: Any) -> Operation:
    refusals = (406, *more.pop("refusals", ()))
    answers = _ok_response(says, component_ref("schemas", schema))
    return Operation(id=name, tag="OpenAI", summary=summary, kind="OpenAI", answers=answers, refusals=refusals, **more)


OPERATIONS = {
    "POST /v1/images/generations": _openai_operation(
        "createImage",
        "Make pictures, and answer when they are there.",
        "The pictures.",
        "Generated",
        body={JSON: component_ref("schemas", "Generation")},
        examples={"two": {"model": "demo", "prompt": "a beach", "n": 2, "size": "64x64", "seed": 42}},
        parameters=("Idempotency-Key",),
        refusals=_WAIT_STATUSES,
        scope=Scope.SUBMIT,
    ),
    "GET /v1/models": _openai_operation(
        "listModels", "List the models that a request may name.", "The models.", "Models", scope=Scope.MODELS
    ),
    "GET /v1/models/{name}": _openai_operation(
        "getModel",
        "Return one of the models.",
        "The model.",
        "Model",
        parameters=("name",),
        refusals=(404,),
        scope=Scope.MODELS,
    ),
    "POST /sdapi/v1/txt2img": _a1111_operation(
        "textToImage",
        "Make pictures, and answer when they are there.",
        "The pictures.",
        component_ref("schemas", "Pictures"),
        body={JSON: component_ref("schemas", "TextToImage")},
        examples={"two": {"prompt": "a beach", "steps": 25, "sampler_name": "Euler a", "batch_size": 2, "seed": -1}},
        parameters=("Idempotency-Key",),
        refusals=_WAIT_STATUSES,
        scope=Scope.SUBMIT,
    ),
    "GET /sdapi/v1/progress": _a1111_operation(
        "progress",
        "Tell how far the caller's newest running task is, else its newest that waits.",
        "The progress.",
        component_ref("schemas", "WebUIProgress"),
        parameters=("skip_current_image",),
    ),
    "POST /sdapi/v1/interrupt": _a1111_operation(
        "interrupt", "Cancel the caller's own running tasks.", "Nothing more.", OBJECT, scope=Scope.SUBMIT
    ),
    "GET /sdapi/v1/options": _a1111_operation(
        "getOptions", "Return the caller's model, and how the other settings are.", "The settings.", OBJECT
    ),
    "POST /sdapi/v1/options": _a1111_operation(
        "setOptions",
        "Go on with another model: this key alone.",
        "Nothing more.",
        OBJECT,
        examples={"model": {"sd_model_checkpoint": "demo"}},
        body={JSON: {**OBJECT, "properties": {"sd_model_checkpoint": TEXT_OR_NULL}}},
        refusals=(422,),
        scope=Scope.SUBMIT,
    ),
    "GET /sdapi/v1/sd-models": _a1111_operation(
        "listCheckpoints",
        "List the models that a request may name.",
        "The models.",
        _array_of(answers.Checkpoint),
        scope=Scope.MODELS,
    ),
    "GET /sdapi/v1/loras": _a1111_operation(
        "listLoraNames",
        "List the LoRAs that a prompt may name.",
        "The LoRAs.",
        _array_of(answers.LoraName),
        scope=Scope.MODELS,
    ),
    "GET /sdapi/v1/embeddings": _a1111_operation(
        "listEmbeddingNames",
        "List the embeddings that a prompt may name.",
        "The embeddings.",
        schema_of_answer(answers.EmbeddingNames),
        scope=Scope.MODELS,
    ),
    "GET /sdapi/v1/samplers": _a1111_operation(
        "listSamplers",
        "List A1111's samplers that this server has.",
        "The samplers.",
        _array_of(answers.Sampler),
    ),
    "GET /sdapi/v1/schedulers": _a1111_operation(
        "listSchedulers",
        "List the types of schedules.",
        "The schedules.",
        _array_of(answers.SchedulerName),
    ),
    "POST /sdapi/v1/png-info": _a1111_operation(
        "pictureInfo",
        "Tell what a picture's file says of how it was made.",
        "What it says, which may be nothing.",
        component_ref("schemas", "PictureInfo"),
        examples={"start of a file": {"image": "iVBORw0KGgo="}},
        body={
            JSON: {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "string", "minLength": 1, "description": "Base64, or a `data:` URL."}},
                "additionalProperties": False,
            }
        },
        refusals=(422,),
    ),
    "GET /sdapi/v1/{what}": _a1111_operation(
        "listNothing",
        "Return an empty list of what this server has none of.",
        "Nothing, in the shape that clients expect.",
        {},
        parameters=("what",),
        refusals=(404,),
    ),
}
EMPTY_LIST_NAMES = sorted(a1111.EMPTY_RESPONSES)
