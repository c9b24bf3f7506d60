"""The page of a task: everything that is known about it, and what can be done to it."""

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from tasks_app.events import progress
from tasks_app.models import Pause, Task, Upload
from tasks_app.queue import pauses
from tests.integration.admin.pages import LIST, TASK_ACTIONS, MakeTask, action_url, body, url_of


def test_the_page_of_a_task_shows_every_picture_in_full(admin_client: Client, succeeded: MakeTask) -> None:
    task = succeeded(images=3)
    page = body(admin_client, url_of(task))
    for index in range(3):
        assert f'<img src="{reverse("task-image", args=[task.pk, index])}"' in page
        assert f"seed {7 + index}" in page


@pytest.mark.parametrize(("side", "pixelated"), [(32, True), (128, True), (136, False)])
def test_only_small_pictures_are_enlarged_with_square_pixels(
    admin_client: Client, succeeded: MakeTask, side: int, pixelated: bool
) -> None:
    page = body(admin_client, url_of(succeeded(side=side)))
    assert ('class="task-pixelated" style="width: 384px"' in page) is pixelated


def test_the_page_of_a_task_shows_parameters_and_timings(admin_client: Client, succeeded: MakeTask) -> None:
    task = succeeded(params={"negative_prompt": "fog <i>", "guidance_scale": 3.25}, seed=4_000_000_000)
    page = body(admin_client, url_of(task))
    for text in ("fog &lt;i&gt;", "3.25", "4000000000", "r1", "1.50 s", "0.50 s"):
        assert text in page
    assert page.index(">Loading<") < page.index(">Denoising<")


def test_loras_and_embeddings_are_named_and_none_is_a_dash(admin_client: Client, succeeded: MakeTask) -> None:
    loras = [{"id": "ink", "weight": 0.5}, {"id": "<glow>", "weight": -1.0}]
    page = body(admin_client, url_of(succeeded(params={"loras": loras, "embeddings": []})))
    assert re.search(r">LoRAs</th><td[^>]*><span[^>]*>ink × 0\.5, &lt;glow&gt; × -1</span>", page)
    assert re.search(r">Embeddings</th><td[^>]*>–<", page)


def test_what_a_task_began_with_is_shown_while_it_is_there(admin_client: Client, succeeded: MakeTask) -> None:
    upload = Upload.objects.create(sha256="0" * 64, width=64, height=48)
    task = succeeded(params={"image": str(upload.pk), "strength": 0.5})
    task.uploads.add(upload)
    shown = f'<img class="task-begun" src="{reverse("upload-image", args=[upload.pk])}" alt="{upload.pk}">'
    assert shown in body(admin_client, url_of(task))
    task.uploads.clear()
    page = body(admin_client, url_of(task))
    assert shown not in page
    assert str(upload.pk) in page


def test_the_error_and_its_traceback_are_shown_escaped(admin_client: Client, failed: MakeTask) -> None:
    task = failed(message="<script>alert(1)</script>", traceback="File <module>\n  & more")
    page = body(admin_client, url_of(task))
    assert "internal" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert(1)" not in page
    assert re.search(r"<pre[^>]*>File &lt;module&gt;\n  &amp; more</pre>", page)


def test_a_retry_and_its_origin_link_to_each_other(admin_client: Client, make_task: MakeTask, failed: MakeTask) -> None:
    origin = failed()
    retry = make_task(retried_from=origin)
    assert url_of(retry) in body(admin_client, url_of(origin))
    assert url_of(origin) in body(admin_client, url_of(retry))


