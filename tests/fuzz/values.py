"""JSON values and texts that break servers."""

import json
from typing import Any

from hypothesis import strategies as st

DELETE = object()
# JSON allows numbers beyond the range of Python's floats; `encode_json` writes one in place of this text.
BEYOND_FLOATS = "@@1e999@@"

ZALGO = "Z" + "\u0351\u036b\u0343\u036a\u0302\u0363\u030a" * 500
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
TEXTS = [
    "\ufdfa" * 4000,  # each becomes 18 characters under NFKC
    "a" + "\u0301" * 3999,
    ZALGO,
    "\u0f73\u0f75" * 2000,  # grows under NFC
    "\ufb2c" * 1300,
    FAMILY * 300,
    "\U0010ffff",
    "\uffff\ufffe",
    "\ufeff",
    "\u202e desrever \u202c",
    "\u2028\u2029\u0085",
    "\x01\x08\x1b[31m\x7f",
    " ",
    "\t\r\n",
    "x" * 4000,
    "' OR 1=1; --",
    "{{7*7}} {% load x %} ${7*7} %s%n",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "\r\nSet-Cookie: a=b",
    "\\ud800",
    '"},{"',
    "null",
    "İıſK",  # case conversion changes their length or letter
]
SURROGATES = ["\ud800", "\udfff", "a\udc80b", "\udc00\ud800"]
NULS = ["\0", "a\0b", "\0" * 50]
NO_STRINGS: list[Any] = [None, True, False, 0, 5, 1.5, [], {}, ["a"], {"a": "b"}, BEYOND_FLOATS]
NO_INTEGERS: list[Any] = [None, True, False, "", "25", "0x10", "٣", 25.0, 0.5, 1e3, -0.0, [], {}, [1], BEYOND_FLOATS]
NO_NUMBERS: list[Any] = [None, True, False, "", "7.5", "NaN", "Infinity", [], {}, [7.5]]
NO_OBJECTS: list[Any] = [None, True, 5, "prompt", [], [{}], 7.5, ""]
HUGE = [2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**40, 10**400, 10**4000]
NAMES = [
    "sampler",
    "Prompt",
    "prompt ",
    "id",
    "__proto__",
    "constructor",
    "",
    ".",
    "..",
    "a.b",
    "params",
    "steps\u200b",
]
NAMES += ["non_field_errors", "detail", "\ud800", "\0", "x" * 5000, "ﬁ", "0", *TEXTS[:3]]

plain_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
good_text = st.one_of(
    plain_text, st.sampled_from(TEXTS), st.builds(lambda text, times: (text * times)[:4000], plain_text, st.just(4000))
)
names = st.one_of(st.sampled_from(NAMES), st.text(max_size=30))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


def wrong_values(*values: list[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for any of the values in the lists."""
    return st.sampled_from([value for some in values for value in some])


def bad_text(longest: int, *, blank: bool) -> st.SearchStrategy[Any]:
    """Return a strategy for values other than texts of 1 (or 0, if `blank`) to `longest` characters."""
    around = st.integers(1, 500).map(lambda more: "x" * (longest + more))
    broken = st.tuples(st.text(max_size=9), wrong_values(SURROGATES, NULS), st.text(max_size=9)).map("".join)
    return st.one_of(wrong_values(NO_STRINGS, SURROGATES, NULS, [] if blank else [""]), around, broken)


def bad_integer(lowest: int, highest: int, *, null: bool = False) -> st.SearchStrategy[Any]:
    """Return a strategy for values other than integers within the bounds."""
    kinds = [value for value in NO_INTEGERS if value is not None or not null]
    near = [lowest - 1, highest + 1, *(number for number in HUGE if number > highest), *(-number for number in HUGE)]
    outside = st.one_of(st.integers(max_value=lowest - 1), st.integers(min_value=highest + 1))
    return st.one_of(wrong_values(kinds, near), outside, st.floats(allow_nan=False, allow_infinity=False))


def encode_json(value: Any) -> bytes:
    """Return JSON in ASCII, with lone surrogates escaped."""
    return json.dumps(value).replace(f'"{BEYOND_FLOATS}"', "1e999").encode()
