"""May this token be minted? The stateful half of minting, asked by the gate for CREATE on `serviceaccounts/token`.

Only the kubelet may ask for a protected audience, for a pod that runs on its own node and holds the grant; no person is
ever given one (with the built-in `edit` role alone, a person could otherwise mint a ten-year token bound to somebody
else's pod). In this order:

 1. The audience stands alone.
 2. The asker is a node.
 3. The token is to be bound to a pod, named with its UID.
 4. It is to live no longer than the audience allows.
 5. The pod is there, of that UID, runs under this service account, and on the asking node.
 6. The pod has not ended.
 7. The pod's grant is Active, judged in the epoch that counts, of this pod and account, and rests on no exception that
    is over; or (a pod so young that its grant may not be written yet) the gate's own judgement gives it tokens.
 8. They list the audience, for at least the lifetime that is asked for.

The first step that does not hold refuses, with a message for whoever reads the kubelet's or kubectl's error.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from countersign.access.epoch import epoch_changed
from countersign.access.pod_view import PodView
from countersign.api import clock
from countersign.api.admission import BoundObjectReference, TokenRequest, UserInfo
from countersign.api.audience import ProtectedAudience
from countersign.api.exception import TrustException
from countersign.api.grant import GrantState, GrantToken, WorkloadGrant
from countersign.api.revocation import Revocation
from countersign.trust.orders.exceptions import over
from countersign.trust.orders.reach import ended_by

YOUNG_POD_SECONDS: Final = 60
"""How old a pod may be for the gate to judge it itself, instead of making the kubelet wait for the grant."""

NODE_PREFIX: Final = "system:node:"
NODES_GROUP: Final = "system:nodes"
"""How the node authorizer knows a kubelet (kubernetes.io/docs, using node authorization)."""

MintReason = Literal[
    "NotProtected",
    "Granted",
    "Judged",
    "AudienceNotAlone",
    "AskerNotNode",
    "NotPodBound",
    "DurationTooLong",
    "PodUnknown",
    "PodMismatch",
    "PodEnded",
    "GrantMissing",
    "GrantNotActive",
    "EpochChanged",
    "GrantMismatch",
    "GrantExpired",
    "ExceptionEnded",
    "Revoked",
    "AudienceNotGranted",
]

_EXPLAIN = "see `countersign explain pod {name} -n {namespace}`"


class Judged(msgspec.Struct, frozen=True):
    """The gate's own judgement of a pod whose grant is not there yet: what that would list, or why there is none."""

    tokens: tuple[GrantToken, ...] = ()
    problem: str = ""
    """What withholds the tokens; empty if nothing does."""
    expires_at: str | None = None


class MintDecision(msgspec.Struct, frozen=True):
    """The verdict on one TokenRequest."""

    allowed: bool
    reason: MintReason
    message: str
    """For the asker: what was expected, what was found, and the way out."""
    would_refuse: bool = False
    """Allowed only because every protected audience that it names is in mode Audit: to be counted, and warned about."""
    audiences: tuple[str, ...] = ()
    """The protected audiences that it names."""


class _Refusal(Exception):  # noqa: N818 - a way out of the steps, never seen outside
    def __init__(self, reason: MintReason, message: str) -> None:
        super().__init__(message)
        self.reason: MintReason = reason
        self.message = message


def judge_mint(
    request: TokenRequest,
    user: UserInfo,
    *,
    namespace: str,
    audiences: Iterable[ProtectedAudience],
    pod: PodView | None,
    grant: WorkloadGrant | Judged | None,
    revocations: Sequence[Revocation],
    exceptions: Iterable[TrustException],
    system_namespace: str,
    epoch: str,
    now: datetime,
) -> MintDecision:
    """Judge a TokenRequest as it stands at validating admission (its metadata are the service account's).

    `audiences`, `exceptions`: every one that exists, accepted and in force or not. `pod` and `grant`: what the cluster
    holds under the pod that the request is bound to; a Judged counts only for a pod younger than YOUNG_POD_SECONDS.
    """
    protected = [one for one in audiences if one.spec.audience in request.spec.audiences]
    if not protected:
        return MintDecision(True, "NotProtected", "no audience of this request is protected")
    names = tuple(dict.fromkeys(one.spec.audience for one in protected))
    try:
        _alone(request)
        node = _asking_node(user)
        bound = _bound_pod(request)
        _within_audience(request, protected)
        live = _live_pod(request, bound, pod, namespace=namespace, node=node)
        _not_ended(live, now)
        tokens, reason = _tokens(
            request,
            live,
            grant,
            revocations=revocations,
            exceptions=exceptions,
            system_namespace=system_namespace,
            epoch=epoch,
            now=now,
        )
        _listed(request, live, tokens)
    except _Refusal as refusal:
        audited = all(one.spec.mode == "Audit" for one in protected)
        message = f"{refusal.reason}: {refusal.message}"
        return MintDecision(audited, refusal.reason, message, would_refuse=audited, audiences=names)
    return MintDecision(True, reason, "the pod's grant lists the audience", audiences=names)


def _alone(request: TokenRequest) -> None:
    # 1.
    if len(request.spec.audiences) != 1:
        raise _Refusal(
            "AudienceNotAlone",
            f"a protected audience must be the only one, and this request names {len(request.spec.audiences)}: "
            "whoever is given the token could use it elsewhere. Ask for one token for each audience",
        )


def _asking_node(user: UserInfo) -> str:
    # 2.
    name = user.username.removeprefix(NODE_PREFIX)
    if NODES_GROUP not in user.groups or name == user.username or not name:
        raise _Refusal(
            "AskerNotNode",
            f"{user.username!r} is not a node: the kubelet fetches the tokens of a protected audience, for a pod that "
            "holds a grant, and no person or controller is given one. Run the workload as a pod that a trust policy "
            "gives this audience",
        )
    return name


