"""The examples of both READMEs, run as they stand against web server, worker and the demo model."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support import stack as stacks
from tests.support.stack import ROOT, Stack

pytestmark = pytest.mark.django_db(transaction=True)
ADDRESS = "http://127.0.0.1:8000"
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
FIRST, ASYNCHRONOUS = EXAMPLE.findall((ROOT / "client" / "README.md").read_text())
SHORT, OTHERS = EXAMPLE.findall((ROOT / "README.md").read_text())


@pytest.fixture(scope="module")
def stack(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run the parts for all tests of this module."""
    with django_db_blocker.unblock():
        environment = stacks.build_environment(DEFAULT_MODEL_ID="demo")  # as in the quickstart
    with stacks.run_stack(tmp_path_factory.mktemp("logs"), environment) as running:
        yield running


def run(stack: Stack, code: str, folder: Path) -> list[str]:
    """Run an example and return the lines that it prints."""
    assert ADDRESS in code
    port = f"port={stack.api.base_url.port}"
    code = code.replace(ADDRESS, str(stack.api.base_url)).replace("port=8000", port)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_first_example_shows_progress_saves_pictures_and_names_bad_fields(stack: Stack, tmp_path: Path) -> None:
    lines = run(stack, FIRST, tmp_path)
    pictures = sorted((tmp_path / "images").iterdir())
    assert len(pictures) == 2
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size == (64, 64)
        assert str(picture.relative_to(tmp_path)) in lines
    assert "denoising 100 %" in lines
    assert {line.partition(" ")[0] for line in lines[-2:]} == {"params.prompt", "params.steps"}


def test_the_asynchronous_example_makes_both_pictures(stack: Stack, tmp_path: Path) -> None:
    lines = run(stack, ASYNCHRONOUS, tmp_path)
    assert [line.partition(" ")[0] for line in lines] == ["succeeded", "succeeded"]
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_the_short_example_saves_its_picture(stack: Stack, tmp_path: Path) -> None:
    (line,) = run(stack, SHORT, tmp_path)
    (picture,) = (tmp_path / "pictures").iterdir()
    assert picture.name in line


def test_the_example_of_other_clients_makes_pictures_by_their_means(stack: Stack, tmp_path: Path) -> None:
    (url,) = run(stack, OTHERS, tmp_path)
    assert stack.api.get(url).headers["Content-Type"] == "image/png"
    with Image.open(tmp_path / "beach.png") as image:
        assert image.size == (64, 64)
