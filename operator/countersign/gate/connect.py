"""`/validate` on CONNECT: who goes into a pod by exec, attach or port-forward, and what becomes of its identity.

Where the policies say Revoke, the Revocation is in the API server before anybody is let in; if it cannot be written,
nobody is. A pause lets in what Deny refuses, and the identity ends all the same: no pause gives or keeps one.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Final, Protocol

import msgspec
import structlog

from countersign.api.admission import AdmissionRequest
from countersign.api.entry import PodExecOptions
from countersign.api.grant import WorkloadGrant
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.pod import Pod
from countersign.cluster.errors import ClusterError
from countersign.gate.answers import Answer, allow, as_warnings, deny, retry_later
from countersign.gate.app import Asked, Handler
from countersign.gate.claimed import claimed
from countersign.gate.orders import Recorder
from countersign.gate.state import GateState
from countersign.gate.subjects import Subjects, read
from countersign.grants.entry import Entry, may_hold_tokens, nothing_to_enter
from countersign.grants.naming import grant_name
from countersign.runtime.logs import pod_keys
from countersign.trust.orders.reach import ended_by
from countersign.trust.policies.entering import Entering, entering

VERBS: Final = {"exec": "exec", "attach": "attach", "portforward": "port-forward"}
"""Subresources of a pod by which people go into it, and what kubectl calls them."""
OPTIONS: Final = msgspec.json.Decoder(PodExecOptions)

_log = structlog.get_logger()


class EntryReads(Protocol):
    """Live objects; each method raises ClusterError when the API server cannot tell."""

    async def pod(self, namespace: str, name: str, within: float) -> Pod | None:
        """A pod."""

    async def grant(self, namespace: str, name: str, within: float) -> WorkloadGrant | None:
        """A grant."""


class EntryGuard:
    """Answers the reviews of `/validate` on CONNECT."""

    def __init__(
        self,
        state: GateState,
        subjects: Subjects,
        reads: EntryReads,
        recorder: Recorder,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._subjects = subjects
        self._reads = reads
        self._recorder = recorder
        self._clock = clock

    def routes(self) -> dict[Asked, Handler]:
        """What it judges."""
        return {Asked("", "v1", "pods", sub, "CONNECT"): self.connect for sub in VERBS}

    async def connect(self, request: AdmissionRequest, until: float) -> Answer:
        """One exec, attach or port-forward."""
        options = read(request.object, OPTIONS, "what is asked of the pod")
        verb = VERBS[request.sub_resource]
        entry = Entry(verb, request.user_info.username, options.container, next(iter(options.command), ""))
        try:
            pod = await self._reads.pod(request.namespace, request.name, _left(until))
        except ClusterError as error:
            _log.warning("pod cannot be read", review=request.uid, error=str(error))
            return retry_later("PodUnread", f"PodUnread: could not read pod {_name(request)} in time, ask again")
        if pod is None:
            # As the API server would say next. One made in between would be entered with nothing on record.
            return deny(
                "PodUnknown", f'pods "{request.name}" not found', code=HTTPStatus.NOT_FOUND, status_reason="NotFound"
            )
        wanted = await self._response(pod, request.namespace, until)
        if wanted.response == "Allow":
            return allow("EntryAllowed" if wanted.governed else "NotGoverned")
        pause = self._state.paused(self._clock())
        if wanted.response == "Deny" and pause is None:
            return _denied(request, pod, entry, wanted)
        if not may_hold_tokens(pod):
            return allow("NoIdentity")
        nothing = nothing_to_enter(pod, options.container, by_container=request.sub_resource != "portforward")
        if nothing:
            return deny(
                "NothingToEnter",
                f"NothingToEnter: pod {_name(request)}: {nothing}",
                code=HTTPStatus.BAD_REQUEST,
                status_reason="BadRequest",
            )
        return await self._revoke(request, pod, entry, wanted, until)

    async def _response(self, pod: Pod, namespace: str, until: float) -> Entering:
        """By the policies that govern the pod now, or did at its admission: labels are its author's."""
        found = await self._subjects.plain(pod, namespace, None, until)
        policies = {policy.ref.uid: policy for policy in found.policies}
        labels = claimed(pod.metadata.annotations.get(RECEIPT_ANNOTATION, "")).labels
        if labels is not None and labels != pod.metadata.labels:
            # Unverified, since pods outlive the keys of their receipts. More policies can only ask for more.
            before = msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, labels=labels))
            earlier = await self._subjects.plain(before, namespace, None, until)
            policies |= {policy.ref.uid: policy for policy in earlier.policies}
        return entering(policies.values(), namespace)

    async def _revoke(
        self, request: AdmissionRequest, pod: Pod, entry: Entry, wanted: Entering, until: float
    ) -> Answer:
        facts: dict[str, object] = {**_keys(request, pod), "entry": str(entry)}
        try:
            grant = await self._grant(request.namespace, pod, until)
        except ClusterError as error:
            _log.warning("grant cannot be read", review=request.uid, **_keys(request, pod), error=str(error))
            grant = None  # it may hold one: so it is ended
        if grant is not None:
            facts["grant"] = f"{request.namespace}/{grant.metadata.name}"
            snapshot = self._state.snapshot
            if grant.status.state == "Revoked" or ended_by(
                snapshot.revocations, grant, snapshot.system_namespace, node=pod.spec.node_name
            ):
                return Answer(allowed=True, reason="IdentityOver", facts=facts)
        if request.dry_run:
            return allow("DryRun")
        try:
            name = await self._recorder.record(pod, grant, entry, lambda: _left(until))
        except ClusterError as error:
            _log.warning("entry not recorded", review=request.uid, **_keys(request, pod), error=str(error))
            return retry_later(
                "EntryUnrecorded",
                f"EntryUnrecorded: {wanted.policy} ends the identity of pod {_name(request)} before anybody is let in, "
                "and that could not be written to the API server (the gate's log says why). Ask again",
                audit={"entry": "unrecorded", "pod-uid": pod.metadata.uid},
                facts=facts,
            )
        told = [
            f"countersign: the identity of pod {_name(request)} has ended, since somebody goes in "
            f"({wanted.policy}, Revocation {name}). Delete the pod to have one made that has an identity"
        ]
        if wanted.would_deny is not None:
            told.append(f"countersign: {wanted.would_deny} would refuse {entry.verb} if it were enforced")
        return Answer(
            allowed=True,
            reason="IdentityEnded",
            warnings=as_warnings(told),
            audit={
                "entry": "revoked",
                "revocation": f"{request.namespace}/{name}",
                "policy": str(wanted.policy),
                "pod-uid": pod.metadata.uid,
            },
            facts={**facts, "revocation": name},
        )

    async def _grant(self, namespace: str, pod: Pod, until: float) -> WorkloadGrant | None:
        """The pod's own grant. Raises ClusterError."""
        nonce = claimed(pod.metadata.annotations.get(RECEIPT_ANNOTATION, "")).nonce
        found = await self._reads.grant(namespace, grant_name(nonce), _left(until)) if nonce else None
        return found if found is not None and found.spec.pod.uid == pod.metadata.uid else None


def _denied(request: AdmissionRequest, pod: Pod, entry: Entry, wanted: Entering) -> Answer:
    return deny(
        "EntryDenied",
        f"EntryDenied: {wanted.policy} lets nobody into pod {_name(request)}: {entry}. Way out: read its logs, debug a "
        f"copy, which is judged anew (kubectl debug {request.name} -n {request.namespace} --copy-to=NAME "
        "--share-processes=false --profile=restricted), or ask the policy's owner for responses.exec: Revoke",
        audit={"entry": "denied", "policy": str(wanted.policy), "pod-uid": pod.metadata.uid},
        facts={**_keys(request, pod), "entry": str(entry)},
    )


def _keys(request: AdmissionRequest, pod: Pod) -> dict[str, str]:
    return pod_keys(request.namespace, request.name, pod.metadata.uid)


def _name(request: AdmissionRequest) -> str:
    return f"{request.namespace}/{request.name}"


def _left(until: float) -> float:
    return until - asyncio.get_running_loop().time()