def _bound_pod(request: TokenRequest) -> BoundObjectReference:
    # 3.
    bound = request.spec.bound_object_ref
    if bound is None or (bound.api_version, bound.kind) != ("v1", "Pod") or not bound.name or not bound.uid:
        raise _Refusal("NotPodBound", "the token must be bound to a Pod: give boundObjectRef with kind, name and uid")
    return bound


def _within_audience(request: TokenRequest, protected: Sequence[ProtectedAudience]) -> None:
    # 4.
    limit = min(one.spec.issuance.max_expiration_seconds for one in protected)
    if not 0 < request.spec.expiration_seconds <= limit:
        raise _Refusal(
            "DurationTooLong",
            f"the token would live {request.spec.expiration_seconds} s, and ProtectedAudience "
            f"{protected[0].metadata.name} allows {limit} s: lower expirationSeconds",
        )


def _live_pod(
    request: TokenRequest, bound: BoundObjectReference, pod: PodView | None, *, namespace: str, node: str
) -> PodView:
    # 5.
    if pod is None or pod.uid != bound.uid:
        raise _Refusal("PodUnknown", f"there is no pod {namespace}/{bound.name} of UID {bound.uid}")
    account = request.metadata.name
    if (pod.namespace, pod.name) != (namespace, bound.name) or pod.service_account != account:
        raise _Refusal(
            "PodMismatch",
            f"pod {pod.namespace}/{pod.name} runs under service account {pod.service_account}, "
            f"not {namespace}/{account}",
        )
    if pod.node != node:
        raise _Refusal(
            "PodMismatch",
            f"pod {namespace}/{pod.name} runs on node {pod.node or 'none yet'}: {node} may not ask for it",
        )
    return pod


def _not_ended(pod: PodView, now: datetime) -> None:
    # 6.
    if not pod.alive(now):
        raise _Refusal("PodEnded", f"pod {pod.namespace}/{pod.name} has ended, and its identity with it")


def _tokens(
    request: TokenRequest,
    pod: PodView,
    grant: WorkloadGrant | Judged | None,
    *,
    revocations: Sequence[Revocation],
    exceptions: Iterable[TrustException],
    system_namespace: str,
    epoch: str,
    now: datetime,
) -> tuple[tuple[GrantToken, ...], MintReason]:
    # 7.
    where = _EXPLAIN.format(name=pod.name, namespace=pod.namespace)
    if isinstance(grant, Judged):
        if (now - pod.created_at).total_seconds() > YOUNG_POD_SECONDS:
            raise _Refusal("GrantMissing", f"pod {pod.namespace}/{pod.name} has no grant; {where}")
        if grant.problem:
            raise _Refusal("GrantMissing", f"pod {pod.namespace}/{pod.name}: {grant.problem}; {where}")
        _not_over(grant.expires_at, now)
        return grant.tokens, "Judged"
    if grant is None:
        raise _Refusal("GrantMissing", f"pod {pod.namespace}/{pod.name} has no grant; {where}")
    account = grant.spec.service_account
    if (
        grant.metadata.namespace != pod.namespace
        or grant.spec.pod.uid != pod.uid
        or account.name != request.metadata.name
        or not account.uid
        or account.uid != request.metadata.uid
        or grant.spec.pod.node_name not in ("", pod.node)
    ):
        raise _Refusal(
            "GrantMismatch",
            f"grant {grant.metadata.name} is of another instance, service account or node than pod "
            f"{pod.namespace}/{pod.name} now has: replace the pod",
        )
    _active(grant, grant.status.state)
    if grant.status.epoch != epoch:
        raise _Refusal("EpochChanged", epoch_changed(grant, epoch))
    _not_over(grant.spec.expires_at, now)
    ended = over(grant.status.exceptions, exceptions, now)
    if ended:
        raise _Refusal("ExceptionEnded", f"TrustException {ended}, on which the identity rested, is over; {where}")
    order = ended_by(revocations, grant, system_namespace, node=pod.node)
    if order is not None:
        raise _Refusal("Revoked", f"Revocation {order.metadata.namespace}/{order.metadata.name} ended this identity")
    return grant.spec.tokens, "Granted"


def _active(grant: WorkloadGrant, state: GrantState | None) -> None:
    if state != "Active":
        raise _Refusal(
            "GrantNotActive",
            f"grant {grant.metadata.name} is {state or 'not judged yet'}"
            f" ({grant.status.reason or 'no reason given'}): {grant.status.message or 'ask again in a moment'}",
        )


def _not_over(expires_at: str | None, now: datetime) -> None:
    if not expires_at:
        return
    try:
        over = now >= clock.parse(expires_at)
    except ValueError:
        over = True
    if over:
        raise _Refusal("GrantExpired", f"the instance's lifetime was over at {expires_at}: replace the pod")


def _listed(request: TokenRequest, pod: PodView, tokens: Sequence[GrantToken]) -> None:
    # 8.
    [audience] = request.spec.audiences
    limit = max((one.max_expiration_seconds for one in tokens if one.audience == audience), default=None)
    if limit is None:
        where = _EXPLAIN.format(name=pod.name, namespace=pod.namespace)
        raise _Refusal("AudienceNotGranted", f"no policy gives {audience!r} to pod {pod.namespace}/{pod.name}; {where}")
    if request.spec.expiration_seconds > limit:
        raise _Refusal(
            "DurationTooLong",
            f"the token would live {request.spec.expiration_seconds} s, and the pod's grant allows {limit} s",
        )
