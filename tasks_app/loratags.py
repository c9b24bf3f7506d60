"""A1111's way to name LoRAs, in the prompt: `<lora:name:weight>`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

_TAG = re.compile(r"\s*<lora:([^:<>]+)(?::([^<>]*))?>")


def taken(prompt: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a prompt without its tags, and the LoRAs that they name; a weight that is no number stays as it is."""
    found = [_lora(name, weight) for name, weight in _TAG.findall(prompt)]
    return (_TAG.sub("", prompt).strip(), found) if found else (prompt, [])


def written(prompt: str, loras: Iterable[Mapping[str, Any]]) -> str:
    """Return a prompt with tags behind it."""
    return " ".join([prompt, *(f"<lora:{lora['id']}:{lora['weight']:g}>" for lora in loras)])


def _lora(name: str, weight: str) -> dict[str, Any]:
    return {"id": name, "weight": _number(weight)} if weight else {"id": name}


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
