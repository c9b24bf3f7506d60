"""Schemas of the compatibility APIs' requests, from the parameters of `POST /task`."""

from __future__ import annotations

from typing import Any

from tasks_app.api.compat.openai import IGNORED_FIELDS
from tasks_app.api.openapi.describe import OBJECT
from tasks_app.api.openapi.fields import nullable_schema_of, schema_of
from tasks_app.task_types import parameters

Schema = dict[str, Any]
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
OBJECT_OR_NULL: Schema = {**OBJECT, "type": ["object", "null"]}
COUNT_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 1}


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
        **{name: {"description": "Without effect."} for name in IGNORED_FIELDS},
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
