"""The table of docs/reference/api.md: every endpoint has a row, and every row's command does what the row says."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.urls import resolve

from project.env import BASE_DIR
from tasks_app.access import api_keys
from tasks_app.api import urls
from tasks_app.models import Scope
from tests.support import stack as stacks
from tests.support.openapi import check_event, check_response, find_url_names, list_operations
from tests.support.stack import Stack

ROW = re.compile(r"^\| `([A-Z]+) (/\S*)` \| `(.+)` \| (\d{3}) \| .+ \|$", re.MULTILINE)
# Each command of a row is one curl; what it was answered is kept beside what it prints.
CURL = 'curl() { command curl --dump-header "$KEPT.headers" "$@"; }\nset -u\n'


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    method: str
    path: str
    command: str
    status: int


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What the server answered to a row's command."""

    status_code: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def rows() -> list[Row]:
    found = ROW.findall((BASE_DIR / "docs" / "reference" / "api.md").read_text())
    return [
        Row(method=method, path=path, command=command.replace(r"\|", "|"), status=int(status))
        for method, path, command, status in found
    ]


def run(rows: list[Row], folder: Path, **variables: str) -> list[Kept]:
    """Run all commands in one shell, as somebody would who copies one after the other."""
    lines = [f"KEPT={folder}/{number}; {{ {row.command}; }} >$KEPT.body" for number, row in enumerate(rows)]
    done = subprocess.run(
        ["bash", "-c", CURL + "\n".join(lines)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "AUTH": f"Authorization: Bearer {variables['KEY']}", **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [kept(folder / str(number)) for number in range(len(rows))]


def kept(base: Path) -> Kept:
    status, *lines = base.with_suffix(".headers").read_text().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return Kept(status_code=int(status.split()[1]), headers=headers, body=base.with_suffix(".body").read_bytes())


@pytest.fixture(scope="module")
def stack(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with django_db_blocker.unblock():
        environment = stacks.build_environment(API_AUTH="required")
    with stacks.run_stack(tmp_path_factory.mktemp("logs"), environment) as running:
        yield running


def described(path: str) -> str:
    """Return a path of the table as the schema has it."""
    return path.replace("/upload/{id}", "/upload/{upload_id}").replace("{id}", "{task_id}")


def test_every_url_has_a_row() -> None:
    names = {resolve(row.path.format(id=uuid4(), index=0, name="demo", what="upscalers")).url_name for row in rows()}
    assert names == find_url_names(urls.urlpatterns)


def test_every_operation_has_a_row() -> None:
    assert set(list_operations()) <= {f"{row.method} {described(row.path)}" for row in rows()}


def test_every_command_is_answered_as_its_row_says(stack: Stack, transactional_db: None, tmp_path: Path) -> None:
    user = User.objects.create_user("reader")
    _, token = api_keys.create_api_key(user=user, name="docs", scopes=[Scope.READ, Scope.SUBMIT, Scope.MODELS])
    table = rows()
    answers = run(table, tmp_path, URL=str(stack.api.base_url), KEY=token)
    told = {f"{row.method} {row.path}": answer.status_code for row, answer in zip(table, answers, strict=True)}
    assert told == {f"{row.method} {row.path}": row.status for row in table}
    for row, answer in zip(table, answers, strict=True):
        check(row, answer)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "begin.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "small.webp").read_bytes()[8:12] == b"WEBP"


def check(row: Row, answer: Kept) -> None:
    path = described(row.path)
    if answer.headers["content-type"] == "text/event-stream":
        events = re.findall(r"^event: (\w+)\ndata: (.+)$", answer.body.decode(), re.MULTILINE)
        assert events[-1][0] == "done"
        for name, data in events:
            check_event(name, json.loads(data))
    elif f"{row.method} {path}" in list_operations() and answer.body:
        check_response(row.method, path, answer)
