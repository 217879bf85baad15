"""Whatever happens to exceptions, and whenever a controller is away: nobody is active for whom none is in force."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from countersign.api.exception import TrustException
from countersign.api.policy import Binding, ServiceAccountBinding
from countersign.grants.judgement import requalify
from countersign.grants.lifecycle import Qualification, next_deadline, next_status, rested_on, status_after
from countersign.grants.tracking import first_sight
from countersign.trust.orders.exceptions import over
from tests.unit.grants.build import admitted, at, judged, observed, recorded, stamp
from tests.unit.trust.build import cluster_policy, exception, snapshot, token

FREE = cluster_policy(tokens=(token(),))
BOUND = cluster_policy(
    tokens=(token(),), binding=Binding(service_accounts=(ServiceAccountBinding(namespace="payments", name="other"),))
)
"""A policy that the pod satisfies by an exception only."""
SUBJECT, SPENT = admitted(snapshot(FREE))


class Step(NamedTuple):
    """Some time passes, an exception is made or changed or goes away, and the controller looks or does not."""

    seconds: int
    name: str
    lasts: int
    """Seconds from now; 0: it is deleted."""
    issues: bool
    controller: bool


steps = st.lists(
    st.builds(Step, st.integers(1, 60), st.sampled_from("abc"), st.integers(0, 90), st.booleans(), st.booleans()),
    min_size=1,
    max_size=8,
)


class World:
    """One grant under BOUND, and the exceptions that exist."""

    def __init__(self) -> None:
        self.now = 1
        self.made = 0
        self.exceptions: dict[str, TrustException] = {}
        self.grant = recorded(judged(snapshot(FREE)))

    def take(self, step: Step) -> None:
        self.now += step.seconds
        if step.lasts:
            self.made += 1
            self.exceptions[step.name] = exception(
                step.name,
                "ServiceAccountNotBound",
                tokens="Issue" if step.issues else "Withhold",
                created=stamp(self.now),
                expires=stamp(self.now + step.lasts),
                uid=f"uid-{self.made}",
            )
        else:
            self.exceptions.pop(step.name, None)
        if step.controller:
            self.look()

    def look(self, *, held: bool = False) -> None:
        now, status = at(self.now), self.grant.status
        ended = over(status.exceptions, self.exceptions.values(), now)
        seen = observed(first_sight(SUBJECT.pod), self.qualified(self.now), exception_over=ended, held=held)
        transition = next_status(self.grant, seen, now)
        after = status_after(status, transition, seen.track, now, exceptions=rested_on(self.grant, seen))
        self.grant = msgspec.structs.replace(self.grant, status=after)
        self.deadline = next_deadline(self.grant, seen)

    def qualified(self, seconds: float) -> Qualification:
        given = snapshot(BOUND, exceptions=self.exceptions.values())
        found = requalify(given, SUBJECT, SPENT.receipt, at(seconds))
        assert found is not None
        return found

    def called_active(self, seconds: float) -> bool:
        """What a verifier makes of the grant by itself (access.decision, steps 8 and 15)."""
        status = self.grant.status
        return status.state == "Active" and not over(status.exceptions, self.exceptions.values(), at(seconds))


@given(steps, st.integers(0, 120))
def test_a_verifier_alone_calls_nobody_active_who_would_not_qualify(taken: list[Step], later: int) -> None:
    world = World()
    for step in taken:
        world.take(step)
        for seconds in (world.now, world.now + later):
            assert not world.called_active(seconds) or world.qualified(seconds).qualifies


@given(steps)
def test_once_the_controller_has_looked_the_grant_is_active_exactly_if_the_pod_qualifies(taken: list[Step]) -> None:
    world = World()
    for step in taken:
        world.take(step)
        world.look()
        assert (world.grant.status.state == "Active") is world.qualified(world.now).qualifies
        assert world.called_active(world.now) is (world.grant.status.state == "Active")


@given(steps)
def test_a_controller_that_comes_back_at_its_deadline_misses_no_end(taken: list[Step]) -> None:
    world = World()
    for step in taken:
        world.take(step)
    world.look()
    if world.grant.status.state == "Active":
        assert world.deadline is not None
        before = (world.deadline - at(0)).total_seconds()
        assert world.qualified(before - 0.001).qualifies
        world.now = int(before)
        world.look()
        assert (world.grant.status.state == "Active") is world.qualified(before).qualifies


@given(steps)
def test_the_brake_holds_nothing_whose_exception_is_over(taken: list[Step]) -> None:
    world = World()
    for step in taken:
        world.take(step._replace(controller=False))
        world.look(held=True)
        assert world.grant.status.state != "Active" or world.called_active(world.now)
        assert world.grant.status.state != "Active" or world.qualified(world.now).qualifies


@given(steps)
def test_looking_twice_changes_nothing(taken: list[Step]) -> None:
    world = World()
    for step in taken:
        world.take(step)
        world.look()
        before = world.grant
        world.look()
        assert world.grant == before
