"""What the cluster still knows of an identity: pod, grant, Events, the orders that reached it."""

from collections.abc import Iterator
from typing import Final, TypeVar, Unpack

from countersign.api import clock
from countersign.api.exception import TrustException
from countersign.api.grant import GrantImage, WorkloadGrant
from countersign.api.pod import Pod
from countersign.api.revocation import Revocation
from countersign.api.schema import Model
from countersign.cli.cluster.kube import ApiError, Kube
from countersign.cli.cluster.paths import collection
from countersign.cli.record.timeline import Keys, Known, Sighting
from countersign.trust.verdicts.denial import clean

MAX_TEXT: Final = 600
_T = TypeVar("_T")


class _Involved(Model, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    uid: str = ""


class _Series(Model, frozen=True, kw_only=True):
    count: int = 0


class _Event(Model, frozen=True, kw_only=True):
    """An Event (core/v1)."""

    involved_object: _Involved = _Involved()
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None
    reporting_component: str = ""
    count: int | None = None
    series: _Series | None = None


class Cluster:
    """Reads as the person who asks. What may not be read is left out, and `remarks` says so."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.remarks: list[str] = []
        self.grants: dict[str, WorkloadGrant] = {}
        """Those that were found, by namespace/name."""

    def find(self, namespace: str, target: str) -> list[Sighting]:
        """What there is of a pod or grant by this name or UID. Raises ApiError if the cluster cannot be asked."""
        found: list[Sighting] = []
        for pod in self._items(f"/api/v1/namespaces/{namespace}/pods", Pod, "pods"):
            if target in (pod.metadata.name, pod.metadata.uid):
                found += _of_pod(pod)
        for grant in self._items(collection(WorkloadGrant, namespace), WorkloadGrant, "workloadgrants"):
            if target in (grant.metadata.name, grant.spec.pod.name, grant.spec.pod.uid, grant.metadata.uid):
                self.grants[_name(grant)] = grant
                found += _of_grant(grant)
        return found

    def around(self, namespace: str, known: Known) -> list[Sighting]:
        """Events about it, and the orders that its grants name."""
        found: list[Sighting] = []
        for uid in sorted(known.pod_uids):
            path = f"/api/v1/namespaces/{namespace}/events"
            for event in self._items(path, _Event, "events", fieldSelector=f"involvedObject.uid={uid}"):
                found += _of_event(event, namespace)
        for order in sorted(known.orders):
            found += self._of_order(order)
        return found

    def _items(self, path: str, type_: type[_T], what: str, **query: str) -> Iterator[_T]:
        try:
            yield from self._kube.items(path, type_, **query)
        except ApiError as error:
            if error.status not in (403, 404):
                raise
            why = "you may not read them" if error.status == 403 else "the cluster does not know them"
            self.remarks.append(f"without {what}: {why}")

    def _of_order(self, order: str) -> list[Sighting]:
        kind, _, name = order.partition(" ")
        namespace, _, bare = name.rpartition("/")
        try:
            if kind == "Revocation" and namespace:
                found = self._kube.find(f"{collection(Revocation, namespace)}/{bare}", Revocation)
                if found is not None:
                    return [
                        _order(order, found.metadata.creation_timestamp, found.spec.requested_by, found.spec.reason)
                    ]
            if kind == "TrustException":
                exception = self._kube.find(f"{collection(TrustException)}/{bare}", TrustException)
                if exception is not None:
                    spec, meta = exception.spec, exception.metadata
                    return [_order(order, meta.creation_timestamp, spec.requested_by, spec.reason)]
        except ApiError as error:
            self.remarks.append(f"without {order}: {error.message}")
        return []


def _of_pod(pod: Pod) -> Iterator[Sighting]:
    meta = pod.metadata
    keys = Keys(pod=f"{meta.namespace}/{meta.name}", pod_uid=meta.uid)
    if meta.creation_timestamp:
        account = f"service account {pod.spec.service_account_name}"
        yield _at(meta.creation_timestamp, "pod created", "", account, rank=1, **keys)
    if meta.deletion_timestamp:
        # metadata.deletionTimestamp: when the grace period is over.
        yield _at(meta.deletion_timestamp, "grace period of the deletion over", "", "", ends=True, **keys)


def _of_grant(grant: WorkloadGrant) -> Iterator[Sighting]:
    spec, status, meta = grant.spec, grant.status, grant.metadata
    keys = Keys(pod=f"{meta.namespace}/{spec.pod.name}", pod_uid=spec.pod.uid, grant=_name(grant))
    if not meta.creation_timestamp:
        return
    who = f"asked for by {spec.requester}" if spec.requester else ""
    policies = ", ".join(f"{one.kind} {one.name} (generation {one.generation})" for one in spec.policies)
    audiences = ", ".join(one.audience for one in spec.tokens)
    detail = _joined(f"audiences: {audiences or 'none'}", f"owner {spec.owner}" if spec.owner else "", policies)
    yield _at(meta.creation_timestamp, "grant made", who, detail, rank=2, **keys)
    for image in spec.images:
        yield _at(meta.creation_timestamp, "evidence", "", _evidence(image), rank=3, **keys)
    if status.state and status.changed_at:
        reason = f"{status.reason}: {status.message}".removesuffix(": ")
        yield _at(
            status.changed_at, f"grant {status.state}", status.caused_by, reason, rank=4,
            ends=status.state != "Active", **(keys | Keys(order=status.caused_by)),
        )  # fmt: skip
    for exception in status.exceptions:
        text = f"rests on TrustException {exception.name} until {exception.expires_at}"
        order = f"TrustException {exception.name}"
        yield _at(meta.creation_timestamp, "exception", "", text, rank=2, **(keys | Keys(order=order)))


def _evidence(image: GrantImage) -> str:
    vouches = []
    for one in image.evidence:
        by = "its digest is listed" if one.digest_listed else one.authority
        who = one.key_fingerprint or (f"{one.subject} ({one.issuer})" if one.subject else "")
        what = f" attests {one.predicate_type}" if one.predicate_type else ""
        vouches.append(f"{by}{what} {who}".strip())
    return _joined(f"container {image.container}: {image.image}", *dict.fromkeys(vouches))


def _of_event(event: _Event, namespace: str) -> Iterator[Sighting]:
    about = event.involved_object
    at = event.event_time or event.last_timestamp
    if not at:
        return
    times = event.series.count if event.series else event.count or 1
    detail = _joined(event.message, f"{times} times" if times > 1 else "")
    pod = f"{namespace}/{about.name}" if about.kind == "Pod" else ""
    yield Sighting(
        at=clock.parse(at), source="event", what=clean(f"event {event.reason}", MAX_TEXT),
        who=clean(event.reporting_component, MAX_TEXT), detail=detail, pod=pod, pod_uid=about.uid,
        to_the_second=event.event_time is None, ends=True, rank=6,
    )  # fmt: skip


def _order(order: str, created: str | None, who: str, reason: str) -> Sighting:
    detail = _joined(order, reason)
    return _at(created or "1970-01-01T00:00:00Z", "order given", who or "somebody unknown", detail, order=order, rank=3)


def _at(
    at: str, what: str, who: str, detail: str, *, rank: int = 5, ends: bool = False, **keys: Unpack[Keys]
) -> Sighting:
    return Sighting(
        at=clock.parse(at), source="object", what=clean(what, MAX_TEXT), who=clean(who, MAX_TEXT), detail=detail,
        to_the_second=True, ends=ends, rank=rank, **keys,
    )  # fmt: skip


def _name(grant: WorkloadGrant) -> str:
    return f"{grant.metadata.namespace}/{grant.metadata.name}"


def _joined(*parts: str) -> str:
    return "; ".join(clean(part, MAX_TEXT) for part in parts if part)
