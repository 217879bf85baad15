from __future__ import annotations

from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from countersign.api.meta import Condition, ObjectMeta, condition
from countersign.api.policy_status import PodCounts, PolicyStatus
from countersign.api.revocation import NamespaceTarget, ObjectTarget
from countersign.controller.evidence.outlook import Basis, Outlook, Word
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.statuses.figures import Figures, counts
from countersign.controller.statuses.statuses import (
    Registered,
    StatusKeeper,
    audience_status,
    order_statuses,
    policy_status,
    revocation_status,
)
from countersign.controller.store import StaleError, explicit
from countersign.grants.impact import Impact
from countersign.grants.withdrawal import EvidenceNow
from countersign.trust.policies.composition import accept
from countersign.trust.policies.policy import Policy, PolicySnapshot
from tests.unit.controller.cluster import GOOD, Cluster, resource_of
from tests.unit.grants.build import BORN, at, changed, stamp
from tests.unit.trust.build import audience, revocation

IN_FORCE = Registered(True)


def status_of(
    policy: Policy, *, figures: Figures | None = None, impact: Impact | None = None, registered: Registered = IN_FORCE,
    before: PolicyStatus | None = None,
) -> PolicyStatus:  # fmt: skip
    judged = accept(PolicySnapshot(policies=(policy,), audiences=(audience(),))).policies[0]
    resource = msgspec.structs.replace(resource_of(policy), status=before or PolicyStatus())
    return policy_status(resource, judged, figures or Figures(), impact, registered, now=BORN)


def reason(status: Any, kind: str) -> tuple[str, str]:
    found: Condition | None = condition(status.conditions, kind)
    assert found is not None
    return found.status, found.reason


def test_a_good_policy_is_ready() -> None:
    status = status_of(GOOD)
    assert reason(status, "Accepted") == ("True", "Accepted")
    assert reason(status, "ResolvedRefs") == ("True", "ResolvedRefs")
    assert reason(status, "Ready") == ("True", "Ready")
    assert status.observed_generation == 1
    assert condition(status.conditions, "ImpactHeld") is None


def test_a_policy_without_its_audience_is_not_ready() -> None:
    judged = accept(PolicySnapshot(policies=(GOOD,))).policies[0]
    status = policy_status(resource_of(GOOD), judged, Figures(), None, IN_FORCE, now=BORN)
    assert reason(status, "Ready") == ("False", "AudienceUnavailable")


def test_a_policy_that_the_api_server_does_not_ask_about_is_not_ready() -> None:
    assert reason(status_of(GOOD, registered=Registered()), "Ready") == ("False", "GateNotRegistered")
    waiting = status_of(GOOD, registered=Registered(True, "the gate does not answer"))
    assert reason(waiting, "Ready") == ("False", "GateNotRegistered")


def test_a_held_change_is_told_and_then_told_to_be_over() -> None:
    held = status_of(GOOD, impact=Impact(GOOD.ref, 12, 12, held=True))
    assert reason(held, "ImpactHeld") == ("True", "TooManyGrants")
    assert reason(status_of(GOOD, before=held), "ImpactHeld") == ("False", "NothingHeld")


def test_evidence_that_runs_out_is_told_with_its_first_end_and_then_told_to_be_over() -> None:
    expiring = status_of(GOOD, figures=Figures(3, expiring=2, first_end=BORN, withdrawn=1))
    assert reason(expiring, "EvidenceExpiring") == ("True", "AttestationsAge")
    found = condition(expiring.conditions, "EvidenceExpiring")
    assert found is not None
    assert "2 pods" in found.message
    assert stamp(0) in found.message
    assert expiring.pods is not None
    assert (expiring.pods.evidence_expiring, expiring.pods.evidence_withdrawn) == (2, 1)
    assert reason(status_of(GOOD, before=expiring), "EvidenceExpiring") == ("False", "NothingExpires")


async def test_evidence_is_counted_by_the_policy_that_asks_for_it() -> None:
    cluster = Cluster()
    cluster.admit("ending")
    cluster.admit("over")
    await cluster.survey()
    for uid, members in (
        ("ending", {"expiring": frozenset({GOOD.ref.uid}), "too_old_at": BORN}),
        ("over", {"withdrawn": "too old", "withdrawn_for": frozenset({GOOD.ref.uid})}),
    ):
        record = cluster.world.pods[uid]
        assert record.qualification is not None
        record.evidence = EvidenceNow(qualification=record.qualification, **members)
    (figures,) = counts(cluster.world.live()).values()
    assert (figures.expiring, figures.first_end, figures.withdrawn) == (1, BORN, 1)


def test_the_same_again_is_the_same_status() -> None:
    once = status_of(GOOD, figures=Figures(3, 1, 0, 0, (("ImageUnsigned", 1),)))
    assert status_of(GOOD, figures=Figures(3, 1, 0, 0, (("ImageUnsigned", 1),)), before=once) == once


