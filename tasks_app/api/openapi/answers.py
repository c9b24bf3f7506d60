"""Schemas of the API's answers, derived from their `TypedDict`s."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from tasks_app import answers

Schema = dict[str, Any]
_TEMPLATE = "#/components/schemas/{model}"
# Answers that are components of their own; the schemas of all others are part of those that contain them.
_COMPONENTS = (
    *(answers.Task, answers.TaskParams, answers.Progress, answers.Image, answers.TaskError, answers.Reproduction),
    *(answers.TaskPage, answers.Recovered, answers.Upload, answers.Links, answers.Health, answers.Readiness),
    *(answers.DiffusionModel, answers.Lora, answers.Embedding),
    *(answers.OpenAIError, answers.Generated, answers.Model, answers.Models),
    *(answers.A1111Error, answers.Pictures, answers.WebUIProgress, answers.PictureInfo),
)
_NAMES = tuple(kind.__name__ for kind in _COMPONENTS)


class _UntitledJsonSchema(GenerateJsonSchema):
    """Generator that leaves out titles, which would only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> Schema:
        found = super().typed_dict_schema(schema)
        found.pop("title", None)
        return found


def build_answer_schemas() -> dict[str, Schema]:
    """Return the components by name."""
    found = _derive_schemas(_COMPONENTS)
    named = {name: _inline(found[name], found, _NAMES) for name in _NAMES}
    events = [schema_of_answer(kind) for kind in answers.EVENTS]
    return {**named, "Event": {"description": "One event of a stream.", "oneOf": events}}


def schema_of_answer(kind: Any) -> Schema:
    """Return the schema of an answer that is not a component, with references to components."""
    found = _derive_schemas([kind])
    return dict(_inline(found[kind.__name__], found, _NAMES))


def _derive_schemas(kinds: Iterable[Any]) -> dict[str, Schema]:
    adapters = [(kind, "validation", TypeAdapter(kind)) for kind in kinds]
    _, found = TypeAdapter.json_schemas(
        adapters,  # type: ignore[arg-type]
        ref_template=_TEMPLATE,
        schema_generator=_UntitledJsonSchema,
    )
    schemas: dict[str, Schema] = found["$defs"]
    return schemas


def _inline(part: Any, found: dict[str, Schema], public: Collection[str]) -> Any:
    """Return the schema with references replaced by their targets, except those to the public ones."""
    if isinstance(part, list):
        return [_inline(inner, found, public) for inner in part]
    if not isinstance(part, dict):
        return part
    name = part.get("$ref", "").rpartition("/")[2]
    if name and name not in public:
        part = {**found[name], **{key: value for key, value in part.items() if key != "$ref"}}
        return _inline(part, found, public)
    return {key: _inline(inner, found, public) for key, inner in part.items()}
