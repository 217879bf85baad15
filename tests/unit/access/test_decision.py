"""The decision at use: each test is named by the step of `decide` that it holds to its word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from countersign.access.claims import NodeClaim
from countersign.access.decision import Asker
from countersign.api.revocation import NodeTarget, ObjectTarget, Target
from tests.unit.access.cases import DIGEST, FLIPS, ISSUED, KEY, NOW, active, grant, pod, revocation


def test_all_conditions_hold_and_the_token_is_active() -> None:
    decision = active().decide()
    assert (decision.active, decision.reason) == (True, "Active")


@pytest.mark.parametrize("name", FLIPS)
def test_one_condition_fails_and_the_token_is_inactive(name: str) -> None:
    reason, flip = FLIPS[name]
    decision = flip(active()).decide()
    assert (decision.active, decision.reason, decision.members) == (False, reason, None)
    assert decision.message


def test_step_3_a_stranger_learns_nothing_of_the_workload() -> None:
    reasons = {
        flip(active())._replace(asker=Asker("evil", "x")).decide().reason
        for name, (_, flip) in FLIPS.items()
        if not name.startswith(("1 ", "2 "))
    }
    assert reasons == {"AskerNotIntrospector"}


def test_step_4_a_clock_a_little_behind_the_api_servers_does_not_matter() -> None:
    case = active()
    ahead = msgspec.structs.replace(
        case.claims, issued_at=int(NOW.timestamp()) + 10, not_before=int(NOW.timestamp()) + 10
    )
    assert case._replace(claims=msgspec.structs.replace(ahead, expires_at=ahead.issued_at + 600)).decide().active


def test_step_4_a_token_lives_to_its_last_second() -> None:
    assert active()._replace(now=datetime.fromtimestamp(ISSUED + 599.999, UTC)).decide().active


def test_step_6_a_pod_in_its_grace_period_is_alive_until_the_grant_says_otherwise() -> None:
    leaving = active()._replace(pod=pod(deletion_at=NOW + timedelta(seconds=1)))
    assert leaving.decide().active
    assert leaving._replace(grant=grant("Revoked")).decide().reason == "GrantRevoked"


def test_step_10_a_grant_made_before_the_pod_was_bound_takes_the_pods_own_node() -> None:
    unbound = msgspec.structs.replace(grant().spec.pod, node_name="")
    case = active()._replace(grant=grant(pod=unbound))
    assert case.decide().active
    elsewhere = msgspec.structs.replace(case.claims, node=NodeClaim("n2"))
    assert case._replace(claims=elsewhere).decide().reason == "PodMismatch"


def test_step_12_a_token_of_exactly_the_granted_lifetime_is_active() -> None:
    case = active()
    assert case.claims.lifetime_seconds == 600
    assert case.decide().active


def test_step_13_a_token_of_the_pods_own_second_is_active() -> None:
    assert active()._replace(pod=pod(created_at=datetime.fromtimestamp(ISSUED + 0.9, UTC))).decide().active


def test_step_15_an_order_about_somebody_else_changes_nothing() -> None:
    others = (
        revocation(Target(pod=ObjectTarget(namespace="payments", name="other"))),
        revocation(Target(node=NodeTarget(name="n2"))),
        revocation(Target(digest=DIGEST), namespace="elsewhere"),
    )
    assert active()._replace(revocations=others).decide().active


def test_step_15_a_node_is_revoked_though_the_grant_is_older_than_the_binding() -> None:
    unbound = msgspec.structs.replace(grant().spec.pod, node_name="")
    case = active()._replace(grant=grant(pod=unbound), revocations=(revocation(Target(node=NodeTarget(name="n1"))),))
    assert case.decide().reason == "Revoked"


def test_an_active_answer_carries_the_standard_members_and_the_evidence() -> None:
    members = active().decide().members
    assert members is not None
    answer = msgspec.json.decode(msgspec.json.encode(members))
    assert answer == {
        "active": True,
        "token_type": "Bearer",
        "username": "system:serviceaccount:payments:api",
        "sub": "system:serviceaccount:payments:api",
        "aud": "ledger.example.com",
        "iss": "https://kubernetes.default.svc.cluster.local",
        "exp": ISSUED + 600,
        "iat": ISSUED,
        "nbf": ISSUED,
        "jti": "b4b2e2d0-7d4e-4a52-9e1a-6a8a9c0c2f11",
        "countersign.dev": {
            "pod": {"namespace": "payments", "name": "api-7d9c", "uid": "pod-uid", "node": "n1"},
            "serviceAccount": {"name": "api", "uid": "sa-uid"},
            "owner": "payments@example.com",
            "policies": [{"kind": "ClusterTrustPolicy", "name": "payments", "uid": "policy-uid", "generation": 3}],
            "grant": {"name": "wg-1", "state": "Active"},
            "images": [
                {
                    "container": "api",
                    "digest": DIGEST,
                    "evidence": [{"policyUID": "policy-uid", "authority": "release", "keyFingerprint": KEY}],
                }
            ],
        },
    }


def test_step_9_a_grant_of_the_verifiers_own_epoch_counts() -> None:
    of_epoch = msgspec.structs.replace(grant(), status=msgspec.structs.replace(grant().status, epoch="e2"))
    assert active()._replace(grant=of_epoch, epoch="e2").decide().active
