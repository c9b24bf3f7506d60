"""Pictures in the storage."""

import errno
import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from PIL import Image

from tasks_app.contracts import Claim
from tasks_app.engine.types import GeneratedImage
from tasks_app.errors import InvalidImageError, StorageError
from tasks_app.images import metadata, storage
from tests.support.acting import RECIPE, store_images


def picture(number: int = 0) -> GeneratedImage:
    return GeneratedImage(seed=number, image=Image.new("RGB", (40, 24), (number, 1, 2)))


def test_a_picture_is_stored_as_png_with_its_facts() -> None:
    claim = Claim(task_id=uuid4(), attempt=3)
    (stored,) = store_images(claim, [picture(5)])
    assert stored.name == f"tasks/{claim.task_id}/3-0.png"
    with default_storage.open(stored.name) as file:
        content = file.read()
    assert hashlib.sha256(content).hexdigest() == stored.sha256
    assert (stored.width, stored.height, stored.seed, stored.content_type) == (40, 24, 5, "image/png")
    with default_storage.open(stored.name) as file, Image.open(file) as image:
        assert (image.format, image.size, image.getpixel((0, 0))) == ("PNG", (40, 24), (5, 1, 2))


@pytest.mark.parametrize(
    ("output_format", "suffix", "content_type"),
    [("png", "png", "image/png"), ("jpeg", "jpg", "image/jpeg"), ("webp", "webp", "image/webp")],
)
def test_a_format_has_its_suffix_and_type(output_format: str, suffix: str, content_type: str) -> None:
    recipe = replace(RECIPE, params={**RECIPE.params, "output_format": output_format})
    (stored,) = store_images(Claim(task_id=uuid4(), attempt=1), [picture()], recipe)
    assert (Path(stored.name).suffix, stored.content_type) == (f".{suffix}", content_type)
    content = storage.read_file(stored.name)
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == output_format.upper()
    found = metadata.read_metadata(content)
    assert (found.params["prompt"], found.params["seed"]) == ("a house", stored.seed)


def test_each_stored_picture_is_told_so_that_the_lease_can_be_renewed() -> None:
    told: list[int] = []
    claim = Claim(task_id=uuid4(), attempt=1)
    storage.store_images(claim, [picture(), picture()], RECIPE, stored_one=lambda: told.append(1))
    assert len(told) == 2


def test_what_can_t_be_discarded_is_left() -> None:
    (stored,) = store_images(Claim(task_id=uuid4(), attempt=1), [picture()])
    path = Path(default_storage.path(stored.name))
    path.unlink()
    (path / "in the way").mkdir(parents=True)
    storage.discard_images([stored])
    with pytest.raises(StorageError):
        storage.delete_files([stored.name])


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_a_damaged_file_has_no_thumbnail(output_format: str) -> None:
    recipe = replace(RECIPE, params={**RECIPE.params, "output_format": output_format})
    (stored,) = store_images(Claim(task_id=uuid4(), attempt=1), [noise()], recipe)
    content = storage.read_file(stored.name)
    assert storage.build_thumbnail(content)
    for damaged in (b"", content[:20], content[: len(content) // 2], content[:-30]):
        with pytest.raises(InvalidImageError, match="damaged"):
            storage.build_thumbnail(damaged)


def noise() -> GeneratedImage:
    return GeneratedImage(seed=1, image=Image.effect_noise((64, 64), 60).convert("RGB"))


def test_two_attempts_never_share_a_file() -> None:
    task_id = uuid4()
    names = {
        image.name
        for attempt in (1, 2)
        for image in store_images(Claim(task_id=task_id, attempt=attempt), [picture(), picture()])
    }
    assert len(names) == 4


def test_discarded_pictures_are_gone() -> None:
    stored = store_images(Claim(task_id=uuid4(), attempt=1), [picture()])
    storage.discard_images(stored)
    assert not default_storage.exists(stored[0].name)


def test_a_file_is_whole_or_not_there(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path

    class BreaksOff(ContentFile):  # type: ignore[type-arg]
        def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
            yield b"half a pict"
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        default_storage.save("tasks/x/1-0.png", BreaksOff(b"half a picture"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_when_the_storage_refuses_one_none_stays(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path
    claim = Claim(task_id=uuid4(), attempt=1)
    broken = GeneratedImage(seed=1, image=Image.new("F", (8, 8)))  # PNG has no such mode
    with pytest.raises(StorageError):
        store_images(claim, [picture(), broken])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
