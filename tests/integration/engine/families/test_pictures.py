"""Every family takes an input image, with and without a mask, exactly as docs/reference/models.md says."""

import re
from pathlib import Path
from typing import Any

import pytest

from project.env import BASE_DIR
from tasks_app.engine.diffusers.capabilities import supports_image_input
from tasks_app.engine.diffusers.handler import DiffusersHandler
from tasks_app.engine.types import GeneratedImage, Progress
from tasks_app.errors import InvalidParamsError
from tests.integration.engine.families.builders import BUILDERS
from tests.integration.engine.families.test_families import ALIKE, psnr
from tests.integration.engine.test_image_inputs import SIDE, mask, picture, request

ROW = re.compile(r"^\| `(image-to-image|inpainting)` \| (.+) \|$", re.MULTILINE)
CAN = {
    name: set(re.findall(r"`([^`]+)`", families))
    for name, families in ROW.findall((BASE_DIR / "docs/reference/models.md").read_text())
}
KINDS: dict[str, dict[str, Any]] = {"image-to-image": {}, "inpainting": {"mask": mask()}}
# diffusers inpaints with 16 channels of Stable Diffusion 3 only, and the tiny one has fewer.
UNTRIED = {("inpainting", "sd3")}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers' use of numpy


def draw(handler: DiffusersHandler, family: str, **more: Any) -> tuple[GeneratedImage, ...]:
    (result,) = handler.run([request(family, steps=5, strength=0.6, **more)], lambda progress: None)
    return result.images


def test_the_docs_name_families_that_there_are() -> None:
    assert CAN.keys() == KINDS.keys()
    assert BUILDERS.keys() >= CAN["image-to-image"] > CAN["inpainting"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_as_the_docs_say_or_says_that_it_can_not(
    handler: DiffusersHandler, models: Path, family: str, kind: str
) -> None:
    if (kind, family) in UNTRIED:
        pytest.skip("diffusers has no such tiny pipeline")
    assert supports_image_input(models / family, masked=kind == "inpainting") is (family in CAN[kind])
    if family not in CAN[kind]:
        with pytest.raises(InvalidParamsError):
            draw(handler, family, **KINDS[kind])
        return
    reports: list[Progress] = []
    handler.run([request(family, steps=5, strength=0.6, **KINDS[kind])], reports.append)
    steps = [(report.step, report.total_steps) for report in reports if report.phase == "denoising" and report.step]
    total = 5 if family == "lcm" else 3
    assert steps == [(step, total) for step in range(1, total + 1)]
    first, second = draw(handler, family, num_images=2, seed=8, **KINDS[kind])
    assert first.image.size == (SIDE, SIDE)
    (alone,) = draw(handler, family, seed=9, **KINDS[kind])
    assert psnr(second.image, alone.image) >= ALIKE
    assert psnr(second.image, first.image) < psnr(second.image, alone.image)
    if kind == "inpainting":
        left = (0, 0, SIDE // 2, SIDE)
        assert second.image.crop(left).tobytes() == picture().crop(left).tobytes()
