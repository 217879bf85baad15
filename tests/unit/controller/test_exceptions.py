"""What rests on a TrustException is over with it, to the second; and people are told in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from countersign.api.exception import TrustException, TrustExceptionStatus
from countersign.api.grant import WorkloadGrantStatus
from countersign.api.meta import condition
from countersign.api.objects import CustomResource
from countersign.api.policy import Binding, ServiceAccountBinding
from countersign.cluster.errors import ClusterError
from countersign.cluster.events import ObjectReference, Urgency
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.orders.exceptions import MAX_SERIES, ExceptionKeeper, exception_status
from countersign.controller.store import StaleError
from countersign.controller.watches.watching import Sighting
from countersign.controller.watches.world import World
from countersign.grants.impact import Limits
from tests.unit.controller.cluster import Cluster, resource_of
from tests.unit.trust.build import cluster_policy, exception, policy_ref, token

BOUND = cluster_policy(
    tokens=(token(),),
    binding=Binding(service_accounts=(ServiceAccountBinding(namespace="payments", name="other"),)),
    namespaces={"team": "payments"},
)
"""A policy that no pod of account `api` satisfies."""
FREE = cluster_policy(tokens=(token(),), namespaces={"team": "payments"})
END = datetime(2026, 3, 1, 12, 30, 0, tzinfo=UTC)


def issuing(name: str = "legacy", **members: Any) -> TrustException:
    return exception(name, "ServiceAccountNotBound", tokens="Issue", **members)


def status_of(cluster: Cluster, uid: str = "pod-uid") -> WorkloadGrantStatus:
    (found,) = [grant.status for grant in cluster.store.grants.values() if grant.spec.pod.uid == uid]
    return found


def resting(cluster: Cluster, uid: str = "pod-uid") -> list[str]:
    return [one.name for one in status_of(cluster, uid).exceptions]


async def granted(cluster: Cluster, *uids: str) -> Cluster:
    for uid in uids or ("pod-uid",):
        cluster.admit(uid)
    await cluster.survey()
    for uid in uids or ("pod-uid",):
        assert cluster.state(uid) == ("Active", "Admitted")
    return cluster


async def by_exception(*exceptions: TrustException, limits: Limits | None = None, pods: int = 1) -> Cluster:
    """Active grants that rest on the exceptions."""
    cluster = Cluster(BOUND, limits=limits or Limits())
    cluster.exempt(*(exceptions or (issuing(),)))
    return await granted(cluster, *(f"pod-{n}" for n in range(pods)) if pods > 1 else ())


# The grant


async def test_a_grant_says_what_it_rests_on() -> None:
    cluster = await by_exception()
    (found,) = status_of(cluster).exceptions
    assert (found.name, found.uid, found.tokens) == ("legacy", "uid-legacy", "Issue")
    assert (found.expires_at, found.checks) == ("2026-03-01T12:30:00Z", ("ServiceAccountNotBound",))


async def test_it_is_suspended_at_the_second_in_which_the_exception_ends() -> None:
    cluster = await by_exception()
    await cluster.settle()
    assert cluster.later["pod-uid"] == (END - cluster.now).total_seconds()
    cluster.now = END - timedelta(microseconds=1)
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")
    cluster.now = END
    await cluster.settle()
    assert cluster.state() == ("Suspended", "ExceptionEnded")
    assert "TrustException legacy, on which it rested, is over. ServiceAccountNotBound" in status_of(cluster).message
    writes = cluster.store.writes
    await cluster.settle()
    await cluster.restart()
    assert cluster.store.writes == writes


@pytest.mark.parametrize("how", ["moved earlier", "deleted", "being deleted", "made anew"])
async def test_it_is_suspended_at_once_when_the_exception_is_taken_back(how: str) -> None:
    cluster = await by_exception()
    now = "2026-03-01T12:00:01Z"
    match how:
        case "moved earlier":
            cluster.exempt(issuing(expires=now))
        case "deleted":
            cluster.see(issuing(), gone=True)
        case "being deleted":
            cluster.exempt(issuing(deleted=now))
        case "made anew":
            cluster.see(issuing(), gone=True)
            cluster.exempt(issuing(uid="another-uid", namespaces=("elsewhere",)))
    await cluster.survey()
    assert cluster.state() == ("Suspended", "ExceptionEnded")


async def test_an_end_that_came_while_no_controller_ran_is_not_missed() -> None:
    cluster = await by_exception()
    cluster.now = END + timedelta(hours=1)
    await cluster.restart()
    assert cluster.state() == ("Suspended", "ExceptionEnded")


async def test_the_brake_does_not_hold_back_the_end_of_an_exception() -> None:
    cluster = await by_exception(limits=Limits(0, 0.0), pods=3)
    cluster.now = END
    await cluster.survey()
    assert {cluster.state(f"pod-{n}") for n in range(3)} == {("Suspended", "ExceptionEnded")}
    assert not any(one.held for one in cluster.judging.impacts.values())


async def test_a_held_change_of_policy_does_not_keep_what_rested_on_an_exception() -> None:
    cluster = await by_exception(limits=Limits(0, 0.0), pods=3)
    cluster.apply(cluster_policy(tokens=(token(),), images=(), namespaces={"team": "payments"}))
    await cluster.survey()
    assert {cluster.state(f"pod-{n}") for n in range(3)} == {("Active", "Admitted")}
    assert resting(cluster, "pod-0") == ["legacy"]
    cluster.now = END
    for number in range(3):
        await cluster.settle(f"pod-{number}")
    assert {cluster.state(f"pod-{n}") for n in range(3)} == {("Suspended", "ExceptionEnded")}


async def test_another_exception_in_time_carries_it_over_the_end() -> None:
    cluster = await by_exception()
    cluster.exempt(issuing(), issuing("next", expires="2026-03-01T13:00:00Z"))
    await cluster.survey()
    assert resting(cluster) == ["next"]
    cluster.now = END
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")
    cluster.now = END + timedelta(minutes=30)
    await cluster.settle()
    assert cluster.state() == ("Suspended", "ExceptionEnded")


async def test_another_exception_afterwards_restores_it() -> None:
    cluster = await by_exception()
    cluster.now = END
    await cluster.settle()
    cluster.exempt(issuing("next", created="2026-03-01T12:30:00Z", expires="2026-03-01T13:00:00Z"))
    await cluster.survey()
    assert cluster.state() == ("Active", "QualifiesAgain")
    assert resting(cluster) == ["next"]


async def test_a_pod_that_needs_it_no_more_rests_on_it_no_more() -> None:
    cluster = await by_exception()
    cluster.apply(FREE)
    await cluster.survey()
    assert (cluster.state(), resting(cluster)) == (("Active", "Admitted"), [])
    cluster.now = END
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")


async def test_a_pod_from_before_a_stricter_policy_rests_on_the_exception_for_it() -> None:
    cluster = await granted(Cluster(FREE))
    cluster.exempt(issuing())
    cluster.apply(BOUND)
    await cluster.survey()
    assert (cluster.state(), resting(cluster)) == (("Active", "Admitted"), ["legacy"])
    cluster.now = END
    await cluster.settle()
    assert cluster.state() == ("Suspended", "ExceptionEnded")


async def test_a_pod_that_is_let_in_without_tokens_has_no_identity_and_says_by_what() -> None:
    cluster = Cluster(BOUND)
    cluster.exempt(exception("legacy", "ServiceAccountNotBound"))
    cluster.admit()
    await cluster.survey()
    assert cluster.state() == ("Suspended", "NotQualified")
    (found,) = status_of(cluster).exceptions
    assert (found.name, found.tokens) == ("legacy", "Withhold")
    writes = cluster.store.writes
    await cluster.settle()
    assert cluster.store.writes == writes


# Its status


class Desk:
    """A keeper over a world in memory; what it writes is seen again, as by the watch."""

    def __init__(self, *exceptions: TrustException) -> None:
        self.world = World("countersign-system")
        self.now = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
        self.events: list[str] = []
        self.fail: ClusterError | StaleError | None = None
        self._version = 0
        self.see(resource_of(BOUND), *exceptions)
        self.start()

    def start(self) -> None:
        """A new process with the same world."""
        self.registry = CollectorRegistry()
        self.keeper = ExceptionKeeper(self.world, self, self, ControllerMetrics(self.registry), clock=lambda: self.now)

    def see(self, *resources: Any, gone: bool = False) -> None:
        for one in resources:
            self._version += 1
            meta = msgspec.structs.replace(one.metadata, resource_version=str(self._version))
            self.world.see(Sighting(msgspec.structs.replace(one, metadata=meta), gone=gone, listed=False))

    async def write_status(self, resource: CustomResource, status: msgspec.Struct) -> None:
        if self.fail is not None:
            raise self.fail
        assert isinstance(resource, TrustException)
        assert isinstance(status, TrustExceptionStatus)
        self.see(msgspec.structs.replace(resource, status=status))

    def emit(self, regarding: ObjectReference, urgency: Urgency, reason: str, note: str, *, action: str) -> None:
        assert regarding.kind == "TrustException"
        assert note
        self.events.append(f"{urgency} {reason} {regarding.name}")

    def state(self, name: str = "legacy") -> dict[str, str]:
        found = next(one for one in self.world.rules.exceptions.values() if one.metadata.name == name)
        return {one.type: one.status for one in found.status.conditions}

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


async def test_people_are_told_when_it_begins_runs_out_and_ends_once_each() -> None:
    desk = Desk(issuing())
    await desk.keeper.keep()
    assert desk.state() == {"Active": "True", "Expiring": "False", "Expired": "False", "ResolvedRefs": "True"}
    desk.now = datetime(2026, 3, 1, 12, 22, 0, tzinfo=UTC)  # a fifth of its 40 minutes is left
    await desk.keeper.keep()
    assert desk.state()["Expiring"] == "True"
    (found,) = desk.world.rules.exceptions.values()
    assert found.status.warned_at == "2026-03-01T12:22:00Z"
    desk.start()
    desk.now = END
    for _ in range(2):
        await desk.keeper.keep()
    assert desk.state() == {"Active": "False", "Expiring": "False", "Expired": "True", "ResolvedRefs": "True"}
    assert desk.events == [
        "Normal TrustExceptionInForce legacy",
        "Warning TrustExceptionExpiring legacy",
        "Normal TrustExceptionEnded legacy",
    ]


async def test_what_happened_while_no_controller_ran_is_told_by_the_next() -> None:
    desk = Desk(issuing())
    await desk.keeper.keep()
    desk.start()
    desk.now = END + timedelta(days=1)
    await desk.keeper.keep()
    assert desk.events[-1] == "Normal TrustExceptionEnded legacy"


async def test_one_that_was_over_before_anybody_looked_is_told_of_by_nobody() -> None:
    desk = Desk(issuing(expires="2026-03-01T11:50:00Z"))
    await desk.keeper.keep()
    assert desk.events == []
    (found,) = desk.world.rules.exceptions.values()
    told = condition(found.status.conditions, "Active")
    assert told is not None
    assert (told.status, told.reason) == ("False", "NeverInForce")


async def test_a_status_that_could_not_be_written_is_tried_again_and_told_once() -> None:
    desk = Desk(issuing())
    desk.fail = ClusterError("no")
    with pytest.raises(ClusterError):
        await desk.keeper.keep()
    desk.fail = StaleError("gone")
    await desk.keeper.keep()
    assert desk.events == []
    desk.fail = None
    await desk.keeper.keep()
    await desk.keeper.keep()
    assert desk.events == ["Normal TrustExceptionInForce legacy"]


def test_a_policy_that_is_not_there_is_named() -> None:
    of = issuing(policies=(policy_ref(), policy_ref("own", "payments")))
    known = {("ClusterTrustPolicy", "", "payments")}
    told = condition(exception_status(of, known, 0, END).conditions, "ResolvedRefs")
    assert told is not None
    assert (told.status, told.reason) == ("False", "PolicyMissing")
    assert told.message.startswith("Not there: TrustPolicy payments/own.")


async def test_metrics_say_when_each_ends_and_no_more_of_what_is_over() -> None:
    desk = Desk(issuing(), issuing("late", expires="2026-03-09T00:00:00Z"))
    await desk.keeper.keep()
    name = "countersign_trust_exception_end_timestamp_seconds"
    assert desk.metric(name, exception="legacy") == END.timestamp()
    assert desk.metric("countersign_trust_exceptions", state="Active") == 2
    desk.now = END
    await desk.keeper.keep()
    assert desk.metric(name, exception="legacy") is None
    assert desk.metric(name, exception="late") is not None
    assert desk.metric("countersign_trust_exceptions", state="Expired") == 1


async def test_the_number_of_time_series_is_bounded() -> None:
    desk = Desk(*(issuing(f"e{number:03}") for number in range(MAX_SERIES + 8)))
    await desk.keeper.keep()
    family = next(one for one in desk.registry.collect() if one.name.startswith("countersign_trust_exception_end"))
    assert len(family.samples) == MAX_SERIES


async def test_it_counts_the_pods_that_are_under_it() -> None:
    cluster = await by_exception(pods=3)
    desk = Desk(issuing())
    desk.world.pods.update(cluster.world.pods)
    await desk.keeper.keep()
    (found,) = desk.world.rules.exceptions.values()
    assert found.status.pods == 3
    desk.world.pods.pop("pod-0")
    await desk.keeper.keep()
    (found,) = desk.world.rules.exceptions.values()
    assert found.status.pods == 2
