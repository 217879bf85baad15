"""What the cluster knows around a pod: policies in force, controllers, grant, receipt, failures to create it."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from countersign.api.admission import Namespace
from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.exception import TrustException
from countersign.api.grant import WorkloadGrant
from countersign.api.meta import ObjectMeta, OwnerReference
from countersign.api.names import DRY_RUN_RECEIPT, POD_UID_LABEL, RECEIPT_ANNOTATION
from countersign.api.pod import Pod
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.api.revocation import Revocation
from countersign.api.schema import Model
from countersign.cli.cluster.kube import ApiError, Kube
from countersign.cli.cluster.paths import collection
from countersign.cli.pods.workloads import JOB, POD, REPLICA_SET, Kind
from countersign.cli.terminal.exits import note
from countersign.cluster.owners import ControllerLinks, Owned, Resolved, controller_of
from countersign.controller.instances.receipts import remember
from countersign.signatures.roots.known_roots import KnownRoots
from countersign.trust.policies.policy import NamespaceFacts, PolicySnapshot, from_resource
from countersign.trust.receipt import Receipt

LINK_SECONDS: Final = 10.0
MAX_EVENTS: Final = 3
"""Distinct messages that are shown, the latest first."""

_BELOW: Final = {"Deployment": REPLICA_SET, "CronJob": JOB}
"""Kinds whose pods are made by objects that they make."""


class _Involved(Model, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    uid: str = ""


class Event(Model, frozen=True, kw_only=True):
    """An Event (core/v1)."""

    involved_object: _Involved = _Involved()
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None

    @property
    def when(self) -> str:
        """When it last happened."""
        return self.last_timestamp or self.event_time or ""


class ReceiptView(NamedTuple):
    """What the pod's receipt is worth, as far as it can be told without the keys."""

    found: str
    receipt: Receipt | None = None
    """Present if the grant rests on this very receipt: then the controller has verified it."""


def policies_in_force(kube: Kube, namespace: str, system_namespace: str) -> PolicySnapshot:
    """Policies that could govern pods of the namespace, audiences, orders, evidence roots. Raises ApiError."""
    policies: tuple[ClusterTrustPolicy | TrustPolicy, ...] = (
        *kube.items(collection(ClusterTrustPolicy), ClusterTrustPolicy),
        *kube.items(collection(TrustPolicy, namespace), TrustPolicy),
    )
    return PolicySnapshot(
        policies=tuple(from_resource(policy) for policy in policies),
        audiences=tuple(kube.items(collection(ProtectedAudience), ProtectedAudience)),
        revocations=tuple(revocations(kube, dict.fromkeys((namespace, system_namespace)))),
        roots=KnownRoots(evidence_roots(kube)),
        exceptions=tuple(exceptions(kube)),
        system_namespace=system_namespace,
    )


def revocations(kube: Kube, namespaces: Sequence[str] | dict[str, None]) -> Iterator[Revocation]:
    """Orders given in these namespaces; those that may not be read are left out, with a remark."""
    for namespace in namespaces:
        try:
            yield from kube.items(collection(Revocation, namespace), Revocation)
        except ApiError as error:
            if error.status != 403:
                raise
            note(f"judged without the Revocations of {namespace}, which you may not read")


def exceptions(kube: Kube) -> Iterator[TrustException]:
    """TrustExceptions; without them, with a remark, for somebody who may not read them."""
    try:
        yield from kube.items(collection(TrustException), TrustException)
    except ApiError as error:
        if error.status != 403:
            raise
        note("judged without the TrustExceptions, which you may not read")


def evidence_roots(kube: Kube) -> Iterator[EvidenceRoot]:
    """EvidenceRoots; without them, with a remark, for somebody who may not read them: then the built-in one counts."""
    try:
        yield from kube.items(collection(EvidenceRoot), EvidenceRoot)
    except ApiError as error:
        if error.status != 403:
            raise
        note("judged without the EvidenceRoots, which you may not read")