def test_a_reproduction_shows_what_came_of_it_and_links_to_the_first(
    admin_client: Client, make_task: MakeTask, succeeded: MakeTask
) -> None:
    first = succeeded()
    found = {
        "verdict": "near",
        "images": [{"index": 0, "verdict": "near", "psnr": 45.25, "identical_file": False}],
        "differences": {"torch": ["2.8", None]},
    }
    again = make_task(reproduces=first, reproduction=found)
    page, origin = body(admin_client, url_of(again)), body(admin_client, url_of(first))
    for text in ("<h2>Reproduction</h2>", "PSNR 45.25 dB", "2.8 → unknown", url_of(first)):
        assert text in page
    assert "<h2>Reproduction</h2>" not in origin
    assert f'href="{url_of(again)}">{again.pk}</a> <small>near</small>' in origin


def test_what_pictures_depend_on_is_shown(admin_client: Client, make_task: MakeTask) -> None:
    page = body(admin_client, url_of(make_task(provenance={"torch": "<2.9>"})))
    assert "&lt;2.9&gt;" in page.split("<h2>Provenance</h2>")[1]


def test_warnings_are_shown_only_if_there_are_any(admin_client: Client, make_task: MakeTask) -> None:
    warning = {"code": "prompt_truncated", "field": "prompt", "message": "Only the first 75 tokens have an effect."}
    page = body(admin_client, url_of(make_task(warnings=[warning])))
    assert all(text in page.split("<h2>Warnings</h2>")[1] for text in warning.values())
    assert "<h2>Warnings</h2>" not in body(admin_client, url_of(make_task()))


def test_every_status_has_its_page_and_offers_what_fits(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    for status, task in one_of_each().items():
        page = body(admin_client, url_of(task))
        offered = {action for action in TASK_ACTIONS if action_url(task, action) in page}
        expected = {"queued": {"cancel", "reprioritize"}, "running": {"cancel"}}
        assert offered == expected.get(
            status, {"retry", "remove"} | ({"reproduce"} if status == "succeeded" else set())
        )


def test_only_a_page_whose_task_has_not_ended_follows_it(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    for status, task in one_of_each().items():
        page = body(admin_client, url_of(task))
        followed = f'data-live="{task.pk}"' in page.split('id="task-page"')[1].split(">")[0]
        assert followed is (status in {"queued", "running"})


def test_the_history_says_who_did_what(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task()
    admin_client.post(action_url(task, "cancel"))
    page = body(admin_client, f"{LIST}{task.pk}/history/")
    assert "Canceled." in page
    assert "admin" in page


def test_the_page_tells_when_status_and_phase_changed(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed()
    progress.publish_event(task.pk, "status", {"status": "running", "attempt": 1})
    for phase, step in (("loading", 0), ("denoising", 0), ("denoising", 1), ("denoising", 2), ("decoding", 4)):
        progress.publish_event(task.pk, "progress", {"attempt": 1, "phase": phase, "step": step, "total_steps": 4})
    events = body(admin_client, url_of(task)).split("<h2>Events</h2>")[1].split("</ol>")[0]
    told = re.findall(r"<time[^>]*>\d\d:\d\d:\d\d\.\d+</time><span>([^<]*)</span>", events)
    assert told == ["running, attempt 1", "loading", "denoising", "decoding"]


def test_the_latest_preview_of_a_running_task_is_shown(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed()
    assert 'id="task-preview" hidden' in body(admin_client, url_of(task))
    for step in (2, 4):
        data = {"attempt": 1, "step": step, "total_steps": 9, "width": 8, "height": 4, "src": f"data:image/webp,{step}"}
        progress.publish_event(task.pk, "preview", data)
    page = body(admin_client, url_of(task))
    assert 'src="data:image/webp,4"' in page
    assert "step 4 of 9" in page


def test_without_redis_the_page_shows_what_the_rows_say(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed()
    progress.trip_breaker(TimeoutError())
    page = body(admin_client, url_of(task))
    assert "<h2>Events</h2>" not in page
    assert "a-worker:1" in page


def test_a_queued_task_says_that_it_is_paused(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task()
    assert "<span>paused</span>" not in body(admin_client, url_of(task))
    pauses.create_pause(Pause.Scope.MODEL, task.model_id)
    assert "<span>paused</span>" in body(admin_client, url_of(task))
