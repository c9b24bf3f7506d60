"""The suite can fail: with a guard taken out, the invariant that it stands for is seen to be broken."""

import operator
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import psycopg
import pytest

from tests.chaos import world as worlds
from tests.chaos.aim import InjectedFault
from tests.chaos.evidence import gather_evidence
from tests.chaos.faults import FAULTS
from tests.chaos.invariants import find_violations
from tests.chaos.processes import send_signal
from tests.chaos.world import ChaosServers, World
from tests.support.stack import wait_until

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.timeout(180),
]
# Longer than any lease would be extended for, shorter than a test should take.
ENOUGH_SECONDS = 12.0
Scene = Callable[[World], list[InjectedFault]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosServers]:
    """Run the servers of all tests of this module."""
    with worlds.run_servers(tmp_path_factory.mktemp("mutations")) as running:
        yield running


def _killed_holder(world: World) -> list[InjectedFault]:
    """Kill the worker of a task, and leave the rest to the service."""
    world.submit_task("pace 0.1 of the killed", steps=40)
    strike = FAULTS["kill -9 of a claim's holder"](world, random.Random(1))
    assert strike.hit
    world.wait_until_ended(ENOUGH_SECONDS)
    return [strike]


def _frozen_holder(world: World) -> list[InjectedFault]:
    """Freeze the worker of a task until another one runs it, and let both go on."""
    world.submit_task("pace 0.1 of the frozen", steps=60)
    strike = FAULTS["freeze beyond the lease"](world, random.Random(1))
    assert strike.hit, strike.note
    assert world.wait_until_ended(60)
    return [strike]


def _two_workers(world: World) -> list[InjectedFault]:
    """Let a worker look for a task while another one runs the oldest."""
    for number in range(2):
        world.submit_task(f"pace 0.05 number {number}", steps=30)
        # Claims at the very same moment would pass each other by, whatever they look at.
        with suppress(AssertionError):
            wait_until(
                lambda: world.count_by_status().get("running", 0),
                partial(operator.eq, number + 1),
                patience=5,
            )
    world.wait_until_ended(ENOUGH_SECONDS)
    return []


SCENES = {
    "no_sweeper": (_killed_holder, {"lost", "recovery"}),
    "no_fencing": (_frozen_holder, {"foreign write"}),
    "no_status_guard": (_two_workers, {"double claim"}),
}


@pytest.mark.parametrize("mutation", SCENES)
def test_a_service_without_its_guard_is_told(
    base: ChaosServers, mutation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, expected = SCENES[mutation]
    with worlds.run_service(base, CHAOS_MUTATION=mutation) as world:
        broken = find_violations(gather_evidence(world, scene(world)))
    with capsys.disabled():
        print(f"\n{mutation}:", *(f"  {one.kind}: {one.text}" for one in broken[:6]), sep="\n")
    assert expected <= {one.kind for one in broken}


@pytest.mark.parametrize("mutation", SCENES)
def test_the_same_scene_is_fine_with_it(base: ChaosServers, mutation: str) -> None:
    scene, _ = SCENES[mutation]
    with worlds.run_service(base) as world:
        strikes = scene(world)
        world.workers.wait_until_up()  # one that boots would die of the SIGTERM that ends it
        assert find_violations(gather_evidence(world, strikes)) == []


def test_what_outlives_the_service_is_told(base: ChaosServers) -> None:
    """A worker whose supervisor was killed, and a connection with a lock that nobody gives back."""
    with worlds.run_service(base) as world, psycopg.connect(**base.postgres.connection_options()) as forgotten:
        forgotten.execute("SELECT pg_advisory_lock(1)")
        send_signal(world.workers.slots[0].current.child.session, signal.SIGKILL)
        wait_until(lambda: len(world.workers.slots[0].processes), lambda number: number == 2)
        found = gather_evidence(world, [])
    for what in ("process", "connection", "advisory lock"):
        assert any(text.startswith(what) for text in found.leftovers), found.leftovers
