"""Where queued tasks stand."""

from collections.abc import Callable
from uuid import UUID

from tasks_app.models import Pause, Task
from tasks_app.queue import lifecycle, pauses, position

MakeTask = Callable[..., Task]


def places(*tasks: Task) -> dict[UUID, int]:
    return {task_id: stands.position for task_id, stands in position.get_positions([task.pk for task in tasks]).items()}


def test_places_follow_priority_and_age_one_by_one_and_all_at_once(make_task: MakeTask, claimed: MakeTask) -> None:
    running = claimed()
    last, first, second = make_task(), make_task(priority=5), make_task(priority=5)
    expected = {first.pk: 1, second.pk: 2, last.pk: 3}
    assert places(running, last, first, second) == expected
    assert places(last) | places(first) | places(second) == expected
    assert places(running) == places() == {}
    assert lifecycle.find_claimable(worker="w") == first.pk


def test_a_pause_of_the_queue_or_of_its_model_holds_a_task_up(make_task: MakeTask) -> None:
    slow, fast = make_task(model_id="slow"), make_task(model_id="fast")

    def paused() -> list[bool]:
        together = position.get_positions([slow.pk, fast.pk])
        alone = position.get_positions([slow.pk]) | position.get_positions([fast.pk])
        assert together == alone
        return [together[task.pk].is_paused for task in (slow, fast)]

    pauses.create_pause(Pause.Scope.WORKER, "slow")
    assert paused() == [False, False]
    pauses.create_pause(Pause.Scope.MODEL, "slow")
    assert paused() == [True, False]
    pauses.create_pause(Pause.Scope.QUEUE)
    assert paused() == [True, True]
