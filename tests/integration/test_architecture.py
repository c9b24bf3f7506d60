"""What holds for the house as a whole."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import stack as stacks

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "diffusers", "transformers", "accelerate", "safetensors"}

# Resolves every URL of the web, and answers the pages that people open.
WEB = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.support.settings"
import project.asgi
from django.test import Client
from django.urls import get_resolver

def resolve(resolver):
    for pattern in resolver.url_patterns:
        resolve(pattern) if hasattr(pattern, "url_patterns") else pattern.callback

resolve(get_resolver())
from django.core.management import call_command
call_command("check")
from django.contrib import admin
from django.contrib.auth.models import User
from django.test.utils import setup_test_environment
setup_test_environment()
client = Client()
statuses = {client.get(path).status_code for path in ("/", "/healthz", "/admin/login/", "/schema/", "/docs/")}
assert statuses == {200}, statuses
assert client.get("/task/unknown").status_code == 404
from django.template.loader import get_template
from django.apps import apps
print(",".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": ".", **variables}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)


def test_the_web_never_loads_torch(db: None) -> None:
    done = run(sys.executable, "-c", WEB, **stacks.build_environment())
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.strip().splitlines()[-1].split(","))
    assert {"django", "rest_framework", "unfold", "tasks_app"} <= modules
    assert not modules & HEAVY
    assert "sentry_sdk" not in modules, "SENTRY_DSN is unset"


# What a worker imports first when it has a task for diffusers.
ENGINE = """
import sys
import tasks_app.engine.diffusers.handler
from diffusers.utils import constants
print("django" in sys.modules, "torch" in sys.modules, constants.DIFFUSERS_DISABLE_REMOTE_CODE)
"""


def test_the_handlers_never_load_django_nor_code_that_a_model_brings() -> None:
    done = run(sys.executable, "-c", ENGINE)
    assert done.stdout.split()[-3:] == ["False", "True", "True"], done.stderr


def test_imports_point_down() -> None:
    done = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert done.returncode == 0, done.stdout


def test_no_migration_is_missing() -> None:
    done = run(sys.executable, "manage.py", "makemigrations", "--check", "--dry-run")
    assert done.returncode == 0, done.stdout


# The contract that each line breaks, in the module that it is added to.
BREACHES = {
    "Layers": ("queue/lifecycle", "from tasks_app import services"),
    "The engine knows nothing of Django": ("engine/model_files", "import django"),
    "Engines are reached through dotted paths": ("worker/engines", "import tasks_app.engine.diffusers.handler"),
    "Only lifecycle writes status": ("services", "from tasks_app.queue import sql"),
    "Only the engine imports torch": ("checks", "import torch"),
}


@pytest.mark.parametrize("contract", BREACHES)
def test_each_contract_can_be_broken(tmp_path: Path, contract: str) -> None:
    for folder in ("project", "tasks_app"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    module, line = BREACHES[contract]
    with (tmp_path / "tasks_app" / f"{module}.py").open("a") as file:
        file.write(f"\n{line}\n")
    lint = str(Path(sys.executable).with_name("lint-imports"))
    done = subprocess.run(
        [lint, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout
