"""A1111's tags of LoRAs in prompts, there and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.images.metadata import lora_tags


@pytest.mark.parametrize(
    ("prompt", "rest", "loras"),
    [
        ("a house", "a house", []),
        (" a  house ", " a  house ", []),
        ("a house <lora:x:0.5>", "a house", [{"id": "x", "weight": 0.5}]),
        ("a <lora:x> house", "a house", [{"id": "x"}]),
        ("<lora:x:-1><lora:y z:2>", "", [{"id": "x", "weight": -1.0}, {"id": "y z", "weight": 2.0}]),
        ("<lora:x:high> <lora:x:nan>", "", [{"id": "x", "weight": "high"}, {"id": "x", "weight": "nan"}]),
        ("<lora:x:0.5:0.7>", "", [{"id": "x", "weight": "0.5:0.7"}]),
        ("<lora:> <lora> <hypernet:x:1>", "<lora:> <lora> <hypernet:x:1>", []),
    ],
)
def test_tags_are_taken_out(prompt: str, rest: str, loras: list[dict[str, Any]]) -> None:
    assert lora_tags.extract_tags(prompt) == (rest, loras)


words = st.text(st.characters(categories=["L", "N"]), min_size=1)


@given(words, st.lists(st.fixed_dictionaries({"id": words, "weight": st.integers(-400, 400).map(lambda n: n / 100)})))
def test_what_is_written_is_read(prompt: str, loras: list[dict[str, Any]]) -> None:
    assert lora_tags.extract_tags(lora_tags.append_tags(prompt, loras)) == (prompt, loras)
