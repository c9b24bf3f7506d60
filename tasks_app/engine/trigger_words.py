"""Search for embedding names in prompts: as whole words and case-insensitively, like A1111."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

_WORD_CHARACTER = re.compile(r"\w")
# Maps each character to the next node, and the empty string to the name that ends at this node.
TrieNode = dict[str, "TrieNode | str"]


class TriggerMatch(NamedTuple):
    """A name and the range of the text that it matches."""

    name: str
    start: int
    end: int


def find_trigger_words(text: str, names: Iterable[str]) -> list[str]:
    """Return the names that occur in a text, sorted."""
    return sorted({found.name for found in _iter_matches(text, names)})


def replace_trigger_words(text: str, by_name: Mapping[str, str]) -> str:
    """Return a text in which each name is replaced by its value in `by_name`."""
    parts, end = [], 0
    for found in _iter_matches(text, by_name):
        parts += [text[end : found.start], by_name[found.name]]
        end = found.end
    return "".join([*parts, text[end:]])


def _iter_matches(text: str, names: Iterable[str]) -> Iterator[TriggerMatch]:
    """Yield the names in a text; of two names with the same beginning, the longer one matches.

    The names form one trie, so that the search time does not grow with their number.
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
    """Return the longest name that starts at this position and is not followed by a word character."""
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
    """Return the case-folded character, or the character itself if folding yields more than one."""
    folded = character.casefold()
    return folded if len(folded) == 1 else character
