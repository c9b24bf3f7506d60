"""The requests that break servers, one by one: which status, and which path."""

import json
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

import pytest

from tasks_app.models import Task
from tests.fuzz.checks import Case, Target
from tests.fuzz.requests import ENCODED, VALID, nested_json
from tests.fuzz.values import FAMILY, ZALGO

LONG = "9" * 5000


def body(field: str, value: str, before: str = '"prompt":"x",') -> bytes:
    """Return a body with one parameter more, whose value is written as it is."""
    return f'{{"task_type":"text-to-image","params":{{{before}{json.dumps(field)}:{value}}}}}'.encode()


BODIES: list[tuple[str, bytes, int, set[str]]] = [
    ("no body", b"", 400, {"task_type", "params"}),
    ("a NUL", b"\0", 400, {""}),
    ("not UTF-8", b"\xff\xfe", 400, {""}),
    ("UTF-16", VALID.decode().encode("utf-16"), 400, {""}),
    ("a byte order mark", b"\xef\xbb\xbf" + VALID, 400, {""}),
    ("two documents", VALID + VALID, 400, {""}),
    ("cut short", VALID[:-1], 400, {""}),
    ("a list", b"[]", 400, {""}),
    ("null", b"null", 400, {""}),
    ("100,000 lists", b"[" * 100_000, 400, {""}),
    ("100,000 closed lists", nested_json(100_000, "whole lists"), 400, {""}),
    ("40,000 objects as a prompt", nested_json(40_000, "field objects"), 400, {""}),
    ("990 lists as a prompt", nested_json(900, "field lists"), 400, {"params.prompt"}),
    ("256 KiB and a byte", b" " * (256 * 1024 - len(VALID) + 1) + VALID, 413, set()),
    ("10 MB", b"x" * 10_000_000, 413, set()),
    ("a key twice", b'{"task_type":"text-to-image",' + VALID[1:], 400, {""}),
    ("a parameter twice", body("prompt", '"y"'), 400, {""}),
    ("NaN", body("guidance_scale", "NaN"), 400, {""}),
    ("Infinity", body("guidance_scale", "-Infinity"), 400, {""}),
    ("1e999", body("guidance_scale", "1e999"), 400, {"params.guidance_scale"}),
    ("1e999 steps", body("steps", "1e999"), 400, {"params.steps"}),
    ("10**400", body("guidance_scale", "1" + "0" * 400), 400, {"params.guidance_scale"}),
    ("more digits than Python reads", body("seed", LONG), 400, {""}),
    ("a Boolean for an integer", body("steps", "true"), 400, {"params.steps"}),
    ("a whole float for an integer", body("steps", "25.0"), 400, {"params.steps"}),
    ("text for an integer", body("steps", '"25"'), 400, {"params.steps"}),
    ("a negative seed", body("seed", "-1"), 400, {"params.seed"}),
    ("a seed of 33 bits", body("seed", str(2**32)), 400, {"params.seed"}),
    ("10**18 pixels", body("width", '1000000000,"height":1000000000'), 400, {"params.width", "params.height"}),
    ("a width alone", body("width", "512"), 400, {"params.height"}),
    ("a lone surrogate", body("negative_prompt", '"\\ud800"'), 400, {"params.negative_prompt"}),
    ("an escaped NUL", body("negative_prompt", '"a\\u0000b"'), 400, {"params.negative_prompt"}),
    ("a surrogate as a name", body("\ud800", "1"), 400, {"params.\\ud800"}),
    ("a surrogate as a type", VALID.replace(b"text-to-image", b"\\udfff"), 400, {"task_type"}),
    ("4,001 characters", body("prompt", json.dumps("x" * 4001), before=""), 400, {"params.prompt"}),
    ("a path as a model", body("model_id", '"../../../etc/passwd"'), 400, {"params.model_id"}),
    ("a path within an allowed pattern", body("model_id", '"stabilityai/../demo"'), 400, {"params.model_id"}),
    ("a URL as a model", body("model_id", '"https://example.org/m"'), 400, {"params.model_id"}),
    ("a file's URL as a model", body("model_id", '"file:///etc/passwd"'), 400, {"params.model_id"}),
    ("a pattern as a model", body("model_id", '"stabilityai/*"'), 400, {"params.model_id"}),
    ("a model in full width", body("model_id", '"ｄｅｍｏ"'), 400, {"params.model_id"}),
    ("an unknown name with dots", body("..", "1"), 400, {"params..."}),
    ("DRF's own name", body("non_field_errors", "1"), 400, {"params.non_field_errors"}),
    ("no name", body("", "1"), 400, {"params"}),
]


