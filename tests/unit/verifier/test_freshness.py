"""What is too old to answer from, and which of it is a reason to leave the Service."""

from __future__ import annotations

import pytest

from countersign.cluster.cache import Key
from countersign.verifier.freshness import Beat
from tests.unit.access import cases
from tests.unit.verifier.world import World

LIMIT = 15.0


@pytest.fixture
def world() -> World:
    """Everything is fresh, the watch of the Lease included."""
    made = World().settle()
    made.lease.synced.set()
    made.lease.touch()
    return made


def stand_still(world: World, seconds: float) -> None:
    """The controller is away; the API server answers, the question about its Lease as well."""
    world.pass_time(seconds, beating=False)
    for watch in (*world.streams.values(), world.lease):
        watch.touch()


def test_what_is_fresh_is_no_problem(world: World) -> None:
    assert world.freshness.problem() == ""
    assert world.freshness.unready() == ""


def test_a_controller_that_is_away_is_no_reason_to_leave_the_service(world: World) -> None:
    stand_still(world, LIMIT + 1)
    assert "the controller's Lease has not moved" in world.freshness.problem()
    assert world.freshness.unready() == ""


def test_a_verifier_that_is_cut_off_from_the_lease_leaves_the_service(world: World) -> None:
    world.pass_time(LIMIT + 1, beating=False)
    for watch in world.streams.values():
        watch.touch()
    assert "the controller's Lease has not moved" in world.freshness.unready()


@pytest.mark.parametrize("name", ["pods", "workloadgrants", "revocations", "trustexceptions", "protectedaudiences"])
def test_a_verifier_whose_watch_is_silent_leaves_the_service_whether_the_controller_is_away_or_not(
    world: World, name: str
) -> None:
    for _ in range(2):
        stand_still(world, 130)
        world.streams[name].last_activity -= 130
        assert name in world.freshness.unready()
        world.beat()
        assert name in world.freshness.unready()


def test_old_keys_are_a_reason_to_leave_the_service(world: World) -> None:
    world.keys_age = 301.0
    assert "keys" in world.freshness.unready()


def test_a_verifier_that_has_just_started_waits_for_a_beat_before_it_joins_the_service() -> None:
    world = World()
    for watch in (*world.streams.values(), world.lease):
        watch.synced.set()
        watch.touch()
    assert world.freshness.unready(), "it has seen no Lease"
    world.beat()
    stand_still(world, LIMIT - 1)
    assert world.freshness.unready(), "it has not looked long enough to say that the controller is away"
    stand_still(world, 2)
    assert world.freshness.unready() == ""
    assert world.freshness.problem(), "and still it does not answer"


def test_where_there_is_no_lease_nobody_joins_the_service(world: World) -> None:
    world.lease.remove(Key(cases.SYSTEM, "countersign-controller"))
    stand_still(world, 1000)
    assert world.freshness.unready()


def test_a_verifier_that_saw_etcd_go_back_leaves_the_service_for_good(world: World) -> None:
    world.lease.put(Key(cases.SYSTEM, "countersign-controller"), "lease", "90", Beat("one", "90", revision=90))
    world.lease.put(Key(cases.SYSTEM, "countersign-controller"), "lease", "91", Beat("one", "91", revision=80))
    stand_still(world, LIMIT + 1)
    assert "etcd was restored" in world.freshness.unready()
