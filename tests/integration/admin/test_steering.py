"""Actions on tasks: asked about, confirmed by a POST, logged, and refused to whoever lacks permission."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone

from tasks_app.access import api_keys
from tasks_app.models import DiffusionModel, Status, Task
from tests.integration.admin.pages import (
    LIST,
    TASK_ACTIONS,
    MakeTask,
    action_url,
    body,
    form_data,
    messages,
    states,
    url_of,
)


def test_tasks_can_be_neither_added_nor_changed_nor_deleted(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task()
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.get(f"{LIST}{task.pk}/delete/").status_code == 403
    assert admin_client.post(f"{LIST}{task.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(url_of(task), {"status": "succeeded", "_save": "1"}).status_code == 403
    assert "delete_selected" not in body(admin_client, LIST)
    assert states() == {str(task.pk): Status.QUEUED}


@pytest.mark.parametrize("action", TASK_ACTIONS)
def test_a_get_asks_and_changes_nothing(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]], action: str
) -> None:
    tasks = one_of_each()
    before = states()
    for task in tasks.values():
        page = body(admin_client, action_url(task, action))
        assert 'method="post"' in page
        assert "csrfmiddlewaretoken" in page
    assert admin_client.get(f"{LIST}{action}/").status_code == 405
    assert admin_client.get(f"{LIST}?action={action}_chosen&_selected_action={task.pk}").status_code in {200, 302}
    assert states() == before
    assert not Task.objects.filter(cancel_requested_at__isnull=False)
    assert not LogEntry.objects.exists()


def test_the_confirmation_says_which_tasks_stay_as_they_are(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    tasks = one_of_each()
    assert "Cancel 1 task?" in body(admin_client, action_url(tasks["queued"], "cancel"))
    page = body(admin_client, action_url(tasks["failed"], "cancel"))
    assert "already finished" in page
    assert "Yes, cancel" not in page


@pytest.mark.parametrize("action", TASK_ACTIONS)
def test_choosing_tasks_in_the_list_only_asks(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]], action: str
) -> None:
    tasks = one_of_each()
    before = states()
    chosen = [str(task.pk) for task in tasks.values()]
    data = {"action": f"{action}_chosen", "_selected_action": chosen, "index": "0"}
    response = admin_client.post(f"{LIST}?status__exact=queued", data)
    page = response.content.decode()
    assert response.status_code == 200
    assert f'action="{LIST}{action}/?_changelist_filters=status__exact%3Dqueued"' in page
    assert states() == before
    assert not Task.objects.filter(cancel_requested_at__isnull=False)


def test_a_confirmed_cancel_cancels_a_queued_task(admin_client: Client, admin_user: User, make_task: MakeTask) -> None:
    task = make_task()
    assert messages(admin_client, action_url(task, "cancel"), {}) == ["1 canceled."]
    assert states() == {str(task.pk): Status.CANCELED}
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.change_message) == (admin_user, str(task.pk), "Canceled.")


def test_a_confirmed_cancel_asks_the_worker_of_a_running_task(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed()
    assert messages(admin_client, action_url(task, "cancel"), {}) == ["1 asked to stop at the next step."]
    task.refresh_from_db()
    assert task.status == Status.RUNNING
    assert task.cancel_requested_at is not None
    assert LogEntry.objects.get().change_message == "Asked to stop."


def test_a_confirmed_retry_queues_the_same_request_again(
    admin_client: Client, admin_user: User, failed: MakeTask
) -> None:
    task = failed()
    response = admin_client.post(action_url(task, "retry"), form_data("retry"))
    new = Task.objects.get(retried_from=task)
    assert response.headers["Location"] == url_of(new)
    assert (new.status, new.params, new.seed) == (Status.QUEUED, task.params, task.seed)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (admin_user, str(task.pk))
    assert str(new.pk) in entry.change_message


def test_a_task_that_has_not_ended_is_not_retried(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed()
    shown = messages(admin_client, action_url(task, "retry"), form_data("retry"))
    assert shown == ["1 not retried: not finished yet."]
    assert Task.objects.count() == 1
    assert not LogEntry.objects.exists()


def test_a_confirmed_reproduction_is_one_task_of_the_same_key(admin_client: Client, succeeded: MakeTask) -> None:
    key, _ = api_keys.create_api_key(user=User.objects.get(), name="key", scopes=api_keys.DEFAULT_SCOPES)
    task, form = succeeded(batch_key="0" * 32, key=key), form_data("reproduce")
    first, second = (admin_client.post(action_url(task, "reproduce"), form) for _ in range(2))
    new = Task.objects.get(reproduces=task)
    assert first.headers["Location"] == second.headers["Location"] == url_of(new)
    assert (new.status, new.params, new.seed, new.batch_key) == (Status.QUEUED, task.params, task.seed, "")
    assert (new.revision, new.key) == ("r1", key)
    assert str(new.pk) in LogEntry.objects.get().change_message


def test_reproducing_many_says_what_could_not_be(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    tasks = one_of_each()
    data = {"task": [str(task.pk) for task in tasks.values()], **form_data("reproduce")}
    shown = messages(admin_client, f"{LIST}reproduce/", data)[0]
    assert "1 queued again for comparison" in shown
    assert "4 not reproduced: has not succeeded" in shown
    assert Task.objects.get(reproduces__isnull=False).reproduces == tasks["succeeded"]


def test_a_task_whose_model_is_no_longer_allowed_is_not_reproduced(admin_client: Client, succeeded: MakeTask) -> None:
    task = succeeded()
    DiffusionModel.objects.filter(model_id="demo").update(allowed=False)
    shown = messages(admin_client, action_url(task, "reproduce"), form_data("reproduce"))
    assert shown == ["1 not reproduced: model no longer allowed."]
    assert Task.objects.get() == task


def test_canceling_many_counts_what_moved_and_what_did_not(
    admin_client: Client, make_task: MakeTask, claimed: MakeTask, failed: MakeTask
) -> None:
    tasks = [failed(), claimed(), make_task(), make_task()]
    data = {"task": [str(task.pk) for task in tasks]}
    shown = messages(admin_client, f"{LIST}cancel/", data)[0]
    assert set(shown.rstrip(".").split(", ")) == {
        "2 canceled",
        "1 asked to stop at the next step",
        "1 already finished",
    }
    assert LogEntry.objects.count() == 3


def test_retrying_many_queues_one_new_task_for_each_that_ended(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    tasks = one_of_each()
    data = {"task": [str(task.pk) for task in tasks.values()], **form_data("retry")}
    shown = messages(admin_client, f"{LIST}retry/", data)[0]
    assert "3 queued again as a new task" in shown
    assert "2 not retried: not finished yet" in shown
    retried = Task.objects.filter(retried_from__isnull=False).values_list("retried_from_id", flat=True)
    assert set(retried) == {tasks[status].pk for status in ("succeeded", "failed", "canceled")}


def test_retried_tasks_queue_in_the_order_in_which_they_came(admin_client: Client, failed: MakeTask) -> None:
    now = timezone.now()
    tasks = [failed(created_at=now - timedelta(hours=hours)) for hours in (2, 3, 1)]
    admin_client.post(f"{LIST}retry/", {"task": [str(task.pk) for task in tasks], **form_data("retry")})
    retries = Task.objects.filter(status=Status.QUEUED).order_by("retried_from__created_at")
    queued = [entry.change_message for entry in LogEntry.objects.order_by("pk")]
    assert queued == [f"Queued again as {task.pk}." for task in retries]


def test_a_confirmation_submitted_twice_retries_once(admin_client: Client, failed: MakeTask) -> None:
    task, other, form = failed(), failed(), form_data("retry")
    first, second = (admin_client.post(action_url(task, "retry"), form) for _ in range(2))
    new = Task.objects.get(retried_from=task)
    assert first.headers["Location"] == second.headers["Location"] == url_of(new)
    data = {"task": [str(task.pk), str(other.pk)], **form}
    shown = messages(admin_client, f"{LIST}retry/", data)[-1]
    assert set(shown.rstrip(".").split(", ")) == {
        "1 queued again as a new task",
        "1 already retried",
    }
    assert LogEntry.objects.count() == 2
    # Another confirmation is another wish.
    admin_client.post(action_url(task, "retry"), form_data("retry"))
    assert Task.objects.filter(retried_from=task).count() == 2


def test_each_confirmation_of_a_retry_has_a_key_of_its_own(admin_client: Client, failed: MakeTask) -> None:
    url = action_url(failed(), "retry")
    keys = [re.search(r'name="key" value="([^"]+)"', body(admin_client, url)) for _ in range(2)]
    assert len({key and key.group(1) for key in keys} - {None}) == 2


def test_a_retry_without_its_key_is_asked_about_again(admin_client: Client, failed: MakeTask) -> None:
    assert "This field is required" in admin_client.post(action_url(failed(), "retry")).content.decode()
    assert Task.objects.count() == 1


def test_a_confirmed_priority_moves_queued_tasks_alone(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    tasks = one_of_each()
    data = {"task": [str(task.pk) for task in tasks.values()], "priority": "-3"}
    shown = messages(admin_client, f"{LIST}reprioritize/", data)[0]
    assert set(shown.rstrip(".").split(", ")) == {"1 set to priority -3", "4 not changed: no longer queued"}
    moved = Task.objects.get(priority=-3)
    assert moved == tasks["queued"]
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (str(moved.pk), "Priority changed from 0 to -3.")


@pytest.mark.parametrize("priority", ["11", "-11", "", "high", "1.5"])
def test_a_priority_that_cannot_be_is_told_at_its_field(
    admin_client: Client, make_task: MakeTask, priority: str
) -> None:
    task = make_task()
    for url, more in ((action_url(task, "reprioritize"), {}), (f"{LIST}reprioritize/", {"task": [str(task.pk)]})):
        page = admin_client.post(url, {"priority": priority, **more}).content.decode()
        assert 'role="alert"' in page
        assert f'name="task" value="{task.pk}"' in page
    task.refresh_from_db()
    assert task.priority == 0


def test_a_deleted_task_goes_with_its_files_and_the_log_keeps_who_did_it(
    admin_client: Client, admin_user: User, succeeded: MakeTask
) -> None:
    task = succeeded(images=2)
    names = [str(image.file.name) for image in task.images.all()]
    for name in names:
        default_storage.save(name, ContentFile(b"PNG"))
    shown = messages(admin_client, action_url(task, "remove"), {})
    assert shown == ["1 deleted with its images."]
    assert not Task.objects.exists()
    assert not any(default_storage.exists(name) for name in names)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.action_flag) == (admin_user, str(task.pk), DELETION)


def test_deleting_many_leaves_what_has_not_ended(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    tasks = one_of_each()
    shown = messages(admin_client, f"{LIST}remove/", {"task": [str(task.pk) for task in tasks.values()]})[0]
    assert "3 deleted with its images" in shown
    assert "2 not deleted: not finished yet" in shown
    assert set(states().values()) == {Status.QUEUED, Status.RUNNING}
    assert LogEntry.objects.count() == 3


def test_a_task_whose_files_cannot_be_removed_stays(admin_client: Client, succeeded: MakeTask) -> None:
    task = succeeded()
    folder = Path(default_storage.path(str(task.images.get().file)))
    folder.mkdir(parents=True)  # a directory where a file should be can't be unlinked
    (folder / "in the way").touch()
    shown = messages(admin_client, action_url(task, "remove"), {})
    assert shown == ["1 not deleted: an image file could not be removed."]
    assert Task.objects.filter(pk=task.pk).exists()
    assert not LogEntry.objects.exists()


def test_whoever_deletes_twice_is_told_that_the_task_is_gone(admin_client: Client, failed: MakeTask) -> None:
    task = failed()
    admin_client.post(action_url(task, "remove"))
    shown = messages(admin_client, action_url(task, "remove"), {})
    assert "Perhaps it was deleted?" in shown[-1]


def test_whoever_may_change_but_not_delete_tasks_cannot_delete(staff: Callable[..., Client], failed: MakeTask) -> None:
    task = failed()
    client = staff("change_task")
    assert action_url(task, "retry") in body(client, url_of(task))
    assert action_url(task, "remove") not in body(client, url_of(task))
    assert "remove_chosen" not in body(client, LIST)
    assert client.post(action_url(task, "remove")).status_code == 403
    assert Task.objects.filter(pk=task.pk).exists()


def test_after_many_the_list_comes_back_with_its_filters(admin_client: Client, make_task: MakeTask) -> None:
    url = f"{LIST}cancel/?_changelist_filters=status__exact%3Dqueued"
    response = admin_client.post(url, {"task": [str(make_task().pk)]})
    assert response.headers["Location"] == f"{LIST}?status__exact=queued"


def test_too_many_tasks_at_a_time_are_refused_in_words(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task()
    Task.objects.bulk_create(
        Task(
            task_type=task.task_type,
            provider=task.provider,
            requested_model_id="demo",
            model_id="demo",
            params=task.params,
            seed=1,
            total_steps=4,
        )
        for _ in range(500)
    )
    data = {"action": "cancel_chosen", "_selected_action": [str(task.pk)], "select_across": "1", "index": "0"}
    assert messages(admin_client, LIST, data) == ["Choose at most 500 tasks at a time."]


@pytest.mark.parametrize("ids", [["x"], ["1' OR '1'='1"]])
def test_ids_that_are_none_are_a_bad_request(admin_client: Client, ids: list[str]) -> None:
    assert admin_client.post(f"{LIST}cancel/", {"task": ids}).status_code == 400


def test_a_post_without_a_csrf_token_is_refused(admin_user: User, make_task: MakeTask) -> None:
    task = make_task()
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post(action_url(task, "cancel")).status_code == 403
    assert states() == {str(task.pk): Status.QUEUED}


def test_whoever_may_only_look_cannot_act(staff: Callable[..., Client], make_task: MakeTask, failed: MakeTask) -> None:
    ended, queued = failed(), make_task()
    client = staff("view_task")
    assert "cancel_chosen" not in body(client, LIST)
    for task, action in ((queued, "cancel"), (queued, "reprioritize"), (ended, "retry"), (ended, "remove")):
        assert action_url(task, action) not in body(client, url_of(task))
        assert client.get(action_url(task, action)).status_code == 403
        assert client.post(action_url(task, action), form_data(action)).status_code == 403
        assert client.post(f"{LIST}{action}/", {"task": [str(task.pk)], **form_data(action)}).status_code == 403
        data = {"action": f"{action}_chosen", "_selected_action": [str(task.pk)], "index": "0"}
        assert 'name="task"' not in client.post(LIST, data, follow=True).content.decode()
    assert states() == {str(ended.pk): Status.FAILED, str(queued.pk): Status.QUEUED}


def test_whoever_may_change_tasks_sees_and_acts(staff: Callable[..., Client], make_task: MakeTask) -> None:
    task = make_task()
    client = staff("change_task")
    assert action_url(task, "cancel") in body(client, url_of(task))
    assert client.post(action_url(task, "cancel")).status_code == 302
    assert states() == {str(task.pk): Status.CANCELED}


def test_without_any_permission_nothing_is_seen(staff: Callable[..., Client], make_task: MakeTask) -> None:
    client, task = staff(), make_task()
    assert client.get(LIST).status_code == 403
    assert client.get(url_of(task)).status_code == 403
    assert LIST not in body(client, "/admin/")
