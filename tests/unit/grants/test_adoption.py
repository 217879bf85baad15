"""Which pods lack an identity that they should have, and which of those a machine may put aside."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from countersign.api.grant import WorkloadGrant
from countersign.api.meta import OwnerReference
from countersign.api.pod import Pod
from countersign.grants.adoption import CURED_BY_RESTART, lacks_identity, obstacle
from countersign.grants.reasons import RevokedReason
from tests.unit.grants.build import POLICY, active, changed, live, stamp
from tests.unit.trust.build import cluster_policy


def owned(kind: str = "ReplicaSet", api_version: str = "apps/v1", *, controller: bool = True) -> Pod:
    owner = OwnerReference(api_version=api_version, kind=kind, name="api", uid="owner", controller=controller)
    pod = live()
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, owner_references=(owner,)))


def granted(**status: Any) -> WorkloadGrant:
    """The pod's grant, in that state."""
    grant, _ = active()
    return msgspec.structs.replace(grant, status=msgspec.convert(status, type(grant.status)))


ENDED = granted(state="Revoked", reason="ReceiptMissing")


def test_a_pod_with_an_active_grant_lacks_nothing() -> None:
    assert not lacks_identity(live(), [POLICY], [granted(state="Active", reason="Admitted")])
    assert not lacks_identity(live(), [POLICY], [ENDED, granted(state="Active", reason="Admitted")])


@pytest.mark.parametrize("grants", [[], [ENDED], [granted(state="Suspended", reason="NotAdmitted")]])
def test_a_pod_without_one_does(grants: list[WorkloadGrant]) -> None:
    assert lacks_identity(live(), [POLICY], grants)


def test_nobody_lacks_what_no_policy_gives() -> None:
    assert not lacks_identity(live(), [], [])
    assert not lacks_identity(live(), [cluster_policy()], [ENDED])


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_is_over_needs_none(phase: str) -> None:
    assert not lacks_identity(changed(live(), phase=phase), [POLICY], [])


def test_a_pod_that_is_going_needs_none() -> None:
    assert not lacks_identity(changed(live(), deletion_timestamp=stamp(5)), [POLICY], [])


@pytest.mark.parametrize("kind", ["ReplicaSet", "StatefulSet", "DaemonSet"])
def test_what_its_controller_makes_again_may_be_restarted(kind: str) -> None:
    assert obstacle(owned(kind), [ENDED]) == ""


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        (live(), "nothing would make it again"),
        (owned(controller=False), "nothing would make it again"),
        (owned("Job", "batch/v1"), "a Job makes another"),
        (owned("ReplicaSet", "example.com/v1"), "a ReplicaSet makes another"),
        (owned("Database", "example.com/v1"), "a Database makes another"),
    ],
)
def test_what_is_not_known_to_come_back_is_not(pod: Pod, told: str) -> None:
    assert told in obstacle(pod, [ENDED])


@pytest.mark.parametrize("grants", [[], [granted()]])
def test_what_nobody_has_judged_is_not(grants: list[WorkloadGrant]) -> None:
    assert "not judged it yet" in obstacle(owned(), grants)


@pytest.mark.parametrize("reason", sorted(set(get_args(RevokedReason)) - CURED_BY_RESTART))
def test_what_somebody_ended_or_did_is_for_a_person_to_look_at(reason: str) -> None:
    assert obstacle(owned(), [granted(state="Revoked", reason=reason)]) == f"look at it first: {reason}"
    assert obstacle(owned(), [ENDED, granted(state="Revoked", reason=reason)])


def test_a_reason_of_another_release_is_for_a_person_to_look_at() -> None:
    assert obstacle(owned(), [granted(state="Revoked", reason="SomethingNew")])
