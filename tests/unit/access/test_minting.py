"""The decision at minting: each refusal is named by the step of `judge_mint`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest

from countersign.access.minting import Judged, MintDecision, judge_mint
from countersign.access.pod_view import PodView
from countersign.api.admission import BoundObjectReference, TokenRequest, TokenRequestSpec, UserInfo
from countersign.api.audience import ProtectedAudience
from countersign.api.clock import format_time
from countersign.api.exception import TrustException
from countersign.api.grant import GrantServiceAccount, GrantToken, WorkloadGrant
from countersign.api.meta import ObjectMeta
from countersign.api.revocation import Revocation, Target
from tests.unit.access.cases import AUDIENCE, DIGEST, NOW, SYSTEM, audience, grant, pod, resting, revocation

KUBELET = UserInfo(username="system:node:n1", groups=("system:nodes", "system:authenticated"))
BOUND = BoundObjectReference(kind="Pod", api_version="v1", name="api-7d9c", uid="pod-uid")
LIVE, GRANT = pod(), grant()
TOKENS = (GrantToken(audience=AUDIENCE, policy_uid="policy-uid", max_expiration_seconds=600),)


class Asked(NamedTuple):
    audiences: tuple[str, ...] = (AUDIENCE,)
    seconds: int = 600
    bound: BoundObjectReference | None = BOUND
    user: UserInfo = KUBELET
    protected: tuple[ProtectedAudience, ...] = (audience(), audience(name="vault"))
    pod: PodView | None = LIVE
    grant: WorkloadGrant | Judged | None = GRANT
    revocations: tuple[Revocation, ...] = ()
    exceptions: tuple[TrustException, ...] = ()
    account: ObjectMeta = ObjectMeta(name="api", namespace="payments", uid="sa-uid")
    epoch: str = ""

    def judge(self) -> MintDecision:
        spec = TokenRequestSpec(audiences=self.audiences, expiration_seconds=self.seconds, bound_object_ref=self.bound)
        return judge_mint(
            TokenRequest(metadata=self.account, spec=spec),
            self.user,
            namespace="payments",
            audiences=self.protected,
            pod=self.pod,
            grant=self.grant,
            revocations=self.revocations,
            exceptions=self.exceptions,
            system_namespace=SYSTEM,
            epoch=self.epoch,
            now=NOW,
        )


def bound(**changes: Any) -> BoundObjectReference:
    return msgspec.structs.replace(BOUND, **changes)


EDITOR = UserInfo(username="jane", groups=("developers", "system:authenticated"))
CASES: dict[str, tuple[str, Asked]] = {
    "1 two audiences": ("AudienceNotAlone", Asked(audiences=(AUDIENCE, "other"))),
    "1 two protected audiences": ("AudienceNotAlone", Asked(audiences=(AUDIENCE, "vault"))),
    "1 the same audience twice": ("AudienceNotAlone", Asked(audiences=(AUDIENCE, AUDIENCE))),
    "2 a person": ("AskerNotNode", Asked(user=EDITOR)),
    "2 a person who is called like a node": ("AskerNotNode", Asked(user=UserInfo(username="system:node:n1"))),
    "2 a person in the nodes' group": ("AskerNotNode", Asked(user=UserInfo(username="jane", groups=("system:nodes",)))),
    "2 a node without a name": (
        "AskerNotNode",
        Asked(user=UserInfo(username="system:node:", groups=("system:nodes",))),
    ),
    "2 the admin": ("AskerNotNode", Asked(user=UserInfo(username="admin", groups=("system:masters",)))),
    "2 the workload itself": (
        "AskerNotNode",
        Asked(user=UserInfo(username="system:serviceaccount:payments:api", groups=("system:serviceaccounts",))),
    ),
    "3 bound to nothing": ("NotPodBound", Asked(bound=None)),
    "3 bound to a secret": ("NotPodBound", Asked(bound=bound(kind="Secret"))),
    "3 bound to a pod of another API": ("NotPodBound", Asked(bound=bound(api_version="v2"))),
    "3 bound without a UID": ("NotPodBound", Asked(bound=bound(uid=""))),
    "3 bound without a name": ("NotPodBound", Asked(bound=bound(name=""))),
    "4 longer than the audience allows": ("DurationTooLong", Asked(seconds=3601)),
    "4 no time at all": ("DurationTooLong", Asked(seconds=0)),
    "4 ten years": ("DurationTooLong", Asked(seconds=315_360_000)),
    "5 no such pod": ("PodUnknown", Asked(pod=None)),
    "5 another instance": ("PodUnknown", Asked(pod=pod(uid="other"))),
    "5 another pod's name": ("PodMismatch", Asked(pod=pod(name="other"))),
    "5 a pod of another namespace": ("PodMismatch", Asked(pod=pod(namespace="other"))),
    "5 a pod of another account": ("PodMismatch", Asked(pod=pod(service_account="other"))),
    "5 another node's pod": ("PodMismatch", Asked(pod=pod(node="n2"))),
    "5 a pod on no node": ("PodMismatch", Asked(pod=pod(node=""))),
    "6 a pod that succeeded": ("PodEnded", Asked(pod=pod(phase="Succeeded"))),
    "6 a pod that failed": ("PodEnded", Asked(pod=pod(phase="Failed"))),
    "6 a pod whose grace is over": ("PodEnded", Asked(pod=pod(deletion_at=NOW))),
    "7 no grant": ("GrantMissing", Asked(grant=None)),
    "7 a grant in another namespace": ("GrantMismatch", Asked(grant=grant(namespace="other"))),
    "7 another pod's grant": (
        "GrantMismatch",
        Asked(grant=grant(pod=msgspec.structs.replace(grant().spec.pod, uid="other"))),
    ),
    "7 a grant on another node": (
        "GrantMismatch",
        Asked(grant=grant(pod=msgspec.structs.replace(grant().spec.pod, node_name="n2"))),
    ),
    "7 an account made anew": (
        "GrantMismatch",
        Asked(grant=grant(service_account=GrantServiceAccount(name="api", uid="2"))),
    ),
    "7 a grant not judged": ("GrantNotActive", Asked(grant=grant(None))),
    "7 a suspended grant": ("GrantNotActive", Asked(grant=grant("Suspended"))),
    "7 a revoked grant": ("GrantNotActive", Asked(grant=grant("Revoked"))),
    "7 a grant of another epoch": ("EpochChanged", Asked(epoch="2026-restore")),
    "7 a lifetime that is over": ("GrantExpired", Asked(grant=grant(expires_at=format_time(NOW)))),
    "7 a revoked digest": ("Revoked", Asked(revocations=(revocation(Target(digest=DIGEST)),))),
    "7 an exception that is over": ("ExceptionEnded", Asked(grant=resting(0)[0], exceptions=(resting(0)[1],))),
    "7 an exception that is gone": ("ExceptionEnded", Asked(grant=resting()[0])),
    "7 a judgement that withholds": (
        "GrantMissing",
        Asked(grant=Judged(problem="ImageUnsigned"), pod=pod(created_at=NOW)),
    ),
    "7 a judgement of an old pod": ("GrantMissing", Asked(grant=Judged(TOKENS))),
    "8 an audience that is not granted": ("AudienceNotGranted", Asked(grant=grant(tokens=()))),
    "8 longer than the grant allows": ("DurationTooLong", Asked(seconds=601)),
}


def test_the_kubelet_of_a_granted_pod_may_mint() -> None:
    decision = Asked().judge()
    assert (decision.allowed, decision.reason, decision.would_refuse) == (True, "Granted", False)
    assert decision.audiences == (AUDIENCE,)


@pytest.mark.parametrize("name", CASES)
def test_one_condition_fails_and_nothing_is_minted(name: str) -> None:
    reason, asked = CASES[name]
    decision = asked.judge()
    assert (decision.allowed, decision.reason, decision.would_refuse) == (False, reason, False)
    assert decision.message.startswith(f"{reason}: ")
    assert len(decision.message) < 1000


@pytest.mark.parametrize("name", CASES)
def test_an_audited_audience_is_counted_and_not_refused(name: str) -> None:
    reason, asked = CASES[name]
    audited = (audience(mode="Audit"), audience(name="vault", mode="Audit"))
    decision = asked._replace(protected=audited).judge()
    assert (decision.allowed, decision.reason, decision.would_refuse) == (True, reason, True)


def test_one_enforced_audience_among_audited_ones_refuses() -> None:
    mixed = (audience(mode="Audit"), audience(name="vault"))
    assert not Asked(audiences=(AUDIENCE, "vault"), protected=mixed).judge().allowed


@pytest.mark.parametrize("accepted", [None, "False"])
def test_an_audience_that_is_not_accepted_is_protected_all_the_same(accepted: str | None) -> None:
    assert not Asked(user=EDITOR, protected=(audience(accepted=accepted),)).judge().allowed


def test_a_request_without_a_protected_audience_is_none_of_our_business() -> None:
    decision = Asked(audiences=("other",), user=EDITOR, bound=None, seconds=315_360_000).judge()
    assert (decision.allowed, decision.reason, decision.audiences) == (True, "NotProtected", ())


def test_a_pod_just_born_may_mint_by_the_gates_own_judgement() -> None:
    young = pod(created_at=NOW - timedelta(seconds=60))
    decision = Asked(grant=Judged(TOKENS), pod=young).judge()
    assert (decision.allowed, decision.reason) == (True, "Judged")


def test_a_draining_pod_may_still_mint() -> None:
    leaving = pod(deletion_at=NOW + timedelta(seconds=30))
    assert Asked(pod=leaving).judge().allowed


def test_a_person_is_told_what_to_do_instead() -> None:
    message = Asked(user=EDITOR).judge().message
    assert "'jane' is not a node" in message
    assert "Run the workload as a pod" in message