@pytest.mark.parametrize(("content", "status", "paths"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_a_killing_body_is_refused_by_its_path(target: Target, content: bytes, status: int, paths: set[str]) -> None:
    answer = target.send_case(Case(content=content, status=status, bad=frozenset(paths) if status == 400 else None))
    assert {one["path"] for one in answer.json()["error"].get("fields", [])} == paths


PROMPTS = [
    "\ufdfa" * 4000,
    "a" + "\u0301" * 3999,
    ZALGO,
    FAMILY * 300,
    "\U0010ffff" * 4000,
    "\u202e\ufeff\uffff",
    " ",
    "\x01",
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda text: f"{len(text)} of {text[:2]!a}")
@pytest.mark.parametrize("escaped", [True, False])
def test_a_text_that_only_looks_dangerous_is_kept_to_the_letter(target: Target, prompt: str, escaped: bool) -> None:
    sent: dict[str, Any] = {"task_type": "text-to-image", "params": {"prompt": prompt, "negative_prompt": prompt}}
    content = json.dumps(sent, ensure_ascii=escaped).encode()
    task = target.send_case(Case(content=content, sent=sent, status=201)).json()
    assert Task.objects.get(pk=task["id"]).params["prompt"] == prompt


def cursor(position: str) -> str:
    return "/task?" + urlencode({"cursor": b64encode(urlencode({"p": position}).encode()).decode()})


JSON = {"content-type": "application/json"}
OTHERS: list[tuple[str, str, dict[str, str], int]] = [
    ("GET", cursor("9999-12-31T23:59:59-23:59"), {}, 404),
    ("GET", cursor("0001-01-01T00:00:00+23:59"), {}, 404),
    ("GET", cursor("\0"), {}, 404),
    ("GET", "/task?cursor=%C3%A9", {}, 404),
    ("GET", f"/task?limit={LONG}", {}, 400),
    ("GET", "/task?limit=-1", {}, 400),
    ("GET", "/task?status=%00", {}, 400),
    ("GET", "/task?model_id=%00", {}, 400),
    ("GET", "/task?model_id=%ED%A0%80", {}, 200),
    ("GET", "/task?" + "a=1&" * 1500, {}, 400),
    ("GET", "/task?format=xml", {}, 404),
    ("GET", "/task", {"accept": "text/html"}, 406),
    ("POST", "/task", {**JSON, "accept": "image/png"}, 406),
    ("POST", "/task", {"content-type": "application/x-www-form-urlencoded"}, 415),
    ("POST", "/task", {"content-type": "application/json; charset=hex"}, 201),
    ("GET", "/task", {"host": "example.org"}, 400),
    ("GET", "/task/%00", {}, 404),
    ("GET", "/task/not-an-id/images/0", {}, 404),
    ("GET", "/%FF", {}, 404),
    ("GET", "/static/%2e%2e/%2e%2e/etc/passwd", {}, 404),
    ("DELETE", "/task", {}, 405),
    ("FOO", "/task", {}, 405),
    ("POST", "/healthz", {}, 405),
    ("PUT", "/readyz", {}, 405),
]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"), OTHERS, ids=[f"{row[0]} {row[1][:40]} {row[2]}" for row in OTHERS]
)
def test_an_odd_request_has_its_status(
    target: Target, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    content = VALID if method == "POST" else None
    target.send_case(Case(method=method, path=path, headers=headers, content=content, status=status))


@pytest.mark.parametrize("parameter", ENCODED[:4] + ENCODED[6:7], ids=lambda text: text[:20])
@pytest.mark.parametrize(("method", "path"), [("POST", "/task"), ("GET", "/task"), ("GET", "/healthz")])
def test_a_content_type_that_cannot_be_read_is_a_bad_request(
    target: Target, method: str, path: str, parameter: str
) -> None:
    headers = {"content-type": f"application/json; {parameter}"}
    content = VALID if method == "POST" else None
    answer = target.send_case(Case(method=method, path=path, headers=headers, content=content, status=400))
    assert answer.json()["error"]["code"] == "bad_request"


@pytest.mark.parametrize(("name", "value", "status"), [("if-match", '"cd"', 412), ("if-none-match", '"ab"', 304)])
def test_a_pictures_conditions_are_kept(target: Target, tasks: list[Task], name: str, value: str, status: int) -> None:
    (drawn,) = (task.pk for task in tasks if task.images.exists())
    target.send_case(Case(method="GET", path=f"/task/{drawn}/images/0", headers={name: value}, status=status))
