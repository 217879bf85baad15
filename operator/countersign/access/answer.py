"""What an active answer says: RFC 7662 section 2.2, and one member of our own with the evidence behind it.

`scope` and `client_id` are left out: a service-account token has neither. `username` and `sub` are the name under
which Kubernetes knows the workload.
"""

from typing import Literal

import msgspec

from countersign.access.claims import TokenClaims
from countersign.access.pod_view import PodView
from countersign.api.grant import GrantImage, GrantState, WorkloadGrant


class PodMember(msgspec.Struct, frozen=True):
    """The instance that holds the token."""

    namespace: str
    name: str
    uid: str
    node: str


class ServiceAccountMember(msgspec.Struct, frozen=True):
    """The account that it runs under."""

    name: str
    uid: str


class PolicyMember(msgspec.Struct, frozen=True, omit_defaults=True):
    """A policy that it was judged by, in the state that was judged."""

    kind: Literal["ClusterTrustPolicy", "TrustPolicy"]
    name: str
    uid: str
    generation: int
    namespace: str = ""


class GrantMember(msgspec.Struct, frozen=True):
    """The record: `kubectl get workloadgrant <name> -n <pod's namespace>`."""

    name: str
    state: GrantState


class EvidenceMember(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Who vouched for an image. Names of authorities mean nothing without the policy, and the key or identity."""

    policy_uid: str = msgspec.field(name="policyUID")
    authority: str = ""
    key_fingerprint: str = ""
    digest_listed: bool = False
    issuer: str = ""
    subject: str = ""
    predicate_type: str = ""
    """What was attested; empty: the image was signed."""


class ImageMember(msgspec.Struct, frozen=True):
    """An image of the instance, as verified."""

    container: str
    digest: str
    evidence: tuple[EvidenceMember, ...]


class ExceptionMember(msgspec.Struct, frozen=True, rename="camel"):
    """A TrustException that the identity rests on: some check of its policies was waived."""

    name: str
    checks: tuple[str, ...]
    expires_at: str


class Workload(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The member `countersign.dev`: which instance this is, who answers for it, and on what evidence."""

    pod: PodMember
    service_account: ServiceAccountMember
    owner: str
    policies: tuple[PolicyMember, ...]
    grant: GrantMember
    images: tuple[ImageMember, ...]
    exceptions: tuple[ExceptionMember, ...] = ()


class Members(msgspec.Struct, frozen=True):
    """An active answer, as it is encoded."""

    active: Literal[True]
    token_type: Literal["Bearer"]
    username: str
    sub: str
    aud: str
    iss: str
    exp: int
    iat: int
    nbf: int
    jti: str
    workload: Workload = msgspec.field(name="countersign.dev")


def members(claims: TokenClaims, audience: str, pod: PodView, grant: WorkloadGrant) -> Members:
    """The active answer. Only for a token that every step of the decision has let pass."""
    return Members(
        active=True,
        token_type="Bearer",  # noqa: S106 - RFC 6750's name, not a secret
        username=claims.subject,
        sub=claims.subject,
        aud=audience,
        iss=claims.issuer,
        exp=claims.expires_at,
        iat=claims.issued_at,
        nbf=claims.not_before,
        jti=claims.jti,
        workload=workload(pod, grant),
    )


def workload(pod: PodView, grant: WorkloadGrant) -> Workload:
    """The evidence about one instance."""
    return Workload(
        pod=PodMember(pod.namespace, pod.name, pod.uid, pod.node),
        service_account=ServiceAccountMember(grant.spec.service_account.name, grant.spec.service_account.uid),
        owner=grant.spec.owner,
        policies=tuple(
            PolicyMember(one.kind, one.name, one.uid, one.generation, one.namespace) for one in grant.spec.policies
        ),
        grant=GrantMember(grant.metadata.name, grant.status.state or "Suspended"),
        images=tuple(_image(one) for one in grant.spec.images),
        exceptions=tuple(
            ExceptionMember(one.name, one.checks, one.expires_at)
            for one in grant.status.exceptions
            if one.tokens == "Issue"
        ),
    )


def _image(image: GrantImage) -> ImageMember:
    return ImageMember(
        image.container,
        image.digest,
        tuple(
            EvidenceMember(
                one.policy_uid,
                one.authority,
                one.key_fingerprint,
                one.digest_listed,
                one.issuer,
                one.subject,
                one.predicate_type,
            )
            for one in image.evidence
        ),
    )
