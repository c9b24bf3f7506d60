"""Requests, names, defaults and commands that the first users were promised. Change the service, never this file."""

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tasks_app.events import progress
from tasks_app.models import Task
from tasks_app.queue import dispatch
from tests.support.stack import ROOT, run_worker, wait_until

DEFAULT_MODEL = "runwayml/stable-diffusion-v1-5"
FULL: dict[str, Any] = {
    "task_type": "text-to-image",
    "params": {
        "provider": "diffusers",
        "model_id": DEFAULT_MODEL,
        "prompt": "a photo of an astronaut riding a horse on mars",
        "negative_prompt": "blurry, low quality",
        "steps": 25,
        "guidance_scale": 8.0,
        "seed": 42,
    },
}
SHORT: dict[str, Any] = {"task_type": "text-to-image", "params": {"prompt": "a photo of a cat"}}


@pytest.mark.django_db
def test_a_full_body_is_kept_as_it_was_sent(client: Client) -> None:
    answer = client.post("/task", FULL, content_type="application/json")
    assert answer.status_code == 201
    assert FULL["params"].items() <= answer.json()["params"].items()
    assert answer.json()["task_type"] == "text-to-image"


@pytest.mark.django_db
def test_a_prompt_is_enough(client: Client) -> None:
    answer = client.post("/task", SHORT, content_type="application/json")
    assert answer.status_code == 201
    params = answer.json()["params"]
    assert (params["provider"], params["model_id"], params["negative_prompt"]) == ("diffusers", DEFAULT_MODEL, "")
    assert (params["steps"], params["guidance_scale"]) == (30, 7.5)
    assert isinstance(params["seed"], int)


@pytest.mark.django_db(transaction=True)
def test_rundramatiq_runs_a_task_and_saves_its_progress_in_redis_and_postgresql(
    make_task: Callable[..., Task], tmp_path: Path
) -> None:
    task = make_task(params={"prompt": "pace 0.05", "steps": 100})
    dispatch.send_wake_up(task.pk)
    with run_worker(tmp_path):
        row = wait_until(lambda: Task.objects.get(pk=task.pk), lambda now: now.step > 0)
        live = wait_until(lambda: progress.get_live_progress([row]).get(row.pk), bool)
    assert row.status == "running"
    assert live is not None
    assert live["step"] >= row.step


def test_uv_sync_installs_all_that_a_first_run_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {"engine", "embedded"} <= set(project["tool"]["uv"]["default-groups"])
    assert project["project"]["requires-python"] == ">=3.11"
    done = subprocess.run(["uv", "lock", "--check", "--offline"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
