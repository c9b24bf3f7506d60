"""The list of models, a model's form, and loading and unloading: edits take effect with the next request."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks_app import actors
from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import EngineState, GenerationRequest, LoadOptions, WarmModel
from tasks_app.models import DiffusionModel, Pause, Task, Worker, WorkerCommand
from tasks_app.queue import pauses, workers
from tests.integration.admin.pages import MODELS, PAUSES, WORKERS, body, messages
from tests.support.fake import handler as fake

Alive = Callable[..., Worker]
ALIAS, ALIASED = "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"
HOLDING = EngineState(
    device="cuda:0",
    device_name="A card",
    memory_used=1,
    memory_total=4,
    warm=(WarmModel(model_id="demo", revision="local"),),
)
# What the form of a row that says nothing holds.
EMPTY = {
    "aliases": "",
    "revision": "",
    "allowed": "on",
    "license_note": "",
    "steps": "",
    "guidance_scale": "",
    "width": "",
    "height": "",
    "scheduler": "",
    "negative_prompt": "",
    "dtype": "",
    "offload": "none",
    "max_batch": "",
}


def demo() -> DiffusionModel:
    return DiffusionModel.objects.get(model_id="demo")


def page_of(model: DiffusionModel) -> str:
    return f"{MODELS}{model.pk}/change/"


def wrong(client: Client, url: str, **values: str) -> dict[str, list[str]]:
    """Return what the form refuses, by field."""
    response = client.post(url, {**EMPTY, **values})
    return {} if response.status_code == 302 else dict(response.context["adminform"].form.errors)


def post(client: Client, **params: Any) -> Any:
    body = {
        "task_type": "text-to-image",
        "params": {"provider": "fake", "model_id": "demo", "prompt": "a fox", **params},
    }
    return client.post("/task", json.dumps(body), content_type="application/json")


def refused(client: Client, **params: Any) -> list[str]:
    answer = post(client, **params)
    assert answer.status_code == 400
    return [field["path"] for field in answer.json()["error"]["fields"]]


# --- The form --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"steps": "0"}, {"steps"}),
        ({"steps": "151"}, {"steps"}),
        ({"steps": "99999"}, {"steps"}),
        ({"steps": "x"}, {"steps"}),
        ({"guidance_scale": "50.5"}, {"guidance_scale"}),
        ({"guidance_scale": "-1"}, {"guidance_scale"}),
        ({"guidance_scale": "nan"}, {"guidance_scale"}),
        ({"width": "512"}, {"height"}),
        ({"height": "512"}, {"width"}),
        ({"width": "510", "height": "512"}, {"width"}),
        ({"width": "16", "height": "4096"}, {"width", "height"}),
        ({"scheduler": "magic"}, {"scheduler"}),
        ({"negative_prompt": "x" * 4001}, {"negative_prompt"}),
        ({"dtype": "float8"}, {"dtype"}),
        ({"offload": ""}, {"offload"}),
        ({"attention_backend": "flash_hub"}, {"attention_backend"}),
        ({"step_cache": "all"}, {"step_cache"}),
        ({"quantization": "int3", "dtype": "int8"}, {"quantization", "dtype"}),
        ({"max_batch": "0"}, {"max_batch"}),
        ({"aliases": ALIAS}, {"aliases"}),
        ({"aliases": ALIASED}, {"aliases"}),
        ({"aliases": "demo"}, {"aliases"}),
        ({"aliases": "a" * 256}, {"aliases"}),
        ({"steps": "0", "width": "7", "aliases": ALIAS}, {"steps", "width", "height", "aliases"}),
    ],
    ids=lambda value: str(sorted(value.items()) if isinstance(value, dict) else sorted(value)),
)
def test_the_form_refuses_by_field_what_the_api_would(
    admin_client: Client, values: dict[str, str], fields: set[str]
) -> None:
    before = DiffusionModel.objects.values().get(model_id="demo")
    assert set(wrong(admin_client, page_of(demo()), **values)) == fields
    assert DiffusionModel.objects.values().get(model_id="demo") == before


def test_a_default_size_has_no_more_pixels_than_a_request_may_ask_for(admin_client: Client, settings: Any) -> None:
    settings.MAX_PIXELS = 512 * 512
    assert wrong(admin_client, page_of(demo()), width="512", height="512") == {}
    assert set(wrong(admin_client, page_of(demo()), width="520", height="512")) == {"width", "height"}


def test_one_model_at_a_time_is_the_default(admin_client: Client) -> None:
    assert wrong(admin_client, page_of(demo()), is_default="on") == {}
    assert re.findall(r">\s*default\s*<", admin_client.get(MODELS).content.decode())
    other = DiffusionModel.objects.get(model_id=ALIASED)
    assert wrong(admin_client, page_of(other), is_default="on") == {"__all__": ["Another model is the default."]}
    assert wrong(admin_client, page_of(demo())) == {}
    assert wrong(admin_client, page_of(other), is_default="on") == {}


@pytest.mark.parametrize("name", ["nobody", "a/b/c", "../demo", "", ALIAS, ALIASED, "demo", "bad name/x"])
def test_a_row_needs_a_folder_or_an_id_of_the_hub_that_is_nobodys_name(admin_client: Client, name: str) -> None:
    assert set(wrong(admin_client, f"{MODELS}add/", model_id=name)) == {"model_id"}
    assert DiffusionModel.objects.count() == 2


def test_a_name_that_another_row_has_as_an_alias_is_refused(admin_client: Client) -> None:
    DiffusionModel.objects.filter(model_id="demo").update(aliases=["org/tiny"])
    assert "demo has this name" in str(wrong(admin_client, f"{MODELS}add/", model_id="org/tiny"))
    assert "org/tiny is the name of demo" in str(
        wrong(admin_client, f"{MODELS}add/", model_id="org/new", aliases="org/tiny")
    )


def test_a_row_is_known_by_its_name_which_stays(admin_client: Client) -> None:
    assert wrong(admin_client, page_of(demo()), model_id="org/other") == {}
    assert DiffusionModel.objects.filter(model_id="demo").exists()


def test_the_form_offers_the_schedulers_and_says_what_empty_means(admin_client: Client) -> None:
    page = body(admin_client, page_of(demo()))
    for text in ('value="dpmpp_2m_karras"', "1 to 150. Empty: 30.", "0 to 50. Empty: 7.5.", "in multiples of 8"):
        assert text in page


def test_what_the_settings_name_is_disallowed_and_not_deleted(admin_client: Client) -> None:
    assert admin_client.post(f"{MODELS}{demo().pk}/delete/", {"post": "yes"}).status_code == 403
    other = DiffusionModel.objects.create(model_id="org/typo")
    assert admin_client.post(f"{MODELS}{other.pk}/delete/", {"post": "yes"}).status_code == 302
    assert set(DiffusionModel.objects.values_list("model_id", flat=True)) == {"demo", ALIASED}


# --- What an edit does -----------------------------------------------------------------------------------------------


def test_changed_defaults_are_those_of_the_next_request(admin_client: Client, admin_user: User) -> None:
    edit = {"steps": "9", "guidance_scale": "2.5", "width": "64", "height": "48", "scheduler": "euler"}
    assert wrong(admin_client, page_of(demo()), negative_prompt="rain", **edit) == {}
    params = post(admin_client).json()["params"]
    assert {name: params[name] for name in (*edit, "negative_prompt")} == {
        "steps": 9,
        "guidance_scale": 2.5,
        "width": 64,
        "height": 48,
        "scheduler": "euler",
        "negative_prompt": "rain",
    }
    assert post(admin_client, steps=3).json()["params"]["steps"] == 3
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (admin_user, str(demo().pk))


def test_a_disallowed_model_is_refused_and_a_new_alias_resolves(admin_client: Client) -> None:
    assert refused(admin_client, model_id="tiny") == ["params.model_id"]
    assert wrong(admin_client, page_of(demo()), aliases="tiny, org/tiny") == {}
    for name in ("tiny", "org/tiny"):
        assert post(admin_client, model_id=name).json()["model"]["id"] == "demo"
    assert wrong(admin_client, page_of(demo()), aliases="tiny", allowed="") == {}
    for name in ("demo", "tiny"):
        assert refused(admin_client, model_id=name) == ["params.model_id"]


def test_a_new_row_allows_a_model_of_the_hub_at_its_revision(admin_client: Client) -> None:
    assert refused(admin_client, model_id="org/new") == ["params.model_id"]
    assert wrong(admin_client, f"{MODELS}add/", model_id="org/new", revision="c0ffee") == {}
    task = Task.objects.get(pk=post(admin_client, model_id="org/new").json()["id"])
    assert (task.model_id, task.revision) == ("org/new", "c0ffee")


def test_a_request_asks_for_no_more_pictures_than_the_model_makes(admin_client: Client) -> None:
    assert post(admin_client, num_images=2).status_code == 201
    assert wrong(admin_client, page_of(demo()), max_batch="1") == {}
    assert refused(admin_client, num_images=2) == ["params.num_images"]
    assert wrong(admin_client, page_of(demo()), max_batch="100") == {}
    assert refused(admin_client, num_images=9) == ["params.num_images"]


@pytest.mark.django_db(transaction=True)
def test_the_next_run_is_loaded_as_the_row_says(
    admin_client: Client, behave: Callable[[str, fake.Behaviour], str]
) -> None:
    asked: list[GenerationRequest] = []

    def remember(request: GenerationRequest, report: ProgressCallback) -> None:
        asked.append(request)

    behave("a fox", remember)
    waiting = post(admin_client).json()["id"]
    wanted = {"dtype": "bfloat16", "offload": "sequential", "quantization": "int8", "step_cache": "first_block"}
    assert wrong(admin_client, page_of(demo()), **wanted, fuse_qkv="on") == {}
    actors.generate.fn(waiting)
    assert [request.options for request in asked] == [LoadOptions(**wanted, fuse_qkv=True)]  # type: ignore[arg-type]


# --- The list and the page -------------------------------------------------------------------------------------------


def test_the_list_shows_how_each_model_is_set_up_and_where_it_is_warm(
    admin_client: Client, alive: Alive, settings: Any
) -> None:
    settings.ALLOWED_MODELS = [f"{ALIASED}@451aaaabbbbcccc"]
    alive("gpu-7", HOLDING)
    pauses.create_pause(Pause.Scope.MODEL, "demo")
    DiffusionModel.objects.filter(model_id="demo").update(
        steps=25,
        guidance_scale=4,
        width=32,
        height=24,
        scheduler="euler",
        dtype="bfloat16",
        offload="model",
        max_batch=2,
        quantization="int8",
        compile_blocks=True,
    )
    DiffusionModel.objects.filter(model_id=ALIASED).update(allowed=False)
    page = body(admin_client, MODELS)
    for text in (
        "25 steps, guidance 4, 32 × 24, euler",
        "bfloat16, components at rest offloaded, int8, compiled, at most 2 images",
    ):
        assert text in page
    for text in ("gpu-7", "paused", ALIAS, "not allowed", "451aaaabbbbc<"):
        assert text in page


def test_the_number_of_queries_does_not_grow_with_the_models(admin_client: Client, alive: Alive) -> None:
    alive("gpu-7", HOLDING)
    counts = []
    for number in (1, 8):
        for index in range(number):
            DiffusionModel.objects.create(model_id=f"org/m{number}-{index}")
        with CaptureQueriesContext(connection) as queries:
            body(admin_client, MODELS)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


def test_models_are_found_by_name_and_by_alias(admin_client: Client) -> None:
    for query in ("stable", "runwayml"):
        page = body(admin_client, f"{MODELS}?q={query}")
        assert f">{ALIASED}<" in page
        assert ">demo<" not in page


# --- Loading and unloading -------------------------------------------------------------------------------------------


def url(kind: str) -> str:
    return f"{MODELS}{demo().pk}/{kind}/"


def test_the_confirmation_lists_the_living_workers_that_it_is_for(admin_client: Client, alive: Alive) -> None:
    for name in ("cold", "silent", "left"):
        alive(name)
    alive("holding", HOLDING)
    Worker.objects.filter(name="silent").update(seen_at=Now() - timedelta(hours=1))
    workers.deregister_worker("left")
    for kind, expected in (("preload", {"cold"}), ("unload", {"holding"})):
        page = body(admin_client, url(kind))
        assert {name for name in ("cold", "silent", "left", "holding") if f'value="{name}"' in page} == expected
    assert not WorkerCommand.objects.exists()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("preload", "No worker is running, or the model is already loaded on every one."),
        ("unload", "The model is not loaded on any running worker."),
    ],
)
def test_where_nobody_can_do_it_the_page_says_so(admin_client: Client, kind: str, reason: str) -> None:
    page = body(admin_client, url(kind))
    assert reason in page
    assert f"Yes, {kind}" not in page


def test_a_confirmed_order_leaves_commands_and_counts_who_is_gone(
    admin_client: Client, admin_user: User, alive: Alive
) -> None:
    for name in ("one", "two", "silent"):
        alive(name)
    Worker.objects.filter(name="silent").update(seen_at=Now() - timedelta(hours=1))
    shown = messages(admin_client, url("preload"), {"workers": ["one", "two", "silent"]})
    assert shown == ["Preload requested on 2 workers, 1 no longer reachable."]
    commands = WorkerCommand.objects.order_by("worker_id")
    assert [(each.worker_id, each.kind, each.model_id, each.by) for each in commands] == [
        ("one", "preload", "demo", admin_user),
        ("two", "preload", "demo", admin_user),
    ]
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (str(demo().pk), "Preload on one, two.")
    for page in (page_of(demo()), f"{WORKERS}one/change/"):
        assert "waiting" in body(admin_client, page)


def test_an_order_for_workers_that_are_all_gone_leaves_nothing(admin_client: Client, alive: Alive) -> None:
    alive("left")
    workers.deregister_worker("left")
    shown = messages(admin_client, url("preload"), {"workers": ["left"]})
    assert shown == ["Preload requested on 0 workers, 1 no longer reachable."]
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("chosen", [[], ["nobody"]])
def test_an_order_needs_workers_that_there_are(admin_client: Client, alive: Alive, chosen: list[str]) -> None:
    alive("one")
    assert 'role="alert"' in admin_client.post(url("preload"), {"workers": chosen}).content.decode()
    assert not WorkerCommand.objects.exists()


def test_the_page_offers_what_fits_and_tells_what_came_of_it(admin_client: Client, alive: Alive) -> None:
    offers = ("preload", "unload")
    alive("host:1")
    assert [kind for kind in offers if url(kind) in body(admin_client, page_of(demo()))] == ["preload"]
    workers.record_heartbeat("host:1", host="here", pid=1, version="1", engine=HOLDING)
    assert [kind for kind in offers if url(kind) in body(admin_client, page_of(demo()))] == ["preload", "unload"]
    DiffusionModel.objects.filter(model_id="demo").update(allowed=False)
    assert [kind for kind in offers if url(kind) in body(admin_client, page_of(demo()))] == ["unload"]
    (command,) = workers.enqueue_commands(WorkerCommand.Kind.UNLOAD, "demo", ["host:1"])
    workers.complete_command(command, error="It is <broken>.")
    page = body(admin_client, page_of(demo()))
    for text in ("It is &lt;broken&gt;.", f"{WORKERS}host_3A1/change/", f"{PAUSES}pause/?scope=model&amp;target=demo"):
        assert text in page


def test_whoever_may_only_look_sees_models_and_can_change_and_order_nothing(
    staff: Callable[..., Client], alive: Alive
) -> None:
    alive("one", HOLDING)
    client = staff("view_diffusionmodel")
    page = body(client, page_of(demo()))
    assert "<textarea" not in page
    assert "Save" not in page
    assert client.post(page_of(demo()), EMPTY).status_code == 403
    assert client.get(f"{MODELS}add/").status_code == 403
    for kind in ("preload", "unload"):
        assert url(kind) not in page
        assert client.get(url(kind)).status_code == 403
        assert client.post(url(kind), {"workers": ["one"]}).status_code == 403
    assert not WorkerCommand.objects.exists()


def test_a_model_that_is_not_there_is_404(admin_client: Client) -> None:
    assert admin_client.get(f"{MODELS}999999/preload/").status_code == 404
