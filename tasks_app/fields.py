"""Strict serializer fields: each accepts exactly one JSON type and converts no other."""

from __future__ import annotations

import math
import re
from typing import Any, cast
from uuid import UUID

from rest_framework import serializers

UUID_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_UUID = re.compile(UUID_PATTERN)


def has_surrogate(text: str) -> bool:
    """Return whether the text contains a lone surrogate, which neither UTF-8 nor PostgreSQL can store."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def escape_surrogates(text: str) -> str:
    """Return the text with characters that UTF-8 can't encode replaced by escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def get_field_errors(error: serializers.ValidationError) -> dict[str, Any]:
    """Return a serializer's errors by field."""
    return cast(dict[str, Any], error.detail)


class StrictCharField(serializers.CharField):
    """A JSON string; surrounding whitespace is kept."""

    default_error_messages = {
        "invalid": "Must be a string.",
        "nul": "Must not contain NUL characters.",
        "surrogate": "Must not contain unpaired surrogates.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Check the type and the characters before any other validation."""
        if data is not serializers.empty and data is not None:
            if not isinstance(data, str):
                self.fail("invalid")
            if "\0" in data:
                self.fail("nul")
            if has_surrogate(data):
                self.fail("surrogate")
        return super().run_validation(data)


class StrictIntegerField(serializers.Field[int, Any, int, Any]):
    """A JSON integer within bounds; `true`, `"25"` and `25.0` are rejected."""

    default_error_messages = {
        "invalid": "Must be an integer.",
        "range": "Must be between {min_value} and {max_value}.",
        "multiple": "Must be a multiple of {multiple_of}.",
    }

    def __init__(self, *, min_value: int, max_value: int, multiple_of: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_value, self.max_value, self.multiple_of = min_value, max_value, multiple_of

    def to_internal_value(self, data: Any) -> int:
        """Return the integer."""
        if type(data) is not int:
            self.fail("invalid")
        if not self.min_value <= data <= self.max_value:
            self.fail("range", min_value=self.min_value, max_value=self.max_value)
        if data % self.multiple_of:
            self.fail("multiple", multiple_of=self.multiple_of)
        return data

    def to_representation(self, value: int) -> int:
        """Return the value unchanged."""
        return value


class StrictBooleanField(serializers.Field[bool, Any, bool, Any]):
    """A JSON boolean."""

    default_error_messages = {"invalid": "Must be true or false."}

    def to_internal_value(self, data: Any) -> bool:
        """Return the boolean."""
        if type(data) is not bool:
            self.fail("invalid")
        return data

    def to_representation(self, value: bool) -> bool:
        """Return the value unchanged."""
        return value


class StrictFloatField(serializers.Field[float, Any, float, Any]):
    """A finite JSON number within bounds."""

    default_error_messages = {
        "invalid": "Must be a number.",
        "range": "Must be between {min_value} and {max_value}.",
    }

    def __init__(self, *, min_value: float, max_value: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_value, self.max_value = min_value, max_value

    def to_internal_value(self, data: Any) -> float:
        """Return the number; infinities and NaN are always out of bounds."""
        if type(data) not in (int, float):
            self.fail("invalid")
        if (type(data) is float and math.isnan(data)) or not self.min_value <= data <= self.max_value:
            self.fail("range", min_value=self.min_value, max_value=self.max_value)
        return float(data)

    def to_representation(self, value: float) -> float:
        """Return the value unchanged."""
        return value


class StrictChoiceField(StrictCharField):
    """A JSON string from a fixed set of choices."""

    default_error_messages = {"choice": "Must be one of: {choices}."}

    def __init__(self, choices: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.choices = choices

    def to_internal_value(self, data: Any) -> str:
        """Return the choice."""
        if data not in self.choices:
            self.fail("choice", choices=", ".join(self.choices))
        return str(data)


class StrictUUIDField(StrictCharField):
    """A UUID as a JSON string, with hyphens."""

    default_error_messages = {"uuid": "Must be a UUID."}

    def to_internal_value(self, data: Any) -> Any:
        """Return the UUID."""
        if not _UUID.fullmatch(data):
            self.fail("uuid")
        return UUID(data)


class StrictListField(serializers.ListField):
    """A JSON array of at most `most` values; a longer one is rejected before any value is validated."""

    default_error_messages = {"not_a_list": "Must be a list.", "most": "Must have at most {most} items."}

    def __init__(self, *, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.most = most

    def to_internal_value(self, data: Any) -> list[Any]:
        """Return the validated values."""
        if isinstance(data, list) and len(data) > self.most:
            self.fail("most", most=self.most)
        return list(super().to_internal_value(data))


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer that rejects unknown fields by name and reports them together with all other errors.

    `required_together` names fields that are given together or not at all. The OpenAPI schema describes this;
    subclasses have to enforce it.
    """

    required_together: tuple[str, ...] = ()

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the validated values."""
        if not isinstance(data, dict):
            raise serializers.ValidationError({"": ["Must be an object."]}, code="invalid")
        errors: dict[str, Any] = {
            escape_surrogates(name): [serializers.ErrorDetail("Unknown field.", code="unknown_field")]
            for name in data.keys() - self.fields.keys()
        }
        values: dict[str, Any] = {}
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            errors |= get_field_errors(error)
        if errors:
            raise serializers.ValidationError(errors)
        return values
