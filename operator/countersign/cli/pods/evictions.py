"""Restarting one pod within its disruption budget: evict, wait for the one that replaces it, and for its grant."""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, NamedTuple

from countersign.api.meta import ObjectMeta
from countersign.api.schema import Model
from countersign.cli.cluster.kube import ApiError, Kube
from countersign.cli.pods.instances import grant_of
from countersign.cli.pods.workloads import POD
from countersign.cli.terminal.exits import note
from countersign.cluster.owners import controller_of

POLL_SECONDS: Final = 1.0
BUDGET_SECONDS: Final = 5.0
"""Between two attempts at an eviction that a budget forbids (kubectl drain waits as long)."""


class Workload(NamedTuple):
    """What makes another pod for one that was evicted."""

    namespace: str
    kind: str
    name: str
    uid: str


class Adopted(StrEnum):
    """What came of a restart."""

    YES = "restarted, and its replacement has its identity"
    BUDGET = "not evicted: its PodDisruptionBudget never allowed it in time"
    LATE = "evicted, but no replacement was Ready in time"
    NONE = "restarted, but its replacement has no identity: countersign explain pod"
    FAILED = "could not be evicted"
    GONE = "it went by itself meanwhile: look again"
    SKIPPED = "not tried, since another pod of its controller did not come back well"


class _PodCondition(Model, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""


class _PodStatus(Model, frozen=True, kw_only=True):
    conditions: tuple[_PodCondition, ...] = ()


class _Replica(Model, frozen=True, kw_only=True):
    """A pod, as far as whether it stands in for another."""

    metadata: ObjectMeta = ObjectMeta()
    status: _PodStatus = _PodStatus()

    @property
    def is_ready(self) -> bool:
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions)


def restart(kube: Kube, pod: Any, workload: Workload, seconds: float) -> Adopted:
    """Evict the pod and wait, in all for so many seconds. Raises ApiError if the cluster is out of reach."""
    until = time.monotonic() + seconds
    meta: ObjectMeta = pod.metadata
    before = {one.metadata.uid for one in _replicas(kube, workload)}
    if meta.uid not in before:
        return Adopted.GONE
    evicted = _evict(kube, meta, until)
    if evicted is not Adopted.YES:
        return evicted

    def replacements() -> list[_Replica]:
        found = _replicas(kube, workload)
        return [one for one in found if one.metadata.uid not in before and one.metadata.deletion_timestamp is None]

    ready = _until(until, lambda: next((one for one in replacements() if one.is_ready), None))
    if ready is None:
        return Adopted.LATE
    name = ready.metadata
    granted = _until(until, lambda: _has_identity(kube, name.namespace, name.uid))
    return Adopted.YES if granted else Adopted.NONE


def _evict(kube: Kube, meta: ObjectMeta, until: float) -> Adopted:
    """YES once it is on its way out. A budget that forbids it now is asked again until the time is over."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": meta.name, "namespace": meta.namespace},
        "deleteOptions": {"preconditions": {"uid": meta.uid}},
    }
    told = False
    while True:
        try:
            kube.create(f"{POD.path(meta.namespace, meta.name)}/eviction", eviction)
            return Adopted.YES
        except ApiError as error:
            if error.status in (404, 409):
                return Adopted.YES  # it went by itself meanwhile
            if error.status != 429:
                if error.status == 0:
                    raise
                note(f"{meta.namespace}/{meta.name} cannot be evicted: {error.message}")
                return Adopted.FAILED
            if not told:
                note(f"waiting: {error.message}")
                told = True
        if time.monotonic() + BUDGET_SECONDS > until:
            return Adopted.BUDGET
        time.sleep(BUDGET_SECONDS)


def _replicas(kube: Kube, workload: Workload) -> list[_Replica]:
    pods = kube.items(POD.path(workload.namespace), _Replica)
    return [one for one in pods if (owner := controller_of(one.metadata)) is not None and owner.uid == workload.uid]


def _has_identity(kube: Kube, namespace: str, uid: str) -> bool | None:
    grant = grant_of(kube, namespace, uid)
    return True if grant is not None and grant.status.state == "Active" else None


def _until(end: float, find: Callable[[], Any]) -> Any:
    """What `find` finds, asked until the time is over; None: nothing."""
    while (found := find()) is None:
        if time.monotonic() > end:
            return None
        time.sleep(POLL_SECONDS)
    return found
