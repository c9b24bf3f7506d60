"""What goes over the wire, and what of it is understood."""

import pytest
from diffusers_handler_client import ApiError, Client, Webhook

from tests.e2e.client.scripted import TASK, Answer, scripted, told


def test_key_preference_and_webhook_are_sent_as_the_service_documents_them() -> None:
    webhook = Webhook(url="https://example.org/hook", events=("succeeded",))
    with scripted(told(TASK, 201)) as (url, asked), Client(url, "secret") as client:
        client.submit("a house", webhook=webhook, wait=5)
        client.get("x")
    posted, read = asked
    assert posted.headers["Authorization"] == read.headers["Authorization"] == "Bearer secret"
    assert posted.headers["Prefer"] == "wait=5"
    assert posted.body["webhook"] == {"url": "https://example.org/hook", "events": ["succeeded"]}


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(told(TASK)) as (url, asked):
        monkeypatch.setenv("DIFFUSERS_HANDLER_URL", f"{url}/below/")
        monkeypatch.setenv("DIFFUSERS_HANDLER_KEY", "secret")
        with Client() as client:
            client.get("a/b")
    assert asked[0].path == "/below/task/a%2Fb"
    assert asked[0].headers["Authorization"] == "Bearer secret"


def test_a_picture_that_is_kept_elsewhere_is_fetched_without_the_key() -> None:
    picture = Answer(headers={"Content-Type": "image/png"}, body=b"picture")
    with scripted(picture) as (elsewhere, fetched):
        moved = Answer(status=302, headers={"Location": f"{elsewhere}/x.png?signature=1"})
        with scripted(moved) as (url, asked), Client(url, "secret") as client:
            assert client.image("x") == b"picture"
    assert asked[0].headers["Authorization"] == "Bearer secret"
    assert fetched[0].path == "/x.png?signature=1"
    assert "Authorization" not in fetched[0].headers


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (Answer(headers={"Content-Type": "text/html"}, body=b"<html>"), 200, "is not the service"),
        (Answer(status=301, headers={"Location": "https://example.org/"}), 301, "points to https://example.org/"),
        (Answer(status=404, headers={"Content-Type": "text/html"}, body=b"<html>"), 404, "answers with 404"),
        (told({"detail": "another service"}, 403), 403, "answers with 403"),
    ],
)
def test_an_answer_of_something_else_is_told_as_such(answer: Answer, status: int, words: str) -> None:
    with scripted(answer) as (url, _), Client(url) as client, pytest.raises(ApiError, match=words) as wrong:
        client.get("x")
    assert (wrong.value.code, wrong.value.status) == ("unexpected", status)


def test_the_next_page_is_read_from_the_address_that_was_given() -> None:
    pages = [
        told({"next": "http://elsewhere.example/task?cursor=abc%3D&limit=100", "results": [TASK]}),
        told({"next": None, "results": [TASK]}),
    ]
    with scripted(*pages) as (url, asked), Client(url) as client:
        assert len(list(client.list(status="queued"))) == 2
    assert [one.path for one in asked] == ["/task?limit=100&status=queued", "/task?cursor=abc%3D&limit=100"]