async def test_pods_are_counted_by_policy() -> None:
    cluster = Cluster()
    cluster.admit("well")
    cluster.slip_in("around")
    cluster.admit("done")
    cluster.store_pod(changed(cluster.pods["done"], phase="Succeeded"))
    await cluster.survey()
    (figures,) = counts(cluster.world.live()).values()
    assert (figures.governed, figures.failing, figures.unknown) == (2, 0, 2), "nobody has looked yet"
    for uid, word in (
        ("well", Word(GOOD.ref.uid, "allowed")),
        ("around", Word(GOOD.ref.uid, "wouldDeny", ("ImageUnsigned",), not_injected=True)),
    ):
        cluster.world.pods[uid].outlook = Outlook((word,), Basis(), cluster.world.rules.snapshot())
    (figures,) = counts(cluster.world.live()).values()
    assert figures == Figures(2, 1, 0, 1, (("ImageUnsigned", 1),))


async def test_pods_that_no_gate_admitted_are_counted() -> None:
    cluster = Cluster()
    cluster.admit("well")
    cluster.slip_in("around")
    await cluster.survey()
    (figures,) = counts(cluster.world.live(), {"around", "of a pod that is gone"}).values()
    assert (figures.governed, figures.missed) == (2, 1)


async def test_what_nobody_could_tell_is_neither_well_nor_failing() -> None:
    cluster = Cluster()
    cluster.slip_in("around")
    await cluster.survey()
    word = Word(GOOD.ref.uid, "unknown", ("ImageUnverifiable",))
    cluster.world.pods["around"].outlook = Outlook((word,), Basis(), cluster.world.rules.snapshot())
    (figures,) = counts(cluster.world.live()).values()
    assert figures == Figures(1, 0, 1)


def test_an_audience_is_ready_unless_another_has_its_name() -> None:
    first, second = audience(name="first"), audience(name="second", created="2026-02-01T00:00:00Z")
    judged = accept(PolicySnapshot(audiences=(first, second))).audiences
    ready = audience_status(first, judged[0], 7, IN_FORCE, BORN)
    assert (reason(ready, "Ready"), ready.grants) == (("True", "Ready"), 7)
    assert reason(audience_status(second, judged[1], 0, IN_FORCE, BORN), "Ready") == ("False", "Conflicted")
    assert reason(audience_status(first, judged[0], 0, Registered(), BORN), "Ready") == ("False", "GateNotRegistered")


# Orders


async def test_an_order_is_applied_when_nothing_that_it_reaches_is_left() -> None:
    cluster = Cluster()
    for uid in ("a", "b"):
        cluster.admit(uid)
    await cluster.survey()
    cluster.order(namespace=NamespaceTarget(name="payments"))
    ((order, status),) = order_statuses(cluster.world, BORN)
    assert reason(status, "Applied") == ("Unknown", "InProgress")
    await cluster.survey()
    ((order, status),) = order_statuses(cluster.world, BORN)
    assert (reason(status, "Applied"), status.revoked) == (("True", "Applied"), 2)
    later = msgspec.structs.replace(order, status=status)
    left = revocation_status(later, ended=0, waiting=0, system_namespace="countersign-system", now=BORN)
    assert left.revoked == 2, "collected grants stay counted"


def test_an_order_of_ours_that_names_no_namespace_says_so() -> None:
    order = revocation(pod=ObjectTarget(name="api-1"))
    status = revocation_status(order, ended=0, waiting=0, system_namespace="countersign-system", now=BORN)
    assert reason(status, "Applied") == ("False", "NamespaceMissing")


# Writing


class Written:
    def __init__(self, *, fails: bool = False) -> None:
        self.statuses: list[tuple[str, str]] = []
        self.fails = fails

    async def write_status(self, resource: Any, status: Any) -> None:
        if self.fails:
            raise StaleError("gone")
        self.statuses.append((type(resource).__name__, resource.metadata.name))


def keeper(cluster: Cluster, store: Written) -> StatusKeeper:
    return StatusKeeper(
        cluster.world, store, ControllerMetrics(CollectorRegistry()),
        impacts=lambda: cluster.judging.impacts, registered=lambda: IN_FORCE, clock=lambda: at(5),
    )  # fmt: skip


async def test_what_differs_is_written_and_what_does_not_is_not() -> None:
    cluster, store = Cluster(), Written()
    await keeper(cluster, store).write()
    assert sorted(store.statuses) == [("ClusterTrustPolicy", "payments"), ("ProtectedAudience", "ledger")]
    due = list(keeper(cluster, store)._due())
    for resource, status in due:
        meta: ObjectMeta = msgspec.structs.replace(resource.metadata, resource_version=str(cluster.version()))
        cluster.see(msgspec.structs.replace(resource, metadata=meta, status=status))
    store.statuses.clear()
    await keeper(cluster, store).write()
    assert store.statuses == []


async def test_an_object_that_is_gone_does_not_stop_the_others() -> None:
    await keeper(Cluster(), Written(fails=True)).write()


def test_a_status_is_written_with_nulls_for_what_is_empty_and_zeros_for_numbers() -> None:
    assert explicit(PolicyStatus(pods=PodCounts(governed=2))) == {
        "conditions": None,
        "observedGeneration": 0,
        "effective": None,
        "pods": {
            "governed": 2,
            "failing": 0,
            "unknown": 0,
            "notInjected": 0,
            "evidenceExpiring": 0,
            "evidenceWithdrawn": 0,
            "missed": 0,
        },
        "topReasons": None,
        "admissions": None,
    }
