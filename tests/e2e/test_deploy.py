"""What is in deploy/, linted and compared with what it leans on; nginx runs for real, containers can't here."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from shutil import which
from typing import Any

import httpx2
import pytest
import yaml
from django.conf import settings

from project.env import Env
from tasks_app.models import Task
from tests.chaos.processes import Child
from tests.integration.test_architecture import HEAVY, WEB, run
from tests.support import stack as stacks
from tests.support.acting import ScriptedWorker
from tests.support.stack import ROOT, free_port, wait_until

DEPLOY = ROOT / "deploy"
COMPOSE = {path.name: yaml.safe_load(path.read_text()) for path in DEPLOY.glob("compose*.yaml")}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
NGINX = which("nginx") or which("/usr/sbin/nginx")
VARIABLE = re.compile(r"\$\{([A-Z_]+)")


def tool(name: str, *arguments: str) -> None:
    done = subprocess.run([Path(sys.executable).with_name(name), *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text.removesuffix("s"))


def names(example: Path) -> set[str]:
    return {line.partition("=")[0] for line in example.read_text().splitlines() if line and not line.startswith("#")}


def test_the_dockerfile_has_no_faults_that_hadolint_knows() -> None:
    tool("hadolint", "deploy/Dockerfile")


def test_the_compose_files_are_of_compose_s_schema() -> None:
    files = [f"deploy/{name}" for name in COMPOSE]
    assert len(files) == 2
    tool("check-jsonschema", "--builtin-schema=vendor.compose-spec", *files)


def test_the_proxys_configuration_has_no_faults_that_gixy_knows() -> None:
    # Streams are what buffering has to be off for.
    tool("gixy", "--skips=proxy_buffering_off", "deploy/nginx.conf")


def test_what_is_copied_is_there_and_not_kept_out_of_the_build() -> None:
    lines = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    copied = {name for line in lines for name in line}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert let_in == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_files_agree_on_targets_names_and_times() -> None:
    targets = set(re.findall(r"AS (\w+)$", DOCKERFILE, re.MULTILINE))
    drain = Env.model_fields["SHUTDOWN_GRACE_SECONDS"].default
    for compose in COMPOSE.values():
        for name, service in compose["services"].items():
            if "build" in service:
                assert service["build"]["target"] in targets
                assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
            if name == "worker":
                assert seconds(service["stop_grace_period"]) > drain
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
            assert ("ports" in service) == (name == "web")


def test_every_variable_is_one_that_somebody_reads() -> None:
    known = Env.model_fields.keys() | {"POSTGRES_PASSWORD", "WEB_PORT"}
    asked = {name for path in DEPLOY.glob("compose*.yaml") for name in VARIABLE.findall(path.read_text())}
    assert names(DEPLOY / ".env.example") <= known
    assert asked <= known
    given = {
        name for service in COMPOSE["compose.yaml"]["services"].values() for name in service.get("environment", {})
    }
    assert given - {"POSTGRES_USER", "POSTGRES_DB", "FORWARDED_ALLOW_IPS"} <= known
    baked = set(re.findall(r"^(?:ENV|   ) ([A-Z_]+)=", DOCKERFILE, re.MULTILINE))
    python = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
    assert baked - python - {"UV_COMPILE_BYTECODE"} <= Env.model_fields.keys()
    assert not baked & {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"}


def test_the_web_works_with_the_packages_of_its_image_which_are_none_of_the_heavy_ones(
    db: None, tmp_path: Path
) -> None:
    (sync,) = re.findall(r"AS web-packages$.*?^ +(uv sync [^\n]*)$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(tmp_path / ".venv")}
    done = subprocess.run(sync.split(), cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    packages = {folder.name for folder in tmp_path.glob(".venv/lib/*/site-packages/*")}
    assert {"django", "diffusers_handler_client"} <= packages
    assert not packages & HEAVY
    done = run(str(tmp_path / ".venv" / "bin" / "python"), "-c", WEB, **stacks.build_environment())
    assert done.returncode == 0, done.stderr


# --- nginx, with its addresses, certificate and folder replaced by ones that are here


def placed(folder: Path, port: int, web: int) -> str:
    """Return the configuration as it could stand on this machine."""
    text = (DEPLOY / "nginx.conf").read_text()
    key, certificate = folder / "key.pem", folder / "cert.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    changes = {
        "127.0.0.1:8000": f"127.0.0.1:{web}",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "listen [::]:80;": "",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen [::]:443 ssl;": "",
        "/etc/nginx/tls/fullchain.pem": str(certificate),
        "/etc/nginx/tls/privkey.pem": str(key),
        "/srv/diffusers-handler/media/": f"{settings.MEDIA_ROOT}/",
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
        events {{}}
        http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
        fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
        default_type application/octet-stream;
        {text} }}"""


