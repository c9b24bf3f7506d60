"""`GET /models`: what the rows say is what requests and workers get."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tasks_app.access import api_keys
from tasks_app.catalog import rows as model_rows
from tasks_app.engine.diffusers.schedulers import read_compatible_schedulers
from tasks_app.engine.types import EngineState, LoadOptions, WarmModel
from tasks_app.models import DiffusionModel, Pause, Scope
from tasks_app.queue import pauses, workers
from tests.support.openapi import check_response
from tests.unit.engine.test_model_files import cached

pytestmark = pytest.mark.django_db
SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture(autouse=True)
def _rows() -> None:
    model_rows.sync_rows()


def edit(model_id: str, **values: Any) -> None:
    DiffusionModel.objects.filter(model_id=model_id).update(**values)


def listed(client: Client) -> dict[str, Any]:
    answer = client.get("/models")
    assert answer.status_code == 200
    check_response("get", "/models", answer)
    return {model["id"]: model for model in answer.json()}


def test_models_are_listed_as_their_rows_say(client: Client, settings: Any) -> None:
    edit("demo", aliases=["tiny"], guidance_scale=0, scheduler="euler", dtype="bfloat16", offload="model", max_batch=2)
    models = listed(client)
    assert list(models) == ["demo", SD]
    assert models["demo"] == {
        "id": "demo",
        "aliases": ["tiny"],
        "default": False,
        "allowed": True,
        "paused": False,
        "revision": None,
        "defaults": {
            "steps": 25,
            "guidance_scale": 0,
            "width": None,
            "height": None,
            "scheduler": "euler",
            "negative_prompt": None,
        },
        "task_types": ["text-to-image", "image-to-image"],
        "schedulers": read_compatible_schedulers(settings.MODELS_DIR / "demo"),
        "max_images": 2,
        "max_batch": 2,
        "load_options": asdict(LoadOptions(dtype="bfloat16", offload="model")),
        "license": "apache-2.0",
        "loaded_on": [],
    }
    assert (models[SD]["default"], models[SD]["max_images"]) == (True, 8)


def test_the_default_is_the_row_that_says_so(client: Client) -> None:
    edit("demo", is_default=True)
    assert {name: model["default"] for name, model in listed(client).items()} == {"demo": True, SD: False}


def test_what_requests_may_not_name_is_listed_as_such(client: Client, settings: Any, tmp_path: Path) -> None:
    edit(SD, allowed=False)
    settings.MODELS_DIR = tmp_path  # where there is no demo model
    assert {name: model["allowed"] for name, model in listed(client).items()} == {"demo": False, SD: False}


def test_a_pause_and_the_workers_that_hold_a_model_are_told(client: Client) -> None:
    pauses.create_pause(Pause.Scope.MODEL, "demo")
    warm = (WarmModel(model_id="demo", revision="local"),)
    engine = EngineState(device="cpu", device_name="", memory_used=1, memory_total=2, warm=warm)
    workers.record_heartbeat("a-worker", host="here", pid=1, version="1", engine=engine)
    demo = listed(client)["demo"]
    assert (demo["paused"], demo["loaded_on"]) == (True, ["a-worker"])
    assert not listed(client)[SD]["paused"]


def test_a_revision_of_the_settings_is_told(client: Client, settings: Any) -> None:
    settings.ALLOWED_MODELS = [f"{SD}@c0ffee"]
    assert listed(client)[SD]["revision"] == "c0ffee"


def test_the_schedulers_that_a_model_takes_are_told_and_held_to_as_soon_as_it_is_here(
    client: Client, settings: Any, tmp_path: Path
) -> None:
    settings.PROVIDERS = {**settings.PROVIDERS, "diffusers": {"hub_cache": tmp_path}}
    settings.ALLOWED_MODELS = ["somebody/tiny"]
    model_rows.sync_rows()
    body = {"task_type": "text-to-image", "params": {"prompt": "a fox", "model_id": "somebody/tiny"}}

    def post(scheduler: str) -> int:
        body["params"] |= {"scheduler": scheduler}  # type: ignore[operator]
        return client.post("/task", body, content_type="application/json").status_code

    assert listed(client)["somebody/tiny"]["schedulers"] is None
    assert post("euler") == 201
    snapshot = cached(tmp_path, "a" * 40, "main")
    (snapshot / "scheduler").mkdir()
    own = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
    (snapshot / "scheduler" / "scheduler_config.json").write_text(json.dumps(own))
    takes = listed(client)["somebody/tiny"]["schedulers"]
    assert takes == read_compatible_schedulers(snapshot)
    assert [post(name) for name in (takes[0], "euler")] == [201, 400]
    edit("somebody/tiny", revision="b" * 40)
    assert listed(client)["somebody/tiny"]["schedulers"] is None


def test_a_file_of_weights_without_a_base_is_listed_all_the_same(client: Client, settings: Any, tmp_path: Path) -> None:
    settings.MODELS_DIR = tmp_path
    (tmp_path / "one.safetensors").touch()
    (tmp_path / "one.json").write_text("{}")
    model_rows.sync_rows()
    assert listed(client)["one"]["schedulers"] is None


def test_many_models_cost_as_many_queries_as_one(client: Client, django_assert_num_queries: Callable[..., Any]) -> None:
    with django_assert_num_queries(2):
        client.get("/models")
    DiffusionModel.objects.bulk_create(DiffusionModel(model_id=f"org/{number}") for number in range(50))
    with django_assert_num_queries(2):
        assert len(client.get("/models").json()) == 52


@pytest.mark.parametrize(("scope", "status"), [(Scope.MODELS, 200), (Scope.READ, 403)])
def test_a_key_needs_the_scope_that_lists_models(settings: Any, scope: Scope, status: int) -> None:
    settings.API_AUTH = "required"
    _, token = api_keys.create_api_key(user=User.objects.create_user("ada"), name="a client", scopes=[scope])
    answer = Client(headers={"authorization": f"Bearer {token}"}).get("/models/")
    assert answer.status_code == status
    check_response("get", "/models", answer)
