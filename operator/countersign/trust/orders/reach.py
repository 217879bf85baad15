"""Which grants a Revocation ends. Gate, controller and verifier ask here, so that none has to wait for another.

One-shot targets (grant, pod, node, service account, namespace) end the instances that existed when the order was
given; standing ones (digest, key, signer) every instance that rests on them, now and later. Where something cannot be
told, the order reaches.
"""

from collections.abc import Callable, Iterable

from countersign.api import clock
from countersign.api.grant import GrantEvidence, GrantImage, WorkloadGrant
from countersign.api.revocation import ObjectTarget, Revocation
from countersign.trust.orders.standing import reaches


def ends(revocation: Revocation, grant: WorkloadGrant, system_namespace: str, *, node: str = "") -> bool:
    """Whether the order ends this grant. `node`: where the pod now is, since a grant may be older than its binding."""
    if not reaches(revocation, grant.metadata.namespace, system_namespace):
        return False
    target = revocation.spec.target
    if target.digest is not None:
        return any(target.digest in (image.digest, *image.runtime_digests) for image in grant.spec.images)
    if target.key_fingerprint is not None:
        key = target.key_fingerprint
        return any(_rests_on(image, lambda one: one.key_fingerprint == key) for image in grant.spec.images)
    if target.signer is not None:
        signer = (target.signer.issuer, target.signer.subject)
        return any(_rests_on(image, lambda one: (one.issuer, one.subject) == signer) for image in grant.spec.images)
    pod, account = grant.spec.pod, grant.spec.service_account
    if target.pod is not None and target.pod.uid:
        # One instance and no other. By the times of two API servers, an order could be older than what it names.
        return _named(target.pod, revocation, grant, pod.name, pod.uid)
    if not _existed(grant, revocation):
        return False
    if target.grant is not None:
        return _named(target.grant, revocation, grant, grant.metadata.name, grant.metadata.uid)
    if target.pod is not None:
        return _named(target.pod, revocation, grant, pod.name, pod.uid)
    if target.service_account is not None:
        return _named(target.service_account, revocation, grant, account.name, account.uid)
    if target.node is not None:
        return target.node.name in (pod.node_name, node)
    if target.namespace is not None:
        return target.namespace.name == grant.metadata.namespace
    # A member that this release does not know: an order was given, and it cannot be told that it spares this grant.
    return True


def ended_by(
    revocations: Iterable[Revocation], grant: WorkloadGrant, system_namespace: str, *, node: str = ""
) -> Revocation | None:
    """The first of the orders that ends this grant, if one does."""
    return next((one for one in revocations if ends(one, grant, system_namespace, node=node)), None)


def _rests_on(image: GrantImage, revoked: Callable[[GrantEvidence], bool]) -> bool:
    """Whether something that a rule asked for has nothing left to go by, once that evidence no longer counts.

    A rule asks for a signature and for each of its attestations, each of these on the image or on every platform.
    """
    asked: dict[tuple[str, str, str, str], bool] = {}
    for one in image.evidence:
        of = (one.policy_uid, one.rule, one.attestation, one.signed_digest)
        asked[of] = asked.get(of, True) and revoked(one)
    return any(asked.values())


def _existed(grant: WorkloadGrant, revocation: Revocation) -> bool:
    # Both times are whole seconds: a pod of the same second counts as one that was there.
    try:
        return clock.parse(grant.spec.pod.created_at) <= clock.parse(revocation.metadata.creation_timestamp or "")
    except ValueError:
        return True


def _named(target: ObjectTarget, revocation: Revocation, grant: WorkloadGrant, name: str, uid: str) -> bool:
    return (
        (target.namespace or revocation.metadata.namespace) == grant.metadata.namespace
        and target.name == name
        and target.uid in ("", uid)
    )