@pytest.fixture(scope="module")
def proxied(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """Run a web server behind nginx, and return a client of the latter."""
    if NGINX is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    with django_db_blocker.unblock():
        environment = stacks.build_environment(X_ACCEL_LOCATION="/_pictures/")
    with stacks.run_web(folder, environment) as (web, _):
        conf = folder / "nginx.conf"
        conf.write_text(placed(folder, port, int(web.base_url.port or 0)))
        subprocess.run([NGINX, "-t", "-c", str(conf)], check=True, capture_output=True)
        with (folder / "nginx.log").open("wb") as output:
            nginx = Child([NGINX, "-c", str(conf)], env=environment, cwd=ROOT, output=output)
        try:
            with httpx2.Client(base_url=f"https://127.0.0.1:{port}", verify=False, timeout=10) as api:
                wait_until(lambda: answers(api), bool)
                yield api
        finally:
            nginx.stop()


def answers(api: httpx2.Client) -> bool:
    try:
        return api.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.django_db(transaction=True)
def test_pictures_come_from_nginx_once_the_service_has_said_which(
    proxied: httpx2.Client, make_task: Callable[..., Task]
) -> None:
    task = make_task()
    ScriptedWorker(task).succeed_task()
    image = task.images.get()
    content = (Path(settings.MEDIA_ROOT) / str(image.file.name)).read_bytes()
    url = f"/task/{task.pk}/images/0"
    answer = proxied.get(url)
    assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (200, "image/png", content)
    assert "immutable" in answer.headers["Cache-Control"]
    part = proxied.get(url, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    assert (
        proxied.get(f"/task/{task.pk}/images/0", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    )
    assert proxied.get(f"/_pictures/{image.file.name}").status_code == 404
    assert proxied.get(f"/task/{task.pk}/images/1").json()["error"]["code"] == "not_found"


@pytest.mark.django_db(transaction=True)
def test_events_pass_nginx_one_by_one(proxied: httpx2.Client, make_task: Callable[..., Task]) -> None:
    def is_step(step: int, event: httpx2.ServerSentEvent) -> bool:
        data: Any = event.json() if event.data else {}
        return bool(data.get("step") == step)

    worker = ScriptedWorker(task := make_task())
    with proxied.sse(f"/task/{task.pk}/events") as stream:
        events = iter(stream)
        wait_until(lambda: next(events), lambda event: event.event == "status")
        for step in (1, 2):
            worker.publish_step(step)
            wait_until(lambda: next(events), partial(is_step, step))


@pytest.mark.django_db(transaction=True)
def test_the_service_knows_what_the_browser_spoke_and_refuses_large_bodies_itself(
    proxied: httpx2.Client, make_task: Callable[..., Task]
) -> None:
    task = proxied.get(f"/task/{make_task().pk}").json()
    assert task["urls"]["self"].startswith("https://")
    refused = proxied.post("/task", content=b"x" * 300_000, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
    huge = proxied.post("/task", content=b"x" * 2_000_000, headers={"Content-Type": "application/json"})
    assert (huge.status_code, huge.headers["Content-Type"]) == (413, "text/html")
