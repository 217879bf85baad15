"""What a cluster's policies would be with files applied and policies deleted."""

from __future__ import annotations

import msgspec
import pytest
import typer

from countersign.api.audience import ProtectedAudience
from countersign.api.meta import ObjectMeta
from countersign.api.policy import ClusterTrustPolicy, ClusterTrustPolicySpec, TrustPolicy, TrustPolicySpec
from countersign.cli.files.manifests import Declared
from countersign.cli.policy.proposal import propose
from countersign.trust.policies.policy import Policy
from tests.unit.trust.build import audience, cluster_policy, rule, snapshot, trust_policy

GIVEN = snapshot(cluster_policy(), trust_policy())


def as_written(policy: Policy) -> Declared:
    """The policy as a file holds it: without UID, generation and time."""
    meta = ObjectMeta(name=policy.ref.name, namespace=policy.ref.namespace)
    if isinstance(policy.spec, ClusterTrustPolicySpec):
        return ClusterTrustPolicy(metadata=meta, spec=policy.spec)
    assert isinstance(policy.spec, TrustPolicySpec)
    return TrustPolicy(metadata=meta, spec=policy.spec)


def test_what_is_there_already_is_unchanged() -> None:
    found = propose(GIVEN, [as_written(policy) for policy in GIVEN.policies], [])
    assert found.snapshot == GIVEN
    assert set(found.changes.values()) == {"unchanged"}


def test_an_edited_policy_stays_the_same_object_in_its_next_generation() -> None:
    found = propose(GIVEN, [as_written(cluster_policy(images=(rule(keys=(2,)),)))], [])
    changed = found.snapshot.policies[0]
    before = GIVEN.policies[0]
    assert (changed.ref.uid, changed.created, changed.ref.generation) == (before.ref.uid, before.created, 2)
    assert found.changes == {before.ref.uid: "changed"}


def test_a_new_policy_is_the_youngest() -> None:
    found = propose(GIVEN, [as_written(cluster_policy("fresh"))], [])
    fresh = found.snapshot.policies[-1]
    assert found.changes == {fresh.ref.uid: "created"}
    assert all(fresh.created > policy.created for policy in GIVEN.policies)
    assert fresh.ref.uid not in {policy.ref.uid for policy in GIVEN.policies}


def test_a_policy_of_a_namespace_and_one_of_the_cluster_may_have_one_name() -> None:
    found = propose(snapshot(cluster_policy("own"), trust_policy("own")), [], ["payments/own"])
    assert [policy.is_cluster for policy in found.snapshot.policies] == [True]
    found = propose(snapshot(cluster_policy("own"), trust_policy("own")), [], ["own"])
    assert [policy.is_cluster for policy in found.snapshot.policies] == [False]
    assert set(found.changes.values()) == {"deleted"}


def test_an_audience_is_replaced_and_stays_the_same_object() -> None:
    declared = ProtectedAudience(metadata=ObjectMeta(name="ledger"), spec=audience(mode="Audit").spec)
    (found,) = propose(GIVEN, [declared], []).snapshot.audiences
    assert (found.metadata.uid, found.spec.mode) == ("uid-ledger", "Audit")
    other = msgspec.structs.replace(declared, metadata=ObjectMeta(name="mail"))
    assert len(propose(GIVEN, [other], []).snapshot.audiences) == 2


@pytest.mark.parametrize("name", ["nobody", "payments/nobody", "other/own"])
def test_what_is_not_there_cannot_be_deleted(name: str) -> None:
    with pytest.raises(typer.Exit):
        propose(GIVEN, [], [name])
