"""The servers that the service is compared with do what they are compared for."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tasks_app.models import Task
from tools.benchmarks.harness import sides
from tools.benchmarks.harness.load import Plan, load

BODY = {
    "task_type": "text-to-image",
    "params": {"model_id": "demo", "prompt": "a red house", "steps": 4, "guidance_scale": 3.0},
}
OWN = {"id", "seed", "batch_key", "created_at", "updated_at", "requested_model_id"}


def posted(client: Client) -> dict[str, Any]:
    answer = client.post("/task", json.dumps(BODY), content_type="application/json")
    assert answer.status_code == 201, answer.content
    row = Task.objects.filter(pk=answer.json()["id"]).values().get()
    return {name: value for name, value in row.items() if name not in OWN}


@pytest.mark.django_db
def test_the_bare_view_inserts_the_row_that_the_service_does(client: Client, settings: Any) -> None:
    service = posted(client)
    settings.ROOT_URLCONF = "tools.benchmarks.harness.servers.plain"
    bare = posted(client)
    assert bare == service


@pytest.mark.skipif(not sides.installed(), reason=sides.MISSING)
@pytest.mark.parametrize("name", sides.PEERS)
def test_a_peer_draws_a_picture_for_each_request(name: str, tmp_path: Path) -> None:
    side = sides.peer(name, tmp_path, Plan(kind="", url="", clients=2, each=1, steps=1))
    with ExitStack() as exits:
        exits.enter_context(side.start())
        found = load(side.plan)
    assert (len(found.latencies), found.lost) == (2, 0)
