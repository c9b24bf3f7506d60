"""Parser of prompt weights in A1111's attention syntax: `(words:1.3)`, `(words)`, `[words]`.

It works like AUTOMATIC1111's `parse_prompt_attention`, except that an unclosed bracket is an ordinary character.
compel's own syntax, `words++`, is not used: its parsing time quadruples with each level of nested brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from tasks_app.errors import InvalidParamsError

# Far above the weights that give useful images; without a limit, half precision overflows.
MAX_WEIGHT = 10.0
# Maximum number of groups of words that weigh less than 1: each of them requires another encoding of the prompt.
MAX_LIGHT_GROUPS = 30
# Factors of brackets without a number.
_BRACKET_FACTORS = {"(": 1.1, "[": 1 / 1.1}
_OPENING_BRACKETS = {")": "(", "]": "["}
_TOKEN_PATTERN = re.compile(
    r"\\(?P<escaped>[\\()\[\]])|:\s*(?P<weight>\d+(?:\.\d*)?|\.\d+)\s*\)|[\\()\[\]:]|[^\\()\[\]:]+"
)

# Words and their weight.
Fragment = tuple[str, float]


def parse_prompt_attention(text: str, field: str) -> list[Fragment]:
    r"""Return the words of a request's field with their weights; `\(` is a literal bracket.

    Raises:
        InvalidParamsError: Some words weigh more than `MAX_WEIGHT`, or more than `MAX_LIGHT_GROUPS` groups weigh less
            than 1.
    """
    tokens = list(_TOKEN_PATTERN.finditer(text))
    alike = groupby(_iter_fragments(tokens, _find_factors(tokens)), key=lambda fragment: fragment[1])
    found = [("".join(words for words, _ in group), weight) for weight, group in alike]
    if not all(weight <= MAX_WEIGHT for _, weight in found):
        raise InvalidParamsError(f"{field}: the weight of words must be at most {MAX_WEIGHT:g}.")
    if sum(weight < 1 for _, weight in found) > MAX_LIGHT_GROUPS:
        raise InvalidParamsError(f"{field}: at most {MAX_LIGHT_GROUPS} groups of words can have a weight below 1.")
    return found


def _find_factors(tokens: Sequence[re.Match[str]]) -> dict[int, float]:
    """Return the weight factor of each pair of brackets, by the indexes of both brackets."""
    opened: dict[str, list[int]] = {bracket: [] for bracket in _BRACKET_FACTORS}
    factors: dict[int, float] = {}
    for index, token in enumerate(tokens):
        if token[0] in opened:
            opened[token[0]].append(index)
        bracket = _get_closed_bracket(token)
        if bracket and opened[bracket]:
            factors[opened[bracket].pop()] = factors[index] = float(token["weight"] or _BRACKET_FACTORS[bracket])
    return factors


def _iter_fragments(tokens: Sequence[re.Match[str]], factors: Mapping[int, float]) -> Iterator[Fragment]:
    """Yield the words with their weights, without the brackets that have a factor."""
    # One stack for each kind of bracket, because `(a [b) c]` is allowed.
    weights = {bracket: [1.0] for bracket in _BRACKET_FACTORS}
    for index, token in enumerate(tokens):
        bracket = _get_closed_bracket(token)
        if index not in factors:
            yield token["escaped"] or token[0], weights["("][-1] * weights["["][-1]
        elif bracket:
            weights[bracket].pop()
        else:
            weights[token[0]].append(weights[token[0]][-1] * factors[index])


def _get_closed_bracket(token: re.Match[str]) -> str | None:
    """Return the kind of bracket that a token would close, if any."""
    return "(" if token["weight"] else _OPENING_BRACKETS.get(token[0])
