"""The notation of weights, to the letter."""

from typing import Any

import pytest

from tasks_app.engine.diffusers.prompts.attention import MAX_LIGHT_GROUPS, Fragment, parse_prompt_attention
from tasks_app.errors import InvalidParamsError

READ: dict[str, list[Fragment]] = {
    "": [],
    "()": [],
    "(:1.2)": [],
    "a cat, 16:9": [("a cat, 16:9", 1)],
    "a (cat:1.3) sits": [("a ", 1), ("cat", 1.3), (" sits", 1)],
    "(cat : .5 )": [("cat ", 0.5)],
    "(cat)": [("cat", 1.1)],
    "[cat]": [("cat", 1 / 1.1)],
    "((cat))": [("cat", 1.21)],
    "(a (red:2) cat:1.5)": [("a ", 1.5), ("red", 3), (" cat", 1.5)],
    "(a:1.1)(b:1.1)": [("ab", 1.1)],
    "(a:b:2)": [("a:b", 2)],
    r"\(a\) \[b\] \\ \c": [(r"(a) [b] \ \c", 1)],
    # Nothing closes them, or nothing was opened.
    "((cat": [("((cat", 1)],
    "cat))": [("cat))", 1)],
    "cat:1.2)": [("cat:1.2)", 1)],
    "(a [b (c) d": [("(a [b ", 1), ("c", 1.1), (" d", 1)],
    "(a [b) c]": [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)],
    "(cat:-1)": [("cat:-1", 1.1)],
}


@pytest.mark.parametrize("text", READ)
def test_words_weigh_what_their_brackets_say(text: str) -> None:
    found = parse_prompt_attention(text, "prompt")
    assert [words for words, _ in found] == [words for words, _ in READ[text]]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in READ[text]])


@pytest.mark.parametrize(
    "text", ["(cat:10.1)", "(" * 25 + "cat" + ")" * 25, "(cat:" * 2 + ":4)" * 2, "[a] b " * (MAX_LIGHT_GROUPS + 1)]
)
def test_what_would_be_nothing_but_noise_or_take_too_long_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidParamsError, match=r"^negative_prompt: "):
        parse_prompt_attention(text, "negative_prompt")
    parse_prompt_attention(text[: len(text) // 2], "negative_prompt")


@pytest.mark.timeout(30)
def test_brackets_inside_brackets_take_no_time() -> None:
    assert parse_prompt_attention("(" * 4000, "prompt") == [("(" * 4000, 1.0)]
    parsed: list[Any] = parse_prompt_attention("[" * 1999 + "a" + "]" * 1999, "prompt")
    assert parsed == [("a", pytest.approx(0))]
