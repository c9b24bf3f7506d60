"""Types of members that several answers have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

ID = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
URL = Annotated[str, Field(json_schema_extra={"format": "uri"})]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
ModelID = Annotated[str, Field(examples=["demo"])]
SHA256 = Annotated[str, Field(examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"])]
Pixels = Annotated[int, Field(ge=0, examples=[512])]
