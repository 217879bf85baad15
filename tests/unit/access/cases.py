"""One active case, and every way in which a single condition of it can fail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from countersign.access.claims import NodeClaim, ObjectClaim, TokenClaims
from countersign.access.decision import Asker, Decision, decide
from countersign.access.pod_view import PodView
from countersign.api.audience import Introspector, ProtectedAudience, ProtectedAudienceSpec, ProtectedAudienceStatus
from countersign.api.clock import format_time
from countersign.api.exception import TrustException
from countersign.api.grant import (
    GrantEvidence,
    GrantException,
    GrantImage,
    GrantPod,
    GrantPolicy,
    GrantServiceAccount,
    GrantToken,
    WorkloadGrant,
    WorkloadGrantSpec,
    WorkloadGrantStatus,
)
from countersign.api.meta import Condition, ObjectMeta
from countersign.api.revocation import Revocation, RevocationSpec, Target
from tests.unit.trust.build import exception

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
BORN = NOW - timedelta(minutes=5)
SYSTEM = "countersign-system"
AUDIENCE = "ledger.example.com"
DIGEST = "sha256:" + "ab" * 32
KEY = "sha256:" + "cd" * 32
ISSUED = int((NOW - timedelta(minutes=1)).timestamp())


class Case(NamedTuple):
    """The arguments of `decide`."""

    claims: TokenClaims
    audience: ProtectedAudience | None
    asker: Asker | None
    pod: PodView | None
    grant: WorkloadGrant | None
    revocations: tuple[Revocation, ...]
    now: datetime
    epoch: str = ""
    exceptions: tuple[TrustException, ...] = ()

    def decide(self) -> Decision:
        return decide(
            self.claims,
            audience=self.audience,
            asker=self.asker,
            pod=self.pod,
            grant=self.grant,
            revocations=self.revocations,
            exceptions=self.exceptions,
            system_namespace=SYSTEM,
            epoch=self.epoch,
            now=self.now,
        )


def claims(**changes: Any) -> TokenClaims:
    values: dict[str, Any] = {
        "issuer": "https://kubernetes.default.svc.cluster.local",
        "subject": "system:serviceaccount:payments:api",
        "audiences": (AUDIENCE,),
        "expires_at": ISSUED + 600,
        "issued_at": ISSUED,
        "not_before": ISSUED,
        "jti": "b4b2e2d0-7d4e-4a52-9e1a-6a8a9c0c2f11",
        "namespace": "payments",
        "service_account": ObjectClaim("api", "sa-uid"),
        "pod": ObjectClaim("api-7d9c", "pod-uid"),
        "node": NodeClaim("n1", "node-uid"),
    }
    return TokenClaims(**(values | changes))


def audience(
    *, mode: str = "Enforce", accepted: str | None = "True", name: str = AUDIENCE, max_expiration_seconds: int = 3600
) -> ProtectedAudience:
    conditions = (
        () if accepted is None else (Condition(type="Accepted", status=accepted, reason="R", last_transition_time=""),)  # type: ignore[arg-type]
    )
    made = ProtectedAudience(
        metadata=ObjectMeta(name="ledger"),
        spec=ProtectedAudienceSpec(
            audience=name,
            owner="ledger-team@example.com",
            mode=mode,  # type: ignore[arg-type]
            introspectors=(Introspector(namespace="ledger", name="api"),),
        ),
        status=ProtectedAudienceStatus(conditions=conditions),
    )
    issuance = msgspec.structs.replace(made.spec.issuance, max_expiration_seconds=max_expiration_seconds)
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, issuance=issuance))


def pod(**changes: Any) -> PodView:
    values: dict[str, Any] = {
        "namespace": "payments",
        "name": "api-7d9c",
        "uid": "pod-uid",
        "service_account": "api",
        "node": "n1",
        "phase": "Running",
        "created_at": BORN,
    }
    return PodView(**(values | changes))


def grant(state: str | None = "Active", *, namespace: str = "payments", **changes: Any) -> WorkloadGrant:
    values: dict[str, Any] = {
        "pod": GrantPod(name="api-7d9c", uid="pod-uid", node_name="n1", created_at=format_time(BORN)),
        "service_account": GrantServiceAccount(name="api", uid="sa-uid"),
        "owner": "payments@example.com",
        "policies": (GrantPolicy(kind="ClusterTrustPolicy", name="payments", uid="policy-uid", generation=3),),
        "tokens": (GrantToken(audience=AUDIENCE, policy_uid="policy-uid", max_expiration_seconds=600),),
        "images": (
            GrantImage(
                container="api",
                image=f"registry.example.com/payments/api@{DIGEST}",
                digest=DIGEST,
                evidence=(
                    GrantEvidence(policy_uid="policy-uid", rule="app", authority="release", key_fingerprint=KEY),
                ),
            ),
        ),
    }
    return WorkloadGrant(
        metadata=ObjectMeta(name="wg-1", namespace=namespace, uid="grant-uid"),
        spec=WorkloadGrantSpec(**(values | changes)),
        status=WorkloadGrantStatus(state=state, reason="Because"),  # type: ignore[arg-type]
    )


def revocation(target: Target, *, namespace: str = SYSTEM, at: datetime = NOW) -> Revocation:
    return Revocation(
        metadata=ObjectMeta(name="leak-42", namespace=namespace, creation_timestamp=format_time(at)),
        spec=RevocationSpec(target=target, reason="the key leaked"),
    )


def active() -> Case:
    return Case(claims(), audience(), Asker("ledger", "api"), pod(), grant(), (), NOW)


def _claims(**changes: Any) -> Callable[[Case], Case]:
    return lambda case: case._replace(claims=msgspec.structs.replace(case.claims, **changes))


def _pod(**changes: Any) -> Callable[[Case], Case]:
    return lambda case: case._replace(pod=msgspec.structs.replace(case.pod, **changes) if case.pod else None)


def _spec(**changes: Any) -> Callable[[Case], Case]:
    def flip(case: Case) -> Case:
        if case.grant is None:
            return case
        spec = msgspec.structs.replace(case.grant.spec, **changes)
        return case._replace(grant=msgspec.structs.replace(case.grant, spec=spec))

    return flip


def _with(**changes: Any) -> Callable[[Case], Case]:
    return lambda case: case._replace(**changes)


def _grant_pod(**changes: Any) -> Callable[[Case], Case]:
    made = grant().spec.pod
    return _spec(pod=msgspec.structs.replace(made, **changes))


def resting(
    minutes: float = 60, recorded: float | None = None, *, uid: str = "te-uid", deleted: bool = False, **members: Any
) -> tuple[WorkloadGrant, TrustException]:
    """A grant that rests on an exception: its end in minutes from now, by the object and by the record."""
    end, told = (format_time(NOW + timedelta(minutes=m)) for m in (minutes, minutes if recorded is None else recorded))
    listed = GrantException(name="legacy", uid="te-uid", expires_at=told, **{"tokens": "Issue", **members})
    made = exception("legacy", created="2026-02-28T12:00:00Z", expires=end, uid=uid, deleted=end if deleted else None)
    found = grant()
    return msgspec.structs.replace(found, status=msgspec.structs.replace(found.status, exceptions=(listed,))), made


def _rests(*args: Any, **members: Any) -> Callable[[Case], Case]:
    def flip(case: Case) -> Case:
        found, made = resting(*args, **members)
        return case._replace(grant=found, exceptions=(made,))

    return flip


FLIPS: dict[str, tuple[str, Callable[[Case], Case]]] = {
    "1 two audiences": ("AudienceNotSingle", _claims(audiences=(AUDIENCE, "vault"))),
    "1 the same audience twice": ("AudienceNotSingle", _claims(audiences=(AUDIENCE, AUDIENCE))),
    "1 no audience": ("AudienceNotSingle", _claims(audiences=())),
    "2 unknown audience": ("AudienceUnknown", _with(audience=None)),
    "2 another audience": ("AudienceUnknown", _with(audience=audience(name="vault"))),
    "2 not judged audience": ("AudienceNotAccepted", _with(audience=audience(accepted=None))),
    "2 refused audience": ("AudienceNotAccepted", _with(audience=audience(accepted="False"))),
    "2 doubtful audience": ("AudienceNotAccepted", _with(audience=audience(accepted="Unknown"))),
    "3 unknown asker": ("AskerNotIntrospector", _with(asker=None)),
    "3 asker of another name": ("AskerNotIntrospector", _with(asker=Asker("ledger", "web"))),
    "3 asker of another namespace": ("AskerNotIntrospector", _with(asker=Asker("payments", "api"))),
    "4 expired this second": ("TokenExpired", _claims(expires_at=int(NOW.timestamp()))),
    "4 not yet valid": ("TokenNotYetValid", _claims(not_before=int(NOW.timestamp()) + 11)),
    "4 issued in the future": ("TokenNotYetValid", _claims(issued_at=int(NOW.timestamp()) + 11)),
    "5 not bound to a pod": ("TokenNotPodBound", _claims(pod=None)),
    "5 no node": ("TokenNotPodBound", _claims(node=None)),
    "6 pod is gone": ("PodUnknown", _with(pod=None)),
    "6 another instance": ("PodUnknown", _pod(uid="another")),
    "6 pod succeeded": ("PodTerminal", _pod(phase="Succeeded")),
    "6 pod failed": ("PodTerminal", _pod(phase="Failed")),
    "6 grace is over": ("PodDeleted", _pod(deletion_at=NOW)),
    "7 pod of another name": ("PodMismatch", _pod(name="other")),
    "7 pod in another namespace": ("PodMismatch", _pod(namespace="other")),
    "7 pod under another account": ("PodMismatch", _pod(service_account="other")),
    "7 pod on another node": ("PodMismatch", _pod(node="n2")),
    "7 pod on no node": ("PodMismatch", _pod(node="")),
    "7 token of another node": ("PodMismatch", _claims(node=NodeClaim("n3"))),
    "7 token of another account": ("PodMismatch", _claims(service_account=ObjectClaim("another", "sa-uid"))),
    "7 token of another namespace": ("PodMismatch", _claims(namespace="another")),
    "8 no grant": ("GrantMissing", _with(grant=None)),
    "8 grant of another instance": ("GrantMissing", _grant_pod(uid="another")),
    "8 grant not judged": ("GrantPending", _with(grant=grant(None))),
    "8 grant suspended": ("GrantSuspended", _with(grant=grant("Suspended"))),
    "8 grant revoked": ("GrantRevoked", _with(grant=grant("Revoked"))),
    "9 judged in another epoch": ("EpochChanged", _with(epoch="2026-restore")),
    "9 judged in a former epoch": (
        "EpochChanged",
        _with(grant=msgspec.structs.replace(grant(), status=msgspec.structs.replace(grant().status, epoch="former"))),
    ),
    "10 grant in another namespace": ("GrantMismatch", _with(grant=grant(namespace="third"))),
    "10 grant of another pod name": ("GrantMismatch", _grant_pod(name="third")),
    "10 grant on another node": ("GrantMismatch", _grant_pod(node_name="n4")),
    "10 account of the same name, made anew": (
        "GrantMismatch",
        _claims(service_account=ObjectClaim("api", "sa-uid-2")),
    ),
    "10 grant of another account": (
        "GrantMismatch",
        _spec(service_account=GrantServiceAccount(name="third", uid="sa-uid")),
    ),
    "10 grant without the account's UID": (
        "GrantMismatch",
        lambda case: _claims(service_account=ObjectClaim("api", ""))(
            _spec(service_account=GrantServiceAccount(name="api", uid=""))(case)
        ),
    ),
    "11 audience not granted": ("AudienceNotGranted", _spec(tokens=())),
    "11 granted by a policy that did not judge": (
        "AudienceNotGranted",
        _spec(tokens=(GrantToken(audience=AUDIENCE, policy_uid="other", max_expiration_seconds=600),)),
    ),
    "12 too long": ("LifetimeTooLong", _claims(expires_at=ISSUED + 601)),
    "13 older than the pod": ("IssuedBeforePod", _pod(created_at=datetime.fromtimestamp(ISSUED + 1, UTC))),
    "14 lifetime is over": ("GrantExpired", _spec(expires_at=format_time(NOW))),
    "14 lifetime is unreadable": ("GrantExpired", _spec(expires_at="soon")),
    "15 its exception is over": ("ExceptionEnded", _rests(minutes=-1)),
    "15 its exception is over at this second": ("ExceptionEnded", _rests(minutes=0)),
    "15 its exception was moved earlier": ("ExceptionEnded", _rests(minutes=0, recorded=60)),
    "15 its exception is recorded as over": ("ExceptionEnded", _rests(minutes=60, recorded=0)),
    "15 its exception is being deleted": ("ExceptionEnded", _rests(deleted=True)),
    "15 its exception is gone": ("ExceptionEnded", lambda case: _rests()(case)._replace(exceptions=())),
    "15 another exception of that name": ("ExceptionEnded", _rests(uid="another-uid")),
    "16 digest revoked": ("Revoked", _with(revocations=(revocation(Target(digest=DIGEST)),))),
    "16 key revoked": ("Revoked", _with(revocations=(revocation(Target(key_fingerprint=KEY)),))),
    "16 revoked, whatever an exception says": (
        "Revoked",
        lambda case: _rests()(case)._replace(revocations=(revocation(Target(digest=DIGEST)),)),
    ),
}
