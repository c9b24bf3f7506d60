"""Tasks that are run again: how their pictures and their provenance compare with the first ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image
from safetensors.torch import load_file, save_file

from tasks_app import services
from tasks_app.access import permissions
from tasks_app.contracts import Claim
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE
from tasks_app.errors import NotReproducibleError
from tasks_app.images import comparison, storage
from tasks_app.models import Status, Task, TaskImage
from tasks_app.queue import lifecycle
from tasks_app.worker import engines, supervisor
from tests.support import tiny

MakeTask = Callable[..., Task]
KEY = "0" * 32


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Iterator[Path]:
    """Serve a tiny pipeline as the model `demo`."""
    folder = tiny.save_sd(tmp_path / "demo")
    settings.PROVIDERS = {"diffusers": {"models_dir": tmp_path, "hub_cache": tmp_path, "device": "cpu"}}
    monkeypatch.setattr(engines, "_handlers", {})
    PIPELINE_CACHE.clear()
    yield folder
    PIPELINE_CACHE.clear()  # others have a model of that name, too


def change_weights(model: Path) -> None:
    """Have the model draw everything inverted from the next load on."""
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["decoder.conv_out.weight"] = -weights["decoder.conv_out.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    PIPELINE_CACHE.clear()


def run() -> None:
    while supervisor.run_once():
        pass


def again(first: Task) -> Task:
    """Reproduce a task, and return the new one as it is at its end."""
    first.refresh_from_db()
    new, _ = services.reproduce_task(first, caller=permissions.ANONYMOUS)
    run()
    new.refresh_from_db()
    assert new.status == Status.SUCCEEDED
    return new


def comparison_of(task: Task) -> dict[str, Any]:
    """Return what a reproduction's comparison found; there must be one."""
    assert task.reproduction is not None
    found: dict[str, Any] = task.reproduction
    return found


def verdicts(task: Task) -> list[tuple[str, bool]]:
    return [(image["verdict"], image["identical_file"]) for image in comparison_of(task)["images"]]


def filled(*color: int, size: tuple[int, int] = (8, 4)) -> Image.Image:
    return Image.new("RGB", size, color)


def test_the_psnr_is_that_of_the_mean_square_over_pixels_and_channels() -> None:
    black = filled(0, 0, 0)
    assert comparison.compute_psnr(black, filled(255, 255, 255)) == pytest.approx(0)
    assert comparison.compute_psnr(black, filled(1, 1, 1)) == pytest.approx(48.1308, abs=1e-4)
    assert comparison.compute_psnr(black, filled(3, 0, 0)) == pytest.approx(43.3596, abs=1e-4)
    assert comparison.compute_psnr(black, black) == float("inf")


@pytest.mark.parametrize(
    ("other", "verdict", "decibels"),
    [
        (filled(0, 0, 0), "identical", None),
        (filled(2, 2, 2), "near", 42.11),
        (filled(3, 3, 3), "different", 38.59),
        (filled(0, 0, 0, size=(4, 8)), "different", None),
    ],
    ids=["equal", "2 levels off", "3 levels off", "another size"],
)
def test_pictures_are_near_from_40_decibels_on(other: Image.Image, verdict: str, decibels: float | None) -> None:
    assert comparison.compare_images(filled(0, 0, 0), other) == (verdict, decibels)


def test_what_is_otherwise_is_told_as_it_was_and_is() -> None:
    then, now = {"torch": "2.8", "device": "cpu", "old": "x"}, {"torch": "2.9", "device": "cpu", "new": "y"}
    told = {"torch": ("2.8", "2.9"), "old": ("x", None), "new": (None, "y")}
    assert comparison.find_differences(then, now) == told


