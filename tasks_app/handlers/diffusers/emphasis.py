"""What a prompt says of how much its words weigh, in the notation of A1111: `(words:1.3)`, `(words)`, `[words]`.

It is AUTOMATIC1111's `parse_prompt_attention`, but that a bracket which nobody closes is a character like others.
compel's own grammar, `words++`, is not used: its time grows fourfold with each bracket that is inside another.
"""

from __future__ import annotations

import re
from itertools import groupby

from tasks_app.errors import InvalidParams

# Far above what makes pictures; without a bound half precision overflows.
MAX_WEIGHT = 10.0
# How many groups of words can weigh less than 1: for each the whole prompt is encoded once more.
MAX_LIGHT = 30
# What brackets without a number multiply weights with.
_FACTORS = {"(": 1.1, "[": 1 / 1.1}
_OPENING = {")": "(", "]": "["}
_TOKEN = re.compile(r"\\(?P<escaped>[\\()\[\]])|:\s*(?P<weight>\d+\.?\d*|\.\d+)\s*\)|[\\()\[\]:]|[^\\()\[\]:]+")

# Words and how much they weigh.
Fragment = tuple[str, float]


def parse(text: str, field: str) -> list[Fragment]:
    r"""Return the words of a request's field with their weights; `\(` is a bracket that means nothing.

    Raises:
        InvalidParams: something weighs more than `MAX_WEIGHT`, or more than `MAX_LIGHT` weigh less than 1.
    """
    parts: list[Fragment] = []
    opened: dict[str, list[int]] = {bracket: [] for bracket in _FACTORS}
    for token in _TOKEN.finditer(text):
        if not _closed(token, parts, opened):
            if token[0] in opened:
                opened[token[0]].append(len(parts))
            parts.append((token["escaped"] or token[0], 1.0))
    alike = groupby((part for part in parts if part[0]), key=lambda part: part[1])
    found = [("".join(words for words, _ in group), weight) for weight, group in alike]
    if any(weight > MAX_WEIGHT for _, weight in found):
        raise InvalidParams(f"{field}: no words can weigh more than {MAX_WEIGHT:g}.")
    if sum(weight < 1 for _, weight in found) > MAX_LIGHT:
        raise InvalidParams(f"{field}: at most {MAX_LIGHT} groups of words can weigh less than 1.")
    return found


def _closed(token: re.Match[str], parts: list[Fragment], opened: dict[str, list[int]]) -> bool:
    """Weigh what is between this bracket and the one that it closes; return whether there is such a one."""
    bracket = "(" if token["weight"] else _OPENING.get(token[0])
    if bracket is None or not opened[bracket]:
        return False
    factor = float(token["weight"] or _FACTORS[bracket])
    start = opened[bracket].pop()
    parts[start:] = [("", 1.0), *((words, weight * factor) for words, weight in parts[start + 1 :])]
    return True
