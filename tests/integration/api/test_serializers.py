"""How a task and its pictures are read for those who see them."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.db.models.functions import Now
from django.forms.models import model_to_dict

from tasks_app.api.serializers import annotate_images, get_annotated_task, get_images
from tasks_app.models import Task, TaskImage

pytestmark = pytest.mark.django_db
MakeTask = Callable[..., Task]


def picture(task: Task, index: int) -> TaskImage:
    return TaskImage(task=task, index=index, attempt=1, file=f"{index}.png", seed=2**32 - 1, width=32, height=24)


def test_one_task_is_read_as_among_others_with_its_pictures_in_order(make_task: MakeTask) -> None:
    task, without = make_task(provenance={"device": "cpu"}), make_task()
    TaskImage.objects.bulk_create([picture(task, 1), picture(task, 0), picture(make_task(), 0)])
    TaskImage.objects.filter(task=task, index=1).update(purged_at=Now(), flagged=True)
    for each, count in ((task, 2), (without, 0)):
        alone = get_annotated_task(each.pk)
        among = annotate_images(Task.objects.all()).get(pk=each.pk)
        assert alone is not None
        assert model_to_dict(alone) == model_to_dict(among)
        assert get_images(alone) == get_images(among)
        assert [one["index"] for one in get_images(alone)] == list(range(count))
    (first, second) = get_images(get_annotated_task(task.pk))  # type: ignore[arg-type]
    assert [(one["purged"], one["flagged"]) for one in (first, second)] == [(False, False), (True, True)]


def test_a_task_that_is_gone_is_none() -> None:
    assert get_annotated_task(uuid4()) is None