def namespace_facts(kube: Kube, name: str) -> NamespaceFacts:
    """The namespace with its labels. Raises ApiError."""
    found = kube.get(f"/api/v1/namespaces/{name}", Namespace)
    return NamespaceFacts(found.metadata.name, found.metadata.labels)


def top_controller(kube: Kube, namespace: str, owner: OwnerReference | None) -> Resolved:
    """The top of the chain that starts at `owner`, each link read live. Raises ApiError."""
    pod = Pod(metadata=ObjectMeta(owner_references=(owner,) if owner else ()))
    return asyncio.run(ControllerLinks(_Links(kube)).resolve(pod, namespace, LINK_SECONDS))


class _Links:
    """`cluster.owners.OwnerLookup` as the person who asks."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def owned(self, group: str, plural: str, namespace: str, name: str, within: float) -> Owned | None:
        del within
        base = f"/apis/{group}/v1" if group else "/api/v1"
        return self._kube.find(f"{base}/namespaces/{namespace}/{plural}/{name}", Owned)


def grant_of(kube: Kube, namespace: str, pod_uid: str) -> WorkloadGrant | None:
    """The pod's grant. Of several, one that is not Active: an instance does not gain by a second grant."""
    found = kube.items(collection(WorkloadGrant, namespace), WorkloadGrant, labelSelector=f"{POD_UID_LABEL}={pod_uid}")
    return min(found, key=lambda one: (one.status.state == "Active", one.metadata.name), default=None)


def receipt_of(pod: Pod, grant: WorkloadGrant | None) -> ReceiptView:
    """The receipt on the pod. Only gate and controller can verify one; the grant tells which one was."""
    text = pod.metadata.annotations.get(RECEIPT_ANNOTATION, "")
    if not text:
        return ReceiptView("none: no gate has seen this pod, or no policy governed it at its creation")
    if text == DRY_RUN_RECEIPT:
        return ReceiptView("of a dry run, which nobody accepts")
    if grant is None or not grant.spec.pod.receipt_hash:
        return ReceiptView("present; no grant rests on it")
    found = remember(pod, grant.spec.pod.receipt_hash)
    if found is None:
        return ReceiptView("present, but not the one that the grant rests on")
    return ReceiptView("the one that the grant rests on", found)


class Below(NamedTuple):
    """What a workload has made."""

    uids: frozenset[str]
    """Of the object itself and of what stands between it and its pods."""
    pods: tuple[Pod, ...]


def below(kube: Kube, kind: Kind, namespace: str, uid: str) -> Below:
    """The pods of a workload, by owner references. Raises ApiError."""
    uids = {uid}
    between = _BELOW.get(kind.kind)
    if between is not None:
        made = kube.items(between.path(namespace), Owned)
        uids |= {one.metadata.uid for one in made if _owner_uid(one.metadata) == uid}
    pods = kube.items(POD.path(namespace), Pod)
    return Below(frozenset(uids), tuple(pod for pod in pods if _owner_uid(pod.metadata) in uids))


def failed_creations(kube: Kube, namespace: str, uids: frozenset[str]) -> list[Event]:
    """The latest distinct complaints of those who could not create pods. Raises ApiError."""
    events = kube.items(f"/api/v1/namespaces/{namespace}/events", Event, fieldSelector="reason=FailedCreate")
    latest: dict[str, Event] = {}
    for event in sorted(events, key=lambda one: one.when):
        if event.involved_object.uid in uids:
            latest[_without_pod_name(event.message)] = event
    return sorted(latest.values(), key=lambda one: one.when, reverse=True)[:MAX_EVENTS]


def _owner_uid(meta: ObjectMeta) -> str:
    owner = controller_of(meta)
    return owner.uid if owner else ""


def _without_pod_name(message: str) -> str:
    # `Error creating: pods "api-7d9c-x2x4z" is forbidden: ...` names another pod at each attempt.
    return message.partition(": ")[2].partition(": ")[2] or message
