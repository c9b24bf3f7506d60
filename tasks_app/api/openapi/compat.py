"""Endpoints of the compatibility APIs, with the request and response formats of OpenAI and A1111."""

from __future__ import annotations

from typing import Any

from tasks_app.api.compat import a1111, openai
from tasks_app.api.openapi.fields import schema_of
from tasks_app.api.openapi.operations import JSON, Operation, ResponseSpec, component_ref
from tasks_app.api.openapi.shapes import COUNT, FLAG, TEXT, URI, UUID, make_nullable, object_schema, with_description
from tasks_app.models import Scope
from tasks_app.task_types import parameters

Schema = dict[str, Any]
OBJECT: Schema = {"type": "object", "additionalProperties": True}
NUMBER: Schema = {"type": "number"}
# Statuses of the response if the task does not succeed while the client waits.
_WAIT_STATUSES = (409, 410, 422, 500, 503, 504)


def build_body_schemas() -> dict[str, Schema]:
    """Return the schemas of the compatibility APIs' requests and responses by name."""
    return {
        "OpenAIError": object_schema(
            error=object_schema(message=TEXT, type=TEXT, param=make_nullable(TEXT), code=TEXT)
        ),
        "A1111Error": object_schema(
            error=TEXT, detail={"oneOf": [TEXT, _error_detail_schema()]}, body=TEXT, errors=TEXT
        ),
        "Generation": _generation_schema(),
        "Generated": object_schema(
            created=COUNT, data={"type": "array", "items": _image_data_schema()}, size=TEXT, output_format=TEXT
        ),
        "Model": object_schema(id=TEXT, object={"const": "model"}, created=COUNT, owned_by=TEXT),
        "Models": object_schema(
            object={"const": "list"}, data={"type": "array", "items": component_ref("schemas", "Model")}
        ),
        "TextToImage": _text_to_image_schema(),
        "Pictures": object_schema(
            images={"type": "array", "items": TEXT}, parameters=OBJECT, info=with_description(TEXT, "JSON.")
        ),
        "WebUIProgress": _progress_schema(),
        "PictureInfo": object_schema(info=TEXT, items=OBJECT, parameters=OBJECT),
    }


def _error_detail_schema() -> Schema:
    return {"type": "array", "items": object_schema(loc={"type": "array", "items": TEXT}, msg=TEXT, type=TEXT)}


def _image_data_schema() -> Schema:
    return {"oneOf": [object_schema(url=URI), object_schema(b64_json=TEXT)]}


def _param_schemas(*names: str) -> dict[str, Schema]:
    found = parameters.get_param_fields()
    return {name: make_nullable(schema_of(found[name])) for name in names}


def _generation_schema() -> Schema:
    fields = parameters.get_param_fields()
    own = _param_schemas("negative_prompt", "seed", "steps", "guidance_scale", "scheduler", "output_format")
    more = {
        **own,
        "model": make_nullable(schema_of(fields["model_id"])),
        "n": make_nullable(schema_of(fields["num_images"])),
        "size": make_nullable({"type": "string", "pattern": "^(auto|[0-9]{1,5}x[0-9]{1,5})$"}),
        "response_format": make_nullable({"type": "string", "enum": ["url", "b64_json"]}),
        "background": make_nullable({"type": "string", "enum": ["auto", "opaque"]}),
        "stream": with_description({"enum": [False, None]}, "Not here."),
        "partial_images": with_description({"enum": [0, None]}, "Not here."),
        **{name: with_description({}, "Without effect.") for name in openai.IGNORED_FIELDS},
    }
    return {**object_schema(more, prompt=schema_of(fields["prompt"])), "additionalProperties": False}


