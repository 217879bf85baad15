"""Is this token active? The one place where token, pod, grant, revocations and audience are weighed (invariant 2).

The token's signature has been verified, and its issuer is the cluster's own. Then, in this order:

 1. It has exactly one audience.
 2. A ProtectedAudience of that name exists and is accepted.
 3. The asker is one of that audience's introspectors.
 4. It has not expired (no leeway), and `nbf` and `iat` are not in the future (CLOCK_SKEW_SECONDS leeway).
 5. It is bound to a pod, and says on which node.
 6. The pod lives: the very instance that the token names is there, not terminal, and no deletion's grace is over.
 7. The token's namespace, pod, service account and node are those of the live pod.
 8. The pod's grant exists, is of this instance, and is Active.
 9. The grant was judged in this verifier's own epoch (api.epoch).
10. The token's namespace, pod, service account (by UID) and node are those of the grant.
11. The grant lists the audience, by a policy that the grant names.
12. The token lives no longer than the grant lets it (`exp - iat`).
13. The token is not older than its pod.
14. The instance's own lifetime is not over.
15. No TrustException that it rests on is over, whether or not the controller has judged it without by now.
16. No Revocation reaches the grant, whether or not the controller has carried it out yet.
17. Where the audience has rules of its own, one of them admits this use (`access.rules.weigh`, after `decide`).

The first step that does not hold gives the reason. Whatever is unknown, empty or unreadable does not hold.
The asker stands before everything that concerns the workload, so that a stranger's answer depends on nothing of it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from countersign.access.answer import Members, members
from countersign.access.claims import TokenClaims
from countersign.access.epoch import epoch_changed
from countersign.access.pod_view import PodView
from countersign.api import clock
from countersign.api.audience import ProtectedAudience
from countersign.api.exception import TrustException
from countersign.api.grant import GrantState, GrantToken, WorkloadGrant
from countersign.api.meta import condition
from countersign.api.revocation import Revocation
from countersign.trust.orders.exceptions import over
from countersign.trust.orders.reach import ended_by

CLOCK_SKEW_SECONDS: Final = 10
"""How far the API server's clock may be ahead of ours before its fresh tokens look as if they came from the future."""

Reason = Literal[
    "Active",
    "AudienceNotSingle",
    "AudienceUnknown",
    "AudienceNotAccepted",
    "AskerNotIntrospector",
    "TokenExpired",
    "TokenNotYetValid",
    "TokenNotPodBound",
    "PodUnknown",
    "PodTerminal",
    "PodDeleted",
    "PodMismatch",
    "GrantMissing",
    "GrantPending",
    "GrantSuspended",
    "GrantRevoked",
    "EpochChanged",
    "GrantMismatch",
    "AudienceNotGranted",
    "LifetimeTooLong",
    "IssuedBeforePod",
    "GrantExpired",
    "ExceptionEnded",
    "Revoked",
    "NotAllowed",
]

_STATE_REASONS: Final[dict[GrantState | None, Reason]] = {
    None: "GrantPending",
    "Suspended": "GrantSuspended",
    "Revoked": "GrantRevoked",
}


class Asker(msgspec.Struct, frozen=True):
    """The service account that asks, as its own token showed."""

    namespace: str
    name: str


class Decision(msgspec.Struct, frozen=True):
    """The answer to a relying party, and what stays with us."""

    active: bool
    reason: Reason
    message: str
    """One sentence for the log and for whoever may know: what was found, and the way out."""
    members: Members | None = None
    """What an active answer says; None exactly if it is not active."""


