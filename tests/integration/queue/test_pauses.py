"""Pauses: rows that claims look at."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from tasks_app.models import Pause, Task
from tasks_app.queue import lifecycle, pauses
from tests.support.claims import claim_one

MakeTask = Callable[..., Task]
QUEUE, MODEL, WORKER = Pause.Scope.QUEUE, Pause.Scope.MODEL, Pause.Scope.WORKER


def claimed_by(worker: str) -> Task | None:
    return claim_one(worker=worker, lease_seconds=30)


def test_a_pause_says_who_began_it_and_a_second_one_changes_nothing(admin_user: User) -> None:
    assert pauses.create_pause(QUEUE, by=admin_user)
    assert not pauses.create_pause(QUEUE)
    assert Pause.objects.get().by == admin_user
    assert pauses.is_paused(QUEUE)
    assert pauses.delete_pause(QUEUE)
    assert not pauses.delete_pause(QUEUE)
    assert not pauses.is_paused(QUEUE)


def test_a_paused_queue_gives_nothing_away(make_task: MakeTask) -> None:
    make_task()
    pauses.create_pause(QUEUE)
    assert lifecycle.find_claimable() is None
    assert claimed_by("w") is None
    pauses.delete_pause(QUEUE)
    assert claimed_by("w") is not None


def test_a_paused_model_lets_other_models_pass(make_task: MakeTask) -> None:
    make_task(model_id="slow", priority=5)
    other = make_task(model_id="fast")
    pauses.create_pause(MODEL, "slow")
    first = claimed_by("w")
    assert first == other
    assert claimed_by("w") is None


def test_a_paused_worker_gets_nothing_and_others_do(make_task: MakeTask) -> None:
    task = make_task()
    pauses.create_pause(WORKER, "one")
    assert claimed_by("one") is None
    assert lifecycle.find_claimable(worker="one") is None
    assert lifecycle.find_claimable() == task.pk
    assert claimed_by("two") == task


def test_only_a_queued_task_is_held_by_a_pause_of_its_own(make_task: MakeTask, claimed: MakeTask) -> None:
    running, queued = claimed(model_id="slow"), make_task(model_id="slow")
    pauses.create_pause(MODEL, "slow")
    pauses.create_pause(MODEL, "fast")
    pauses.create_pause(WORKER, "slow")
    assert pauses.is_task_paused(queued, pauses.list_active_pauses())
    assert not pauses.is_task_paused(running, pauses.list_active_pauses())
    pauses.delete_pause(MODEL, "slow")
    assert not pauses.is_task_paused(queued, pauses.list_active_pauses())
    pauses.create_pause(QUEUE)
    assert pauses.is_task_paused(queued, pauses.list_active_pauses())


@pytest.mark.parametrize(("scope", "target"), [(QUEUE, "demo"), (MODEL, ""), (WORKER, ""), ("room", "x")])
def test_the_database_refuses_pauses_that_mean_nothing(db: None, scope: str, target: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Pause.objects.create(scope=scope, target=target)
