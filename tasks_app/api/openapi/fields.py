"""Conversion of strict serializers and their fields to JSON Schemas that allow the same values."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiSerializerExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction
from rest_framework.serializers import Field

from tasks_app.fields import (
    UUID_PATTERN,
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictFloatField,
    StrictIntegerField,
    StrictListField,
    StrictSerializer,
    StrictUUIDField,
)
from tasks_app.submissions import AnyField, WebhookEventsField, WebhookUrlField
from tasks_app.task_types import parameters, registry
from tasks_app.webhooks import payload, url_policy

Schema = dict[str, Any]


def schema_of(field: Field[Any, Any, Any, Any]) -> Schema:
    """Return the schema of a strict field, without null.

    Raises:
        TypeError: fields of this type have no schema yet.
    """
    match field:
        case StrictChoiceField():
            return {"type": "string", "enum": list(field.choices)}
        case WebhookUrlField():
            scheme = "https?" if payload.get_url_policy().allow_http else "https"
            return {
                "type": "string",
                "format": "uri",
                "pattern": f"^{scheme}://",
                "maxLength": url_policy.MAX_URL_LENGTH,
            }
        case StrictUUIDField():
            return {"type": "string", "format": "uuid", "pattern": UUID_PATTERN}
        case StrictCharField():
            shortest = field.min_length or int(not field.allow_blank)
            bounds = {"minLength": shortest, "maxLength": field.max_length}
            return {"type": "string", "pattern": r"^[^\u0000]*$", **{k: v for k, v in bounds.items() if v}}
        case StrictIntegerField():
            multiple = {} if field.multiple_of == 1 else {"multipleOf": field.multiple_of}
            return {"type": "integer", "minimum": field.min_value, "maximum": field.max_value, **multiple}
        case StrictFloatField():
            return {"type": "number", "minimum": field.min_value, "maximum": field.max_value}
        case StrictBooleanField():
            return {"type": "boolean"}
        case StrictListField():
            return {"type": "array", "items": schema_of(field.child), "maxItems": field.most}
        case StrictSerializer():
            return _serializer_schema({name: schema_of(inner) for name, inner in field.fields.items()}, field)
    raise TypeError(f"fields.py has no schema for {type(field).__name__}")


def nullable_schema_of(field: Field[Any, Any, Any, Any]) -> Schema:
    """Return the schema of a strict field, with null allowed."""
    found = schema_of(field)
    choices = {"enum": [*found["enum"], None]} if "enum" in found else {}
    return {**found, "type": [found["type"], "null"], **choices}


def build_params_schema() -> Schema:
    """Return the schema of all effective parameters of a task; older tasks lack those that were added later."""
    # Inpainting has every parameter.
    known = {
        name: nullable_schema_of(field) if field.allow_null else schema_of(field)
        for name, field in parameters.get_param_fields(registry.INPAINTING).items()
    }
    example = {"provider": "diffusers", "model_id": "demo", "prompt": "a red house", "steps": 25, "seed": 42}
    properties = {**known, "provider": {"type": "string"}}
    return {"type": "object", "required": list(example), "properties": properties, "examples": [example]}


def _serializer_schema(properties: dict[str, Schema], serializer: StrictSerializer) -> Schema:
    required = sorted(name for name, field in serializer.fields.items() if field.required)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


class _FieldSchema(OpenApiSerializerFieldExtension):
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> Schema:
        """Return the field's schema; null is added here for choices, and by drf-spectacular for all other fields."""
        found = schema_of(self.target)
        if self.target.allow_null and "enum" in found:
            found["enum"].append(None)
        return found


class CharSchema(_FieldSchema):
    """Schema of text and choice fields."""

    target_class = StrictCharField


class IntegerSchema(_FieldSchema):
    """Schema of integer fields."""

    target_class = StrictIntegerField


class FloatSchema(_FieldSchema):
    """Schema of number fields."""

    target_class = StrictFloatField


class ListSchema(_FieldSchema):
    """Schema of list fields."""

    target_class = StrictListField


class EventsSchema(OpenApiSerializerFieldExtension):
    """Schema of the events that a webhook subscribes to."""

    target_class = WebhookEventsField

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> Schema:
        """Return the schema of a non-empty list."""
        return {"type": "array", "items": schema_of(self.target.child), "minItems": 1}


class BooleanSchema(_FieldSchema):
    """Schema of boolean fields."""

    target_class = StrictBooleanField


class ParamsSchema(OpenApiSerializerFieldExtension):
    """Schema of a task's parameters, for any task type and provider."""

    target_class = AnyField

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> Schema:
        """Return a choice between the parameter schemas of all task types."""
        found = [
            auto_schema.resolve_serializer(
                parameters.build_serializer(entry, {}, defaults={}, max_images=settings.MAX_IMAGES), direction
            ).ref
            for entry in registry.get_task_types()
        ]
        return found[0] if len(found) == 1 else {"anyOf": found}


class SerializerSchema(OpenApiSerializerExtension):
    """Schema of objects, which reject unknown fields and may require some fields together or not at all."""

    target_class = StrictSerializer
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> Schema:
        """Return the object's schema."""
        fields = self.target.fields
        properties = {name: auto_schema._map_serializer_field(field, direction) for name, field in fields.items()}
        found = _serializer_schema(properties, self.target)
        return {
            **found,
            **_required_together_schema({name: schema_of(fields[name]) for name in self.target.required_together}),
        }


def _required_together_schema(fields: dict[str, Schema]) -> Schema:
    """Return a schema that requires a value for all of these fields or for none."""
    if not fields:
        return {}
    given = {"required": list(fields), "properties": {name: {"type": field["type"]} for name, field in fields.items()}}
    absent = {"properties": {name: {"type": "null"} for name in fields}}
    return {"anyOf": [given, absent]}
