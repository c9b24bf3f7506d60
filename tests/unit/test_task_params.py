"""The rules of the parameters, asked for by others than requests."""

from typing import Any

import pytest
from django.conf import settings

from tasks_app.task_types import parameters
from tasks_app.task_types.registry import TEXT_TO_IMAGE


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
    assert set(parameters.find_default_errors(values)) == wrong


def test_what_was_sent_counts_among_what_one_call_draws() -> None:
    params = {"negative_prompt": "", "guidance_scale": 7.5}
    keys = [
        parameters.build_batch_key(TEXT_TO_IMAGE, "demo", "", params, explicit_params=sent)
        for sent in ((), ("guidance_scale",), ())
    ]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(("scheduler", "refused"), [("euler", False), ("flow_match_euler", True), (None, False)])
def test_a_scheduler_is_refused_by_those_that_the_model_takes(scheduler: str | None, refused: bool) -> None:
    data = {"prompt": "a house", "scheduler": scheduler}
    folder = settings.MODELS_DIR / "demo"
    checked = parameters.build_serializer(TEXT_TO_IMAGE, data, defaults={}, max_images=1, folder=folder)
    assert checked.is_valid() is not refused
    if refused:
        (message,) = checked.errors["scheduler"]
        assert "This model supports: ddim, ddpm" in message
        assert "flow" not in message
    elsewhere = parameters.build_serializer(TEXT_TO_IMAGE, data, defaults={}, max_images=1, folder=folder / "nothing")
    assert elsewhere.is_valid()
