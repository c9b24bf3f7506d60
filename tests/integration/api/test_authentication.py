"""Who may do what over HTTP: keys, staff, signed addresses, and nobody in particular."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from tasks_app.access import api_keys
from tasks_app.models import ApiKey, Scope, Task
from tests.conftest import PARAMS
from tests.support.acting import ScriptedWorker

BODY = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a house"}}
MakeTask = Callable[..., Task]
MakeKey = Callable[..., Client]


@pytest.fixture(autouse=True)
def _required(settings: Any) -> None:
    settings.API_AUTH = "required"


@pytest.fixture
def key(db: None) -> Callable[..., tuple[ApiKey, str]]:
    """Return a factory of keys with these scopes alone."""

    def make(*scopes: str, **fields: Any) -> tuple[ApiKey, str]:
        user, _ = User.objects.get_or_create(username="ada")
        name = f"key {ApiKey.objects.count()}"
        return api_keys.create_api_key(user=user, name=name, scopes=[Scope(scope) for scope in scopes], **fields)

    return make


def bearer(token: str) -> Client:
    return Client(headers={"authorization": f"Bearer {token}"})


def post(client: Client, path: str = "/task", body: Any = None, **headers: str) -> Any:
    return client.post(path, BODY if body is None else body, content_type="application/json", headers=headers)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


PATHS = ["/task", "/task/{id}", "/task/{id}/images", "/task/{id}/images/0", "/task/{id}/images/0/thumbnail"]
PATHS += ["/task/{id}/events", "/task/{id}/links", "/events?task={id}"]


@pytest.mark.parametrize("path", PATHS)
def test_without_a_key_nothing_is_read(make_task: MakeTask, path: str) -> None:
    answer = Client().get(path.format(id=make_task().pk))
    assert code(answer) == (401, "unauthorized")
    assert answer["WWW-Authenticate"] == "Bearer"


def test_without_a_key_nothing_is_posted_or_canceled(make_task: MakeTask) -> None:
    task = make_task()
    assert code(post(Client())) == (401, "unauthorized")
    assert code(post(Client(), f"/task/{task.pk}/cancel")) == (401, "unauthorized")
    assert Task.objects.get().status == "queued"


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer dh_" + "0" * 64,
        "Bearer dh_" + "0" * 63,
        "Bearer \x00",
        "Bearer a b",
        "Bearer \xe9\xff",
        "bearer " + "x" * 10_000,
        "Basic " + base64.b64encode(b"me:dh_" + b"0" * 64).decode(),
        "Basic !!!",
        "Digest x",
    ],
)
def test_what_is_no_key_is_refused(db: None, header: str) -> None:
    assert code(Client(headers={"authorization": header}).get("/task")) == (401, "unauthorized")


def test_a_key_is_taken_as_a_bearer_or_as_a_password(key: Any) -> None:
    _, token = key("read")
    assert bearer(token).get("/task").status_code == 200
    assert Client(headers={"authorization": f"bearer {token}"}).get("/task").status_code == 200
    basic = base64.b64encode(f"anybody:{token}".encode()).decode()
    assert Client(headers={"authorization": f"Basic {basic}"}).get("/task").status_code == 200


def test_expired_revoked_and_inactive_keys_are_refused_and_kept(key: Any) -> None:
    row, token = key("read")
    ApiKey.objects.update(expiry=timezone.now())
    assert code(bearer(token).get("/task")) == (401, "unauthorized")
    ApiKey.objects.update(expiry=None)
    assert bearer(token).get("/task").status_code == 200
    assert api_keys.revoke_api_key(row)
    assert code(bearer(token).get("/task")) == (401, "unauthorized")
    ApiKey.objects.update(expiry=None)
    User.objects.update(is_active=False)
    assert code(bearer(token).get("/task")) == (401, "unauthorized")
    assert ApiKey.objects.count() == 1


def test_one_expired_key_costs_its_owners_others_nothing(key: Any) -> None:
    (old, _), (_, token) = key("read"), key("read")
    assert api_keys.revoke_api_key(old)
    assert bearer(token).get("/task").status_code == 200
    assert ApiKey.objects.count() == 2


def test_each_scope_opens_its_own_door(key: Any) -> None:
    reader, writer = bearer(key("read")[1]), bearer(key("submit")[1])
    assert code(post(reader)) == (403, "forbidden")
    assert post(writer).status_code == 201
    assert code(writer.get("/task")) == (403, "forbidden")
    task = Task.objects.get()
    assert code(post(reader, f"/task/{task.pk}/cancel")) == (403, "forbidden")
    assert post(writer, f"/task/{task.pk}/cancel").json()["status"] == "canceled"


@pytest.mark.parametrize("path", PATHS[1:])
def test_somebody_elses_task_is_as_unknown_as_none(key: Any, make_task: MakeTask, path: str) -> None:
    theirs, _ = key("read")
    client = bearer(key("read", "submit")[1])
    for task in (make_task(), make_task(key_id=theirs.pk)):
        answer = client.get(path.format(id=task.pk))
        assert code(answer) == (404, "not_found")
    listed = client.get("/task").json()["results"]
    assert listed == []


def test_somebody_elses_task_is_canceled_with_the_scope_for_it_alone(key: Any, make_task: MakeTask) -> None:
    theirs, _ = key("read")
    task = make_task(key_id=theirs.pk)
    path = f"/task/{task.pk}/cancel"
    assert code(post(bearer(key("read", "submit")[1]), path)) == (404, "not_found")
    assert code(post(bearer(key("read", "read-any", "submit")[1]), path)) == (404, "not_found")
    assert post(bearer(key("submit", "cancel-any")[1]), path).json()["status"] == "canceled"


def test_read_any_reads_everybodys(key: Any, make_task: MakeTask) -> None:
    theirs, _ = key("read")
    made = {str(make_task().pk), str(make_task(key_id=theirs.pk).pk)}
    client = bearer(key("read", "read-any")[1])
    assert {task["id"] for task in client.get("/task").json()["results"]} == made
    assert all(client.get(f"/task/{task_id}").status_code == 200 for task_id in made)


def test_a_task_belongs_to_the_key_that_it_came_with(key: Any) -> None:
    row, token = key("read", "submit")
    client = bearer(token)
    made = post(client).json()["id"]
    assert Task.objects.get().key_id == row.pk
    assert [task["id"] for task in client.get("/task").json()["results"]] == [made]


class TestOptional:
    """A server that is open to whoever reaches it."""

    @pytest.fixture(autouse=True)
    def _optional(self, settings: Any) -> None:
        settings.API_AUTH = "optional"

    def test_nobody_in_particular_shares_what_came_without_a_key(self, key: Any, make_task: MakeTask) -> None:
        row, _ = key("read")
        make_task(key_id=row.pk)
        shared = post(Client()).json()["id"]
        assert [task["id"] for task in Client().get("/task").json()["results"]] == [shared]

    def test_a_key_sees_its_own_alone(self, key: Any, make_task: MakeTask) -> None:
        make_task()
        assert bearer(key("read")[1]).get("/task").json()["results"] == []

    def test_what_clients_send_for_want_of_a_key_is_none(self, db: None) -> None:
        assert bearer("sk-none").get("/task").status_code == 200

    def test_what_looks_like_a_key_must_be_one(self, db: None) -> None:
        assert code(bearer("dh_" + "0" * 64).get("/task")) == (401, "unauthorized")


class TestStaff:
    """Somebody who is signed in to the admin."""

    @pytest.fixture
    def signed_in(self, db: None) -> Callable[..., Client]:
        def login(*permissions: str, csrf: bool = False) -> Client:
            user = User.objects.create_user("-".join(permissions) or "nobody", is_staff=True)
            user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
            client = Client(enforce_csrf_checks=csrf)
            client.force_login(user)
            return client

        return login

    def test_reads_everybodys_with_the_permission_to_view(self, signed_in: Any, make_task: MakeTask) -> None:
        task = make_task()
        assert signed_in("view_task").get(f"/task/{task.pk}").status_code == 200
        assert code(signed_in().get(f"/task/{task.pk}")) == (403, "forbidden")

    def test_posts_and_cancels_with_the_permission_to_change(self, signed_in: Any, make_task: MakeTask) -> None:
        path = f"/task/{make_task().pk}/cancel"
        viewer, operator = signed_in("view_task"), signed_in("change_task")
        assert code(post(viewer)) == (403, "forbidden")
        assert code(post(viewer, path)) == (403, "forbidden")
        assert post(operator).status_code == 201
        assert post(operator, path).json()["status"] == "canceled"

    def test_changes_nothing_without_the_token_against_forgery(self, signed_in: Any) -> None:
        client = signed_in("change_task", csrf=True)
        assert code(post(client)) == (403, "forbidden")
        page = client.get("/")
        assert page.status_code == 200
        token = client.cookies["csrftoken"].value
        assert post(client, "/task", None, **{"X-CSRFToken": token}).status_code == 201

    def test_somebody_who_is_no_staff_is_nobody_in_particular(self, db: None) -> None:
        client = Client()
        client.force_login(User.objects.create_user("eve"))
        assert code(client.get("/task")) == (401, "unauthorized")


def test_the_page_is_for_those_who_sign_in(db: None) -> None:
    answer = Client().get("/")
    assert answer.status_code == 302
    assert answer["Location"] == "/admin/login/?next=/"


@pytest.fixture
def finished(key: Any, make_task: MakeTask) -> tuple[Task, Client]:
    row, token = key("read")
    task = make_task(key_id=row.pk, params={**PARAMS})
    ScriptedWorker(task).succeed_task()
    return task, bearer(token)


@pytest.mark.django_db(transaction=True)
def test_a_signed_address_needs_no_key(finished: tuple[Task, Client]) -> None:
    task, client = finished
    links = client.get(f"/task/{task.pk}/links").json()
    assert Client().get(links["images"][0]).content[:4] == b"\x89PNG"
    events = Client().get(links["events"])
    assert events.status_code == 200
    assert events["Content-Type"] == "text/event-stream"


def test_a_signature_opens_its_own_address_and_expires(finished: tuple[Task, Client], settings: Any) -> None:
    task, client = finished
    address = client.get(f"/task/{task.pk}/links").json()["images"][0]
    signature = address.partition("?")[2]
    assert code(Client().get(f"/task/{task.pk}?{signature}")) == (401, "unauthorized")
    assert code(Client().get(address + "x")) == (401, "unauthorized")
    assert code(Client().get(address.replace("signature=", "signature=%00"))) == (401, "unauthorized")
    settings.SIGNED_URL_SECONDS = -1
    assert code(Client().get(address)) == (401, "unauthorized")


def test_a_signature_lets_nobody_change_anything(finished: tuple[Task, Client]) -> None:
    task, client = finished
    signature = client.get(f"/task/{task.pk}/links").json()["events"].partition("?")[2]
    assert code(post(Client(), f"/task/{task.pk}/cancel?{signature}")) == (401, "unauthorized")
