"""Examples of answers, built from their schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]
_ID = "2ec9eca9-5d9c-42e1-b61b-a0c953b31c95"
_BY_FORMAT = {"uuid": _ID, "uri": f"https://images.example/task/{_ID}", "date-time": "2025-07-25T09:30:00.123456Z"}


def build_example(schema: Schema, schemas: Mapping[str, Schema]) -> Any:
    """Return a value that fits the schema: its own example, or the simplest one; references are to `schemas`."""
    if "$ref" in schema:
        return build_example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if found := schema.get("examples") or schema.get("enum"):
        return found[0]
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return None if {"type": "null"} in choices else build_example(choices[0], schemas)
    if "contentSchema" in schema:
        return json.dumps(build_example(schema["contentSchema"], schemas))
    return _build_simplest(schema, schemas)


def _build_simplest(schema: Schema, schemas: Mapping[str, Schema]) -> Any:
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: build_example(properties[name], schemas) for name in schema.get("required", ())}
        case "array":
            return [build_example(schema["items"], schemas)] if schema["items"].get("type") != "string" else []
        case "string":
            return _BY_FORMAT.get(schema.get("format", ""), "text")
        case "integer" | "number":
            return max(schema.get("minimum", 0), 0)
        case "boolean":
            return False
    return None
