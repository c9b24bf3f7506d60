"""Where the names of embeddings stand in prompts: as whole words, large or small, as A1111 reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def named(text: str, names: Iterable[str]) -> list[str]:
    """Return those of the names that stand in a text, sorted."""
    known = list(names)
    return sorted({known[_index(match)] for match in _words(known).finditer(text)})


def replaced(text: str, by_name: Mapping[str, str]) -> str:
    """Return a text with something else for each name that stands in it."""
    instead = list(by_name.values())
    return _words(list(by_name)).sub(lambda match: instead[_index(match)], text)


def _words(names: list[str]) -> re.Pattern[str]:
    # Of two that begin alike the longer one is meant; of each the group tells the index.
    longest_first = sorted(enumerate(names), key=lambda each: -len(each[1]))
    found = "|".join(f"(?P<_{index}>{re.escape(name)})" for index, name in longest_first)
    return re.compile(rf"(?<!\w)(?:{found})(?!\w)" if found else r"(?!)", re.IGNORECASE)


def _index(match: re.Match[str]) -> int:
    return int(str(match.lastgroup).removeprefix("_"))
