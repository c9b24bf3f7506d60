"""Where the names of embeddings stand in prompts: as whole words, in any case, as A1111 reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

_WORD_CHARACTER = re.compile(r"\w")
# What follows each character of the names; the name that ends here lies under the empty string.
TrieNode = dict[str, "TrieNode | str"]


class TriggerMatch(NamedTuple):
    """A name, and the part of the text that it takes."""

    name: str
    start: int
    end: int


def find_trigger_words(text: str, names: Iterable[str]) -> list[str]:
    """Return those of the names that stand in a text, sorted."""
    return sorted({found.name for found in _iter_matches(text, names)})


def replace_trigger_words(text: str, by_name: Mapping[str, str]) -> str:
    """Return a text with something else for each name that stands in it."""
    parts, end = [], 0
    for found in _iter_matches(text, by_name):
        parts += [text[end : found.start], by_name[found.name]]
        end = found.end
    return "".join([*parts, text[end:]])


def _iter_matches(text: str, names: Iterable[str]) -> Iterator[TriggerMatch]:
    """Yield the names in a text, of two that begin alike the longer one.

    The names are one tree, so that the work does not grow with their number.
    """
    root, folded = _build_trie(names), list(map(_fold_case, text))
    position = 0
    while position < len(text):
        found = None
        if folded[position] in root and not (position and _WORD_CHARACTER.match(text, position - 1)):
            found = _find_longest_match(root, text, folded, position)
        if found is not None:
            yield found
        position = found.end if found is not None else position + 1


def _find_longest_match(root: TrieNode, text: str, folded: list[str], start: int) -> TriggerMatch | None:
    """Return the longest name that begins at a place of the text and ends before no letter or digit."""
    found, node = None, root
    for end in range(start, len(folded)):
        following = node.get(folded[end])
        if not isinstance(following, dict):
            break
        node = following
        name = node.get("")
        if isinstance(name, str) and not _WORD_CHARACTER.match(text, end + 1):
            found = TriggerMatch(name, start, end + 1)
    return found


def _build_trie(names: Iterable[str]) -> TrieNode:
    root: TrieNode = {}
    for name in names:
        node = root
        for character in map(_fold_case, name):
            following = node.setdefault(character, {})
            assert isinstance(following, dict), "only the empty string leads to a name"
            node = following
        node.setdefault("", name)
    return root


def _fold_case(character: str) -> str:
    """Return what a character and its other case have in common; always one character."""
    folded = character.casefold()
    return folded if len(folded) == 1 else character
