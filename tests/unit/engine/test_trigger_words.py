"""Where the names of embeddings stand in prompts."""

import pytest

from tasks_app.engine.trigger_words import find_trigger_words, replace_trigger_words

NAMES = {"mood": "1", "bad-hands": "2", "bad-hands-5": "3", "<cat>": "4", "a.b": "5"}


@pytest.mark.parametrize(
    ("text", "found", "instead"),
    [
        ("a mood, h", ["mood"], "a 1, h"),
        ("(MOOD:1.2) Mood", ["mood"], "(1:1.2) 1"),
        ("moody un_mood mood_1 mood2", [], "moody un_mood mood_1 mood2"),
        ("bad-hands-5 bad-hands", ["bad-hands", "bad-hands-5"], "3 2"),
        ("a <cat> and cat", ["<cat>"], "a 4 and cat"),
        ("a.b axb", ["a.b"], "5 axb"),
        ("", [], ""),
    ],
)
def test_whole_words_are_meant_and_of_two_the_longer(text: str, found: list[str], instead: str) -> None:
    assert find_trigger_words(text, NAMES) == found
    assert replace_trigger_words(text, NAMES) == instead


def test_without_names_a_text_stays_as_it_is() -> None:
    assert replace_trigger_words("a mood", {}) == "a mood"
    assert find_trigger_words("a mood", []) == []
