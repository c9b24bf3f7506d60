"""The facades' endpoints: what OpenAI's and A1111's clients send and are answered, in those APIs' own shapes."""

from __future__ import annotations

from typing import Any

from tasks_app.api.compat import a1111, openai
from tasks_app.api.openapi.fields import schema_of
from tasks_app.api.openapi.operations import JSON, Answer, Operation, ref
from tasks_app.api.openapi.shapes import COUNT, FLAG, TEXT, URI, UUID, nullable, said, shape
from tasks_app.models import Scope
from tasks_app.task_types import parameters

Schema = dict[str, Any]
OBJECT: Schema = {"type": "object", "additionalProperties": True}
NUMBER: Schema = {"type": "number"}
# The status of a task that did not succeed, told by who waited for it.
_HELD = (409, 410, 422, 500, 503, 504)


def bodies() -> dict[str, Schema]:
    """Return what the facades take and answer, by name."""
    return {
        "OpenAIError": shape(error=shape(message=TEXT, type=TEXT, param=nullable(TEXT), code=TEXT)),
        "A1111Error": shape(error=TEXT, detail={"oneOf": [TEXT, _wrong()]}, body=TEXT, errors=TEXT),
        "Generation": _generation(),
        "Generated": shape(created=COUNT, data={"type": "array", "items": _datum()}, size=TEXT, output_format=TEXT),
        "Model": shape(id=TEXT, object={"const": "model"}, created=COUNT, owned_by=TEXT),
        "Models": shape(object={"const": "list"}, data={"type": "array", "items": ref("schemas", "Model")}),
        "TextToImage": _text_to_image(),
        "Pictures": shape(images={"type": "array", "items": TEXT}, parameters=OBJECT, info=said(TEXT, "JSON.")),
        "WebUIProgress": _progress(),
        "PictureInfo": shape(info=TEXT, items=OBJECT, parameters=OBJECT),
    }


def _wrong() -> Schema:
    return {"type": "array", "items": shape(loc={"type": "array", "items": TEXT}, msg=TEXT, type=TEXT)}


def _datum() -> Schema:
    return {"oneOf": [shape(url=URI), shape(b64_json=TEXT)]}


def _params(*names: str) -> dict[str, Schema]:
    found = parameters.fields()
    return {name: nullable(schema_of(found[name])) for name in names}


def _generation() -> Schema:
    fields = parameters.fields()
    own = _params("negative_prompt", "seed", "steps", "guidance_scale", "scheduler", "output_format")
    more = {
        **own,
        "model": nullable(schema_of(fields["model_id"])),
        "n": nullable(schema_of(fields["num_images"])),
        "size": nullable({"type": "string", "pattern": "^(auto|[0-9]{1,5}x[0-9]{1,5})$"}),
        "response_format": nullable({"type": "string", "enum": ["url", "b64_json"]}),
        "background": nullable({"type": "string", "enum": ["auto", "opaque"]}),
        "stream": said({"enum": [False, None]}, "Not here."),
        "partial_images": said({"enum": [0, None]}, "Not here."),
        **{name: said({}, "Without effect.") for name in openai.WITHOUT_EFFECT},
    }
    return {**shape(more, prompt=schema_of(fields["prompt"])), "additionalProperties": False}


def _text_to_image() -> Schema:
    found = parameters.fields()
    count = {"type": "integer", "minimum": 1}
    more = {
        **_params("negative_prompt", "steps", "width", "height"),
        "cfg_scale": nullable(schema_of(found["guidance_scale"])),
        "seed": nullable({**schema_of(found["seed"]), "minimum": -1}),
        "batch_size": nullable(count),
        "n_iter": nullable(count),
        **{name: nullable(TEXT) for name in ("sampler_name", "sampler_index", "scheduler")},
        "override_settings": nullable(OBJECT),
        "alwayson_scripts": nullable(OBJECT),
        "send_images": nullable(FLAG),
    }
    return shape(more, prompt=schema_of(found["prompt"]))


