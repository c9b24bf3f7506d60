"""`manage.py models`, but for real downloads: those are in test_commands.py."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction

from project.env import BASE_DIR
from tasks_app.catalog import rows as model_rows
from tasks_app.models import DiffusionModel
from tests.unit.catalog.test_inventory import HUB_ID, cache, local_file, local_folder

SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture
def models(settings: Any, tmp_path: Path) -> Path:
    """Return MODELS_DIR with a folder and a file on it; one model is in the Hub's cache."""
    settings.MODELS_DIR = tmp_path / "models"
    hub_cache = tmp_path / "hub"
    settings.PROVIDERS = {"diffusers": {**settings.PROVIDERS["diffusers"], "hub_cache": hub_cache}}
    local_folder(settings.MODELS_DIR, "mine")
    local_file(settings.MODELS_DIR, "one.safetensors", base="mine")
    cache(hub_cache)
    return Path(settings.MODELS_DIR)


def models_command(*arguments: str) -> list[str]:
    said = StringIO()
    call_command("models", *arguments, stdout=said)
    return said.getvalue().splitlines()


@pytest.mark.django_db
def test_a_model_is_fetched_before_the_first_migrate() -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE tasks_app_diffusionmodel RENAME TO elsewhere")
        said = models_command("pull", "demo")
        transaction.set_rollback(True)
    assert said == ["demo is here, at revision local."]


def test_the_list_has_what_lies_here_and_what_is_no_model(models: Path) -> None:
    (models / "old.ckpt").touch()
    assert models_command("list") == [
        "mine\tlocal\t18 bytes",
        "one\tlocal\t7 bytes",
        f"{HUB_ID}\t{'c' * 40}\t22 bytes",
        "old.ckpt\tnot a model: pickle files can run code, convert it to safetensors",
    ]


def test_what_is_recorded_is_verified_and_a_changed_file_fails_by_name(models: Path) -> None:
    assert "no checksums" in models_command("verify", "mine")[0]
    assert models_command("verify", "--record", "mine", "one") == ["mine: checksums saved.", "one: checksums saved."]
    assert models_command("verify") == [
        "mine local: 2 files, checksums OK.",
        "one local: 1 files, checksums OK.",
        f"{HUB_ID} {'c' * 40}: 2 files, checksums OK.",
    ]
    (models / "mine" / "unet.safetensors").write_bytes(b"others!")
    with pytest.raises(CommandError, match="checksums don't match"):
        models_command("verify", "mine")
    assert models_command("verify", "one") == ["one local: 1 files, checksums OK."]


def test_nothing_is_deleted_unless_somebody_says_yes(models: Path, tmp_path: Path) -> None:
    command = [sys.executable, "manage.py", "models", "remove", "one"]
    variables = {**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings", "MODELS_DIR": str(models)}

    def remove(answer: str) -> str:
        done = subprocess.run(command, cwd=BASE_DIR, env=variables, input=answer, capture_output=True, text=True)
        return done.stdout + done.stderr

    said = remove("no\n")
    assert "Delete one (7 bytes)?" in said
    assert "Nothing was deleted" in said
    assert (models / "one.safetensors").exists()
    assert "one removed." in remove("y\n")
    assert not (models / "one.safetensors").exists()


def test_a_base_outlives_what_is_built_on_it(models: Path) -> None:
    with pytest.raises(CommandError, match="one would lack its base"):
        models_command("remove", "mine", "--no-input")
    models_command("remove", "one", "--no-input")
    assert models_command("remove", "mine", "--no-input") == ["mine removed."]
    assert "downloads it again" in models_command("remove", HUB_ID, "--no-input")[1]
    assert models_command("list") == []


def test_a_broken_note_does_not_hold_up_the_others(models: Path) -> None:
    (models / "one.json").write_text(json.dumps({"base": 5}))
    with pytest.raises(CommandError, match=r"one\.json: must be"):
        models_command("remove", "mine", "--no-input")
    assert len(models_command("list")) == 3


@pytest.mark.parametrize("verb", ["verify", "remove"])
def test_a_model_that_is_not_here_is_named(models: Path, verb: str) -> None:
    with pytest.raises(CommandError, match="Model nobody is not installed"):
        models_command(verb, "nobody")


@pytest.mark.django_db
def test_the_default_is_told_and_chosen(django_assert_num_queries: Callable[..., Any]) -> None:
    model_rows.sync_rows()
    assert models_command("default") == ["runwayml/stable-diffusion-v1-5"]
    assert models_command("default", "demo") == ["demo"]
    assert models_command("default") == ["demo"]
    assert DiffusionModel.objects.get(is_default=True).model_id == "demo"
    with pytest.raises(CommandError, match="does not allow this model"):
        models_command("default", "somebody/else")
