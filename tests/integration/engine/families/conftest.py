"""Fixtures of each family's tiny model: saved once per session, loaded once for all of its tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_app.engine.diffusers.handler import PIPELINE_CACHE, DiffusersHandler
from tests.integration.engine.families.builders import BUILDERS, build


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def family(request: pytest.FixtureRequest, models: Path) -> str:
    """Return the name of a family, which is also the name of its model's folder."""
    name: str = request.param
    if not (models / name).exists():
        build(name).save_pretrained(models / name)
    return name


@pytest.fixture(scope="module")
def handler(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiffusersHandler]:
    """Return an engine that makes a preview at every step."""
    hub = tmp_path_factory.mktemp("hub")
    yield DiffusersHandler(models_dir=models, hub_cache=hub, device="cpu", offline=True, preview_every=1)
    PIPELINE_CACHE.clear()