def _progress() -> Schema:
    state = shape(
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
    return shape(
        progress={"type": "number", "minimum": 0, "maximum": 1},
        eta_relative=NUMBER,
        state=state,
        current_image=said(nullable(TEXT), "WebP in Base64."),
        textinfo=nullable(TEXT),
    )


def _told(says: str, schema: Schema) -> dict[int, Answer]:
    return {200: Answer(says=says, content={JSON: schema})}


def _a1111(name: str, summary: str, says: str, schema: Schema, **more: Any) -> Operation:
    refusals = (406, *more.pop("refusals", ()))
    answers = _told(says, schema)
    return Operation(id=name, tag="A1111", summary=summary, kind="A1111", answers=answers, refusals=refusals, **more)


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _openai(name: str, summary: str, says: str, schema: str, **more: Any) -> Operation:
    refusals = (406, *more.pop("refusals", ()))
    answers = _told(says, ref("schemas", schema))
    return Operation(id=name, tag="OpenAI", summary=summary, kind="OpenAI", answers=answers, refusals=refusals, **more)


OPERATIONS = {
    "POST /v1/images/generations": _openai(
        "createImage",
        "Make pictures, and answer when they are there.",
        "The pictures.",
        "Generated",
        body={JSON: ref("schemas", "Generation")},
        examples={"two": {"model": "demo", "prompt": "a beach", "n": 2, "size": "64x64", "seed": 42}},
        parameters=("Idempotency-Key",),
        refusals=_HELD,
        scope=Scope.SUBMIT,
    ),
    "GET /v1/models": _openai(
        "listModels", "List the models that a request may name.", "The models.", "Models", scope=Scope.MODELS
    ),
    "GET /v1/models/{name}": _openai(
        "getModel",
        "Return one of the models.",
        "The model.",
        "Model",
        parameters=("name",),
        refusals=(404,),
        scope=Scope.MODELS,
    ),
    "POST /sdapi/v1/txt2img": _a1111(
        "textToImage",
        "Make pictures, and answer when they are there.",
        "The pictures.",
        ref("schemas", "Pictures"),
        body={JSON: ref("schemas", "TextToImage")},
        examples={"two": {"prompt": "a beach", "steps": 25, "sampler_name": "Euler a", "batch_size": 2, "seed": -1}},
        parameters=("Idempotency-Key",),
        refusals=_HELD,
        scope=Scope.SUBMIT,
    ),
    "GET /sdapi/v1/progress": _a1111(
        "progress",
        "Tell how far the caller's newest running task is, else its newest that waits.",
        "The progress.",
        ref("schemas", "WebUIProgress"),
        parameters=("skip_current_image",),
    ),
    "POST /sdapi/v1/interrupt": _a1111(
        "interrupt", "Cancel the caller's own running tasks.", "Nothing more.", OBJECT, scope=Scope.SUBMIT
    ),
    "GET /sdapi/v1/options": _a1111(
        "getOptions", "Return the caller's model, and how the other settings are.", "The settings.", OBJECT
    ),
    "POST /sdapi/v1/options": _a1111(
        "setOptions",
        "Go on with another model: this key alone.",
        "Nothing more.",
        OBJECT,
        examples={"model": {"sd_model_checkpoint": "demo"}},
        body={JSON: {**OBJECT, "properties": {"sd_model_checkpoint": nullable(TEXT)}}},
        refusals=(422,),
        scope=Scope.SUBMIT,
    ),
    "GET /sdapi/v1/sd-models": _a1111(
        "listCheckpoints",
        "List the models that a request may name.",
        "The models.",
        _list(shape(title=TEXT, model_name=TEXT, filename=TEXT, hash={}, sha256={}, config={})),
        scope=Scope.MODELS,
    ),
    "GET /sdapi/v1/loras": _a1111(
        "listLoraNames",
        "List the LoRAs that a prompt may name.",
        "The LoRAs.",
        _list(shape(name=TEXT, alias=TEXT, path=TEXT, metadata=OBJECT)),
        scope=Scope.MODELS,
    ),
    "GET /sdapi/v1/embeddings": _a1111(
        "listEmbeddingNames",
        "List the embeddings that a prompt may name.",
        "The embeddings.",
        shape(loaded=OBJECT, skipped=OBJECT),
        scope=Scope.MODELS,
    ),
    "GET /sdapi/v1/samplers": _a1111(
        "listSamplers",
        "List A1111's samplers that this server has.",
        "The samplers.",
        _list(shape(name=TEXT, aliases=_list(TEXT), options=OBJECT)),
    ),
    "GET /sdapi/v1/schedulers": _a1111(
        "listSchedulers",
        "List the types of schedules.",
        "The schedules.",
        _list(shape(name=TEXT, label=TEXT, aliases={}, default_rho=NUMBER, need_inner_model=FLAG)),
    ),
    "POST /sdapi/v1/png-info": _a1111(
        "pictureInfo",
        "Tell what a picture's file says of how it was made.",
        "What it says, which may be nothing.",
        ref("schemas", "PictureInfo"),
        examples={"start of a file": {"image": "iVBORw0KGgo="}},
        body={
            JSON: {
                **shape(image=said({**TEXT, "minLength": 1}, "Base64, or a `data:` URL.")),
                "additionalProperties": False,
            }
        },
        refusals=(422,),
    ),
    "GET /sdapi/v1/{what}": _a1111(
        "listNothing",
        "Return an empty list of what this server has none of.",
        "Nothing, in the shape that clients expect.",
        {},
        parameters=("what",),
        refusals=(404,),
    ),
}
NOTHING = sorted(a1111.NOTHING)
