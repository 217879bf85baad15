"""A pod as the decision sees it: who it is and whether it is alive. Small, since a verifier keeps one for each pod."""

from datetime import datetime
from sys import intern

import msgspec

from countersign.api import clock
from countersign.api.meta import UTCTime
from countersign.api.pod import TERMINAL_PHASES, Pod
from countersign.api.schema import Model


class PodView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One live pod object."""

    namespace: str
    name: str
    uid: str
    service_account: str
    node: str
    """Empty until the pod is bound to a node."""
    phase: str
    created_at: datetime
    deletion_at: datetime | None = None
    """`metadata.deletionTimestamp`: when the grace period of a deletion ends; None if nobody asked for one."""

    @property
    def terminal(self) -> bool:
        """Whether all of its work is over (pod lifecycle: Succeeded and Failed are final)."""
        return self.phase in TERMINAL_PHASES

    def alive(self, now: datetime) -> bool:
        """Whether it still runs or may run: not terminal, and no deletion's grace period is over."""
        return not self.terminal and (self.deletion_at is None or now < self.deletion_at)


class PodObjectMeta(Model, frozen=True, kw_only=True):
    """Metadata of a PodObject."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    creation_timestamp: UTCTime | None = None
    deletion_timestamp: UTCTime | None = None


class PodObjectSpec(Model, frozen=True, kw_only=True):
    """Spec of a PodObject."""

    service_account_name: str = ""
    node_name: str = ""


class PodObjectStatus(Model, frozen=True, kw_only=True):
    """Status of a PodObject."""

    phase: str = ""


class PodObject(Model, frozen=True, kw_only=True):
    """A pod (core/v1), cut down to what a view reads: decoded for each event of a watch over all pods."""

    metadata: PodObjectMeta = PodObjectMeta()
    spec: PodObjectSpec = PodObjectSpec()
    status: PodObjectStatus = PodObjectStatus()


def view(pod: Pod | PodObject) -> PodView:
    """The view of an API object. Raises ValueError if members that the API server sets are missing (not yet stored)."""
    meta = pod.metadata
    if not (meta.uid and meta.name and meta.namespace and meta.creation_timestamp):
        raise ValueError(
            "the pod has no UID, name, namespace or creationTimestamp: it is not one that the cluster holds"
        )
    return PodView(
        namespace=intern(meta.namespace),
        name=meta.name,
        uid=meta.uid,
        service_account=intern(pod.spec.service_account_name or "default"),
        node=intern(pod.spec.node_name),
        phase=intern(pod.status.phase),
        created_at=clock.parse(meta.creation_timestamp),
        deletion_at=clock.parse(meta.deletion_timestamp) if meta.deletion_timestamp else None,
    )