def _text_to_image_schema() -> Schema:
    found = parameters.get_param_fields()
    count = {"type": "integer", "minimum": 1}
    more = {
        **_param_schemas("negative_prompt", "steps", "width", "height"),
        "cfg_scale": make_nullable(schema_of(found["guidance_scale"])),
        "seed": make_nullable({**schema_of(found["seed"]), "minimum": -1}),
        "batch_size": make_nullable(count),
        "n_iter": make_nullable(count),
        **{name: make_nullable(TEXT) for name in ("sampler_name", "sampler_index", "scheduler")},
        "override_settings": make_nullable(OBJECT),
        "alwayson_scripts": make_nullable(OBJECT),
        "send_images": make_nullable(FLAG),
    }
    return object_schema(more, prompt=schema_of(found["prompt"]))


def _progress_schema() -> Schema:
    state = object_schema(
        skipped=FLAG,
        interrupted=FLAG,
        stopping_generation=FLAG,
        job={"anyOf": [UUID, {"const": ""}]},
        job_count=COUNT,
        job_timestamp=TEXT,
        job_no=COUNT,
        sampling_step=COUNT,
        sampling_steps=COUNT,
    )
    return object_schema(
        progress={"type": "number", "minimum": 0, "maximum": 1},
        eta_relative=NUMBER,
        state=state,
        current_image=with_description(make_nullable(TEXT), "WebP in Base64."),
        textinfo=make_nullable(TEXT),
    )


def _ok_response(says: str, schema: Schema) -> dict[int, ResponseSpec]:
    return {200: ResponseSpec(description=says, content={JSON: schema})}


def _a1111_operation(name: str, summary: str, says: str, schema: Schema, **more: Any) -> Operation:
    refusals = (406, *more.pop("refusals", ()))
    answers = _ok_response(says, schema)
    return Operation(id=name, tag="A1111", summary=summary, kind="A1111", answers=answers, refusals=refusals, **more)


def _array_of(item: Schema) -> Schema:
    return {"type": "array", "items": item}


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
        body={JSON: {**OBJECT, "properties": {"sd_model_checkpoint": make_nullable(TEXT)}}},
        refusals=(422,),
        scope=Scope.SUBMIT,
    ),
    "GET /sdapi/v1/sd-models": _a1111_operation(
        "listCheckpoints",
        "List the models that a request may name.",
        "The models.",
        _array_of(object_schema(title=TEXT, model_name=TEXT, filename=TEXT, hash={}, sha256={}, config={})),
        scope=Scope.MODELS,
    ),
    "GET /sdapi/v1/loras": _a1111_operation(
        "listLoraNames",
        "List the LoRAs that a prompt may name.",
        "The LoRAs.",
        _array_of(object_schema(name=TEXT, alias=TEXT, path=TEXT, metadata=OBJECT)),
        scope=Scope.MODELS,
    ),
    "GET /sdapi/v1/embeddings": _a1111_operation(
        "listEmbeddingNames",
        "List the embeddings that a prompt may name.",
        "The embeddings.",
        object_schema(loaded=OBJECT, skipped=OBJECT),
        scope=Scope.MODELS,
    ),
    "GET /sdapi/v1/samplers": _a1111_operation(
        "listSamplers",
        "List A1111's samplers that this server has.",
        "The samplers.",
        _array_of(object_schema(name=TEXT, aliases=_array_of(TEXT), options=OBJECT)),
    ),
    "GET /sdapi/v1/schedulers": _a1111_operation(
        "listSchedulers",
        "List the types of schedules.",
        "The schedules.",
        _array_of(object_schema(name=TEXT, label=TEXT, aliases={}, default_rho=NUMBER, need_inner_model=FLAG)),
    ),
    "POST /sdapi/v1/png-info": _a1111_operation(
        "pictureInfo",
        "Tell what a picture's file says of how it was made.",
        "What it says, which may be nothing.",
        component_ref("schemas", "PictureInfo"),
        examples={"start of a file": {"image": "iVBORw0KGgo="}},
        body={
            JSON: {
                **object_schema(image=with_description({**TEXT, "minLength": 1}, "Base64, or a `data:` URL.")),
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
