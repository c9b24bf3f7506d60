"""Types of members that several answers have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

ID = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
URL = Annotated[str, Field(json_schema_extra={"format": "uri"})]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