def decide(
    claims: TokenClaims,
    *,
    audience: ProtectedAudience | None,
    asker: Asker | None,
    pod: PodView | None,
    grant: WorkloadGrant | None,
    revocations: Sequence[Revocation],
    exceptions: Iterable[TrustException],
    system_namespace: str,
    epoch: str,
    now: datetime,
) -> Decision:
    """Weigh a verified token. `revocations` may hold any that do not reach the grant; none that does may be missing.
    `exceptions`: those that the grant's status names, as far as they exist; others may be among them.

    `audience`, `pod` and `grant` are what the cluster holds under the token's audience and its pod's UID, None if
    nothing is known. `epoch` is the one that counts.
    """
    # 1. exactly one audience
    if len(claims.audiences) != 1:
        return _inactive(
            "AudienceNotSingle",
            f"the token has {len(claims.audiences)} audiences: whoever is given it could pass it on; ask for one alone",
        )
    [name] = claims.audiences

    # 2. a protected audience, accepted
    if audience is None or audience.spec.audience != name:
        return _inactive(
            "AudienceUnknown", f"no ProtectedAudience has the audience {name!r}: create one, or correct it"
        )
    accepted = condition(audience.status.conditions, "Accepted")
    if accepted is None or accepted.status != "True":
        why = accepted.message if accepted else "the controller has not judged it yet"
        return _inactive("AudienceNotAccepted", f"ProtectedAudience {audience.metadata.name} is not accepted: {why}")

    # 3. asked by one who may
    if asker is None or not _may_ask(audience, asker):
        return _inactive(
            "AskerNotIntrospector",
            f"the asker is none of the introspectors of ProtectedAudience {audience.metadata.name}: "
            "its owner may add the asker's service account to spec.introspectors",
        )

    # 4. in time
    seconds = now.timestamp()
    if seconds >= claims.expires_at:
        return _inactive("TokenExpired", "the token has expired: the workload must read its token file again")
    if max(claims.not_before, claims.issued_at) > seconds + CLOCK_SKEW_SECONDS:
        return _inactive("TokenNotYetValid", "the token is from the future: compare this clock with the API server's")

    # 5. bound to a pod on a node
    if claims.pod is None or claims.node is None:
        return _inactive(
            "TokenNotPodBound",
            "the token is not bound to a pod on a node: only tokens that the kubelet fetched for a pod can be active",
        )

    # 6. the pod lives
    if pod is None or pod.uid != claims.pod.uid:
        return _inactive("PodUnknown", f"pod {claims.namespace}/{claims.pod.name} of that UID is gone")
    if pod.terminal:
        return _inactive("PodTerminal", f"pod {pod.namespace}/{pod.name} has ended ({pod.phase})")
    if not pod.alive(now):
        return _inactive("PodDeleted", f"the grace period of the deleted pod {pod.namespace}/{pod.name} is over")

    # 7. the token is the live pod's
    if (
        pod.namespace != claims.namespace
        or pod.name != claims.pod.name
        or pod.service_account != claims.service_account.name
        or pod.node != claims.node.name
    ):
        return _inactive("PodMismatch", "the token's namespace, pod, service account or node is not the live pod's")

    # 8. an Active grant of this instance
    if grant is None or grant.spec.pod.uid != pod.uid:
        return _inactive(
            "GrantMissing",
            f"pod {pod.namespace}/{pod.name} has no grant: no policy gives it one, or it was created around the gate; "
            f"see `countersign explain pod {pod.name} -n {pod.namespace}`",
        )
    if grant.status.state != "Active":
        return _inactive(
            _STATE_REASONS.get(grant.status.state, "GrantPending"),
            f"grant {grant.metadata.namespace}/{grant.metadata.name} is {grant.status.state or 'not judged yet'}: "
            f"{grant.status.reason} {grant.status.message}".rstrip(),
        )

    # 9. of this epoch
    if grant.status.epoch != epoch:
        return _inactive("EpochChanged", epoch_changed(grant, epoch))

    # 10. the token is the grant's
    account = grant.spec.service_account
    if (
        grant.metadata.namespace != claims.namespace
        or grant.spec.pod.name != claims.pod.name
        or account.name != claims.service_account.name
        or not account.uid
        or account.uid != claims.service_account.uid
        # A grant may be older than the pod's binding to a node; step 7 has then compared the live pod's node.
        or grant.spec.pod.node_name not in ("", claims.node.name)
    ):
        return _inactive("GrantMismatch", "the token's namespace, pod, service account or node is not the grant's")

    # 11. the grant lists the audience
    token = _token_for(grant, name)
    if token is None:
        return _inactive(
            "AudienceNotGranted",
            f"grant {grant.metadata.namespace}/{grant.metadata.name} does not list {name!r}: "
            "no policy gives it to this workload",
        )

    # 12. no longer than allowed
    if not 0 < claims.lifetime_seconds <= token.max_expiration_seconds:
        return _inactive(
            "LifetimeTooLong",
            f"the token lives {claims.lifetime_seconds} s, the grant allows {token.max_expiration_seconds} s",
        )

    # 13. no older than the pod; both times come from the API server in whole seconds
    if claims.issued_at < int(pod.created_at.timestamp()):
        return _inactive("IssuedBeforePod", "the token is older than its pod: compare the API servers' clocks")

    # 14. within the instance's lifetime
    if grant.spec.expires_at and not _is_before(now, grant.spec.expires_at):
        return _inactive(
            "GrantExpired", f"the instance's lifetime was over at {grant.spec.expires_at}: replace the pod"
        )

    # 15. not by an exception that is over
    ended = over(grant.status.exceptions, exceptions, now)
    if ended:
        return _inactive(
            "ExceptionEnded",
            f"TrustException {ended}, on which the identity rested, is over: replace the pod by one that satisfies its "
            "policies",
        )

    # 16. not revoked
    order = ended_by(revocations, grant, system_namespace, node=pod.node)
    if order is not None:
        return _inactive("Revoked", f"Revocation {order.metadata.namespace}/{order.metadata.name}: {order.spec.reason}")

    return Decision(True, "Active", "every condition holds", members(claims, name, pod, grant))


def _inactive(reason: Reason, message: str) -> Decision:
    return Decision(False, reason, message)


def _may_ask(audience: ProtectedAudience, asker: Asker) -> bool:
    return any((one.namespace, one.name) == (asker.namespace, asker.name) for one in audience.spec.introspectors)


def _token_for(grant: WorkloadGrant, audience: str) -> GrantToken | None:
    named = {policy.uid for policy in grant.spec.policies if policy.uid}
    return next((one for one in grant.spec.tokens if one.audience == audience and one.policy_uid in named), None)


def _is_before(now: datetime, end: str) -> bool:
    try:
        return now < clock.parse(end)
    except ValueError:
        return False
