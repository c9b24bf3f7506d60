"""The rules of the parameters, asked for by others than requests."""

from typing import Any

import pytest

from tasks_app import parameters


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({}, set()),
        ({"steps": 150, "guidance_scale": 0.0, "scheduler": "euler", "negative_prompt": "rain"}, set()),
        ({"width": 64, "height": 64}, set()),
        ({"width": 64}, {"height"}),
        ({"steps": "25"}, {"steps"}),
        ({"steps": 1000, "scheduler": "magic"}, {"steps", "scheduler"}),
    ],
    ids=lambda value: str(sorted(value.items()) if isinstance(value, dict) else sorted(value)),
)
def test_defaults_are_judged_as_a_requests_values_are(values: dict[str, Any], wrong: set[str]) -> None:
    assert set(parameters.wrong_defaults(values)) == wrong