def test_a_task_keeps_what_its_pictures_depend_on(model: Path, make_task: MakeTask) -> None:
    task = make_task(provider="diffusers")
    run()
    task.refresh_from_db()
    kept = {"device": "cpu", "dtype": "float32", "batch_size": "1"}
    assert kept.items() <= task.provenance.items()
    assert {"diffusers-handler", "diffusers", "torch", "transformers"} <= task.provenance.keys()


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_a_real_pipeline_makes_the_same_files_again(model: Path, make_task: MakeTask, output_format: str) -> None:
    first = make_task(provider="diffusers", params={"num_images": 2, "output_format": output_format})
    run()
    PIPELINE_CACHE.clear()
    new = again(first)
    assert (new.params, new.seed, new.revision, new.batch_key) == (first.params, first.seed, first.revision, "")
    assert new.reproduces == first
    assert (comparison_of(new)["verdict"], comparison_of(new)["differences"]) == ("identical", {})
    assert verdicts(new) == [("identical", True)] * 2


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_other_weights_are_found_out(model: Path, make_task: MakeTask, output_format: str) -> None:
    first = make_task(provider="diffusers", params={"output_format": output_format})
    run()
    change_weights(model)
    found = comparison_of(again(first))
    assert found["verdict"] == "different"
    assert found["images"][0]["psnr"] < comparison.NEAR_PSNR_DB


def test_what_was_drawn_in_company_is_drawn_alone_and_says_so(model: Path, make_task: MakeTask) -> None:
    first, _ = (make_task(provider="diffusers", batch_key=KEY, seed=seed) for seed in (7, 8))
    run()
    new = again(first)
    assert comparison_of(new)["verdict"] in {"identical", "near"}
    assert comparison_of(new)["differences"] == {"batch_size": ["2", "1"]}
    assert verdicts(new)[0][1] is False


def test_equal_pixels_in_unequal_files_are_identical(make_task: MakeTask) -> None:
    first, _ = (make_task(batch_key=KEY) for _ in range(2))
    run()
    assert verdicts(again(first)) == [("identical", False)]


def purge(task: Task) -> None:
    storage.delete_files(str(image.file.name) for image in task.images.all())
    task.images.update(purged_at=timezone.now())
    Task.objects.filter(pk=task.pk).update(purged_at=timezone.now())


def test_of_purged_pictures_the_hashes_are_compared(make_task: MakeTask) -> None:
    alone, company = make_task(), [make_task(batch_key=KEY) for _ in range(2)]
    run()
    for task in (alone, company[0]):
        purge(task)
    assert verdicts(again(alone)) == [("identical", True)]
    assert verdicts(again(company[0])) == [("unknown", False)]


def test_a_damaged_picture_leaves_the_verdict_open(make_task: MakeTask) -> None:
    first = make_task(params={"num_images": 2})
    run()
    image = TaskImage.objects.get(task=first, index=1)
    storage.delete_files([str(image.file.name)])
    default_storage.save(str(image.file.name), ContentFile(b"no picture"))
    TaskImage.objects.filter(pk=image.pk).update(sha256="0" * 64)
    new = again(first)
    assert (comparison_of(new)["verdict"], verdicts(new)) == ("unknown", [("identical", True), ("unknown", False)])


def test_a_task_that_is_deleted_before_its_reproduction_runs_is_compared_with_nothing(make_task: MakeTask) -> None:
    first = make_task()
    run()
    first.refresh_from_db()
    new, _ = services.reproduce_task(first, caller=permissions.ANONYMOUS)
    assert services.delete_task(first)
    run()
    new.refresh_from_db()
    assert (new.status, new.reproduces, new.reproduction) == (Status.SUCCEEDED, None, None)


def test_a_verdict_outlives_the_task_that_was_reproduced(make_task: MakeTask) -> None:
    first = make_task()
    run()
    new = again(first)
    assert services.delete_task(first)
    new.refresh_from_db()
    assert (new.reproduces, comparison_of(new)["verdict"]) == (None, "identical")


def test_only_what_has_succeeded_is_reproduced(make_task: MakeTask) -> None:
    task = make_task()
    lifecycle.cancel_task(task.pk)
    task.refresh_from_db()
    with pytest.raises(NotReproducibleError):
        services.reproduce_task(task, caller=permissions.ANONYMOUS)
    assert Task.objects.count() == 1


def test_a_reproduction_that_failed_is_still_one_when_it_is_retried(make_task: MakeTask, claimed: MakeTask) -> None:
    first = make_task()
    run()
    failed = claimed(reproduces=first)
    assert lifecycle.mark_failed(Claim(task_id=failed.pk, attempt=failed.attempt), code="internal", message="")
    failed.refresh_from_db()
    retried, _ = services.retry_task(failed, key=failed.pk)
    run()
    retried.refresh_from_db()
    assert (retried.reproduces, comparison_of(retried)["verdict"]) == (first, "identical")
