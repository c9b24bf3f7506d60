"""What a body becomes, beside what test_api tells of it: what the client meant itself."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tasks_app.api.compat.a1111_requests import TextToImageSerializer
from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import GenerationRequest
from tasks_app.models import Task
from tasks_app.worker import supervisor
from tests.support.fake import handler as fake


def post(client: Client, **params: Any) -> Task:
    body = {"task_type": "text-to-image", "params": {"prompt": "a house", **params}}
    answer = client.post("/task", json.dumps(body), content_type="application/json")
    return Task.objects.get(pk=answer.json()["id"])


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({}, []),
        ({"steps": 5, "seed": 3}, []),
        ({"guidance_scale": 7.5}, ["guidance_scale"]),
        ({"guidance_scale": 2, "negative_prompt": ""}, ["guidance_scale", "negative_prompt"]),
    ],
    ids=["nothing", "what all models take", "a default", "both"],
)
def test_a_task_knows_what_its_client_sent_of_what_not_every_model_heeds(
    client: Client, db: None, params: dict[str, Any], sent: list[str]
) -> None:
    assert post(client, **params).explicit_params == sent


def test_a_client_of_a1111_which_always_sends_a_guidance_does_not_insist_on_it(db: None) -> None:
    body = TextToImageSerializer(data={"prompt": "a house", "cfg_scale": 7}, context={"model": "demo"})
    assert body.is_valid()
    submission = body.build_submission()
    assert (submission.params["guidance_scale"], submission.explicit_params) == (7, frozenset())


def test_the_handler_is_told_what_was_sent(
    make_task: Callable[..., Task], behave: Callable[[str, fake.Behaviour], str]
) -> None:
    told: list[frozenset[str]] = []

    def note(request: GenerationRequest, report: ProgressCallback) -> None:
        told.append(request.explicit_params)

    make_task(params={"prompt": behave("a note", note)}, explicit_params=["guidance_scale"])
    assert supervisor.run_once()
    assert told == [frozenset({"guidance_scale"})]
