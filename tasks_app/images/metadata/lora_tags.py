"""A1111's prompt syntax for LoRAs: `<lora:name:weight>`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

# Longer prompts are not searched: no field would accept the remaining text.
MAX_SEARCHED_LENGTH = 16_384
# Does not match leading spaces, since the search would restart at each of them.
_TAG_PATTERN = re.compile(r"<lora:([^:<>]+)(?::([^<>]*))?>")


def extract_tags(prompt: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a prompt without its tags, and the LoRAs that they name; a weight that is no number stays a string."""
    tags = list(_TAG_PATTERN.finditer(prompt)) if len(prompt) <= MAX_SEARCHED_LENGTH else []
    if not tags:
        return prompt, []
    ends = [0, *(tag.end() for tag in tags)]
    texts = [prompt[end : tag.start()].rstrip() for end, tag in zip(ends, tags, strict=False)]
    return "".join([*texts, prompt[ends[-1] :]]).strip(), [_build_lora(tag[1], tag[2] or "") for tag in tags]


def append_tags(prompt: str, loras: Iterable[Mapping[str, Any]]) -> str:
    """Return the prompt with tags appended."""
    return " ".join([prompt, *(f"<lora:{lora['id']}:{lora['weight']:g}>" for lora in loras)])


def _build_lora(name: str, weight: str) -> dict[str, Any]:
    return {"id": name, "weight": _parse_weight(weight)} if weight else {"id": name}


def _parse_weight(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
