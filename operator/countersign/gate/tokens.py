"""`/validate` on `serviceaccounts/token`: a protected audience is minted for pods whose grant lists it.

Everything is read live: a watch of all pods and grants would cost each gate what the verifier is there for, and the
controller's webhook configurations send only requests for protected audiences here.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Protocol

import msgspec
import structlog

from countersign.access.minting import YOUNG_POD_SECONDS, Judged, MintDecision, judge_mint
from countersign.access.pod_view import PodView, view
from countersign.api.admission import AdmissionRequest, TokenRequest
from countersign.api.grant import WorkloadGrant
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.pod import Pod
from countersign.cluster.errors import ClusterError
from countersign.gate.answers import Answer, allow, as_warnings, deny, malformed, retry_later
from countersign.gate.app import Asked, Handler
from countersign.gate.claimed import claimed
from countersign.gate.decisions import MAX_UID
from countersign.gate.metrics import GateMetrics
from countersign.gate.receipts import Receipts
from countersign.gate.state import GateState
from countersign.gate.subjects import Subjects, read
from countersign.grants.entry import ends_instance
from countersign.grants.judgement import SpentReceipt, judge_instance
from countersign.grants.naming import grant_name, refused_name
from countersign.keys.receipts import receipt_hash
from countersign.trust.verdicts.denial import clean

MAX_NAME: Final = 320
"""Characters of a namespace, a slash and a name."""
TOKEN: Final = msgspec.json.Decoder(TokenRequest)

_log = structlog.get_logger()


class MintReads(Protocol):
    """Live objects; each method raises ClusterError when the API server cannot tell."""

    async def pod(self, namespace: str, name: str, within: float) -> Pod | None:
        """A pod."""

    async def grant(self, namespace: str, name: str, within: float) -> WorkloadGrant | None:
        """A grant."""


class TokenGuard:
    """Answers the reviews of `/validate` on TokenRequests."""

    def __init__(
        self,
        state: GateState,
        subjects: Subjects,
        receipts: Receipts,
        reads: MintReads,
        *,
        metrics: GateMetrics,
        clock: Callable[[], datetime],
        epoch: str = "",
    ) -> None:
        self._state = state
        self._subjects = subjects
        self._receipts = receipts
        self._reads = reads
        self._metrics = metrics
        self._clock = clock
        self._epoch = epoch

    def routes(self) -> dict[Asked, Handler]:
        """What it judges."""
        return {Asked("", "v1", "serviceaccounts", "token", "CREATE"): self.create}

    async def create(self, request: AdmissionRequest, until: float) -> Answer:
        """One TokenRequest."""
        asked = read(request.object, TOKEN, "the TokenRequest")
        if asked.metadata.name != request.name:
            return malformed(f"the TokenRequest is for {asked.metadata.name!r}, the request for {request.name!r}")
        # Most refusals need no look at the cluster; one that goes on to ask for the pod comes back as PodUnknown.
        decision = self._judge(request, asked, None, None)
        grant = None
        if decision.reason == "NotProtected" and self._state.audiences_unreadable:
            return retry_later(
                "AudienceUnreadable",
                "AudienceUnreadable: a ProtectedAudience cannot be read by this release of Countersign's gate, and "
                "it may be the one asked for: update Countersign, or correct the object",
            )
        if decision.reason == "PodUnknown" and asked.spec.bound_object_ref is not None:
            try:
                pod = await self._reads.pod(request.namespace, asked.spec.bound_object_ref.name, _left(until))
                grant = await self._grant(request, asked, pod, until) if pod is not None else None
            except ClusterError as error:
                keys = _correlation(request, asked, None)
                _log.warning("pod or grant cannot be read", review=request.uid, **keys, error=str(error))
                return self._unreadable(request, asked, keys)
            decision = self._judge(request, asked, pod, grant)
        return self._answer(request, decision, _correlation(request, asked, grant))

    def _judge(
        self, request: AdmissionRequest, asked: TokenRequest, pod: Pod | None, grant: WorkloadGrant | Judged | None
    ) -> MintDecision:
        snapshot = self._state.snapshot
        return judge_mint(
            asked,
            request.user_info,
            namespace=request.namespace,
            audiences=snapshot.audiences,
            pod=_view(pod),
            grant=grant,
            revocations=snapshot.revocations,
            exceptions=snapshot.exceptions,
            system_namespace=snapshot.system_namespace,
            epoch=self._epoch,
            now=self._clock(),
        )

    async def _grant(
        self, request: AdmissionRequest, asked: TokenRequest, pod: Pod, until: float
    ) -> WorkloadGrant | Judged | None:
        """The pod's grant; for a young pod whose grant is still to come, our own judgement of it."""
        text = pod.metadata.annotations.get(RECEIPT_ANNOTATION, "")
        nonce = claimed(text).nonce
        found = await self._reads.grant(request.namespace, grant_name(nonce), _left(until)) if nonce else None
        if found is None:
            found = await self._reads.grant(request.namespace, refused_name(pod.metadata.uid), _left(until))
        if found is not None and (found.status.state is not None or found.spec.pod.uid != pod.metadata.uid):
            return found
        seen = _view(pod)
        if seen is None or (self._clock() - seen.created_at).total_seconds() > YOUNG_POD_SECONDS:
            return found
        return await self._judged(request, asked, pod, text, until)

    async def _judged(
        self, request: AdmissionRequest, asked: TokenRequest, pod: Pod, text: str, until: float
    ) -> Judged:
        snapshot = self._state.snapshot
        for order in snapshot.revocations:
            if ends_instance(order, pod, None, snapshot.system_namespace):
                return Judged(problem=f"Revocation {order.metadata.namespace}/{order.metadata.name} ended its identity")
        carried = self._receipts.signed(pod)
        if carried.receipt is None:
            return Judged(problem=f"its admission receipt does not count: {carried.problem or 'it has none'}")
        found = await self._subjects.of(pod, request.namespace, None, until)
        made = judge_instance(
            snapshot,
            found.subject,
            SpentReceipt(carried.receipt, receipt_hash(text)),
            asked.metadata.uid,
            self._clock(),
        )
        if made is None:
            return Judged(problem="no policy governs it")
        if made.refusal is not None:
            return Judged(problem=made.refusal.message)
        if not made.qualification.qualifies:
            return Judged(problem=made.qualification.message)
        return Judged(tokens=made.spec.tokens, expires_at=made.spec.expires_at)

    def _answer(self, request: AdmissionRequest, decision: MintDecision, keys: Mapping[str, str]) -> Answer:
        if decision.reason == "NotProtected":
            return allow("NotProtected")
        refused = not decision.allowed
        if (refused or decision.would_refuse) and not request.dry_run:
            for audience in decision.audiences:
                self._metrics.ungranted(audience, refused=refused)
        audit = {
            "mint": "refused" if refused else "would-refuse" if decision.would_refuse else "allowed",
            "reason": decision.reason,
            "audiences": ", ".join(decision.audiences),
            **_annotations(keys),
        }
        facts = {"audiences": list(decision.audiences), **keys}
        if refused:
            return deny(decision.reason, decision.message, audit=audit, facts=facts)
        warnings = as_warnings((f"countersign: {decision.message}",)) if decision.would_refuse else ()
        return Answer(allowed=True, reason=decision.reason, warnings=warnings, audit=audit, facts=facts)

    def _unreadable(self, request: AdmissionRequest, asked: TokenRequest, keys: Mapping[str, str]) -> Answer:
        """Nothing can be told: where every audience only counts, this one is not counted and goes through."""
        named = [one for one in self._state.snapshot.audiences if one.spec.audience in asked.spec.audiences]
        audit = {"mint": "unknown", "audiences": ", ".join(one.spec.audience for one in named), **_annotations(keys)}
        if all(one.spec.mode == "Audit" for one in named):
            return Answer(allowed=True, reason="GrantUnread", audit=audit, facts=keys)
        return retry_later(
            "GrantUnread",
            f"GrantUnread: could not read the pod of account {request.namespace}/{request.name} or its grant in time, "
            "ask again",
            audit=audit,
            facts=keys,
        )


def _correlation(
    request: AdmissionRequest, asked: TokenRequest, grant: WorkloadGrant | Judged | None
) -> dict[str, str]:
    """What joins this request with others: the pod that it names, whether or not it is there, and that one's grant.

    The API server's own line in the audit log has the account, and the id of the token that came of it.
    """
    bound = asked.spec.bound_object_ref
    keys = {}
    if bound is not None and bound.kind == "Pod":
        keys["pod"] = clean(f"{request.namespace}/{bound.name}", MAX_NAME)
        keys["pod_uid"] = clean(bound.uid, MAX_UID)
    if isinstance(grant, WorkloadGrant):
        keys["grant"] = f"{grant.metadata.namespace}/{grant.metadata.name}"
    return keys


def _annotations(keys: Mapping[str, str]) -> dict[str, str]:
    return {key.replace("_", "-"): value for key, value in keys.items()}


def _view(pod: Pod | None) -> PodView | None:
    try:
        return view(pod) if pod is not None else None
    except ValueError:
        return None


def _left(until: float) -> float:
    return until - asyncio.get_running_loop().time()
