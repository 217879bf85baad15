"""What the verifier knows of the cluster: pods, grants, revocations, exceptions and audiences, each from a watch, with
the indexes that a decision needs."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from countersign.access.pod_view import PodView
from countersign.api.audience import ProtectedAudience
from countersign.api.exception import TrustException
from countersign.api.grant import WorkloadGrant
from countersign.api.meta import ObjectMeta, condition
from countersign.api.revocation import Revocation, RevocationSpec, Target
from countersign.cluster.cache import Added, Change, Deleted, WatchCache
from countersign.trust.orders.order_book import OrderBook

MAX_WAITERS: Final = 256
"""Answers that wait for a grant at once; the next is given without waiting."""


@dataclass(frozen=True, kw_only=True)
class Caches:
    """The watches' caches. Each belongs to a Reflector that somebody else runs."""

    pods: WatchCache[PodView]
    grants: WatchCache[WorkloadGrant]
    revocations: WatchCache[Revocation]
    exceptions: WatchCache[TrustException]
    audiences: WatchCache[ProtectedAudience]


class ClusterState:
    """The objects under a token's claims. Everything returned is as the watches last saw it."""

    def __init__(self, caches: Caches, *, system_namespace: str, max_waiters: int = MAX_WAITERS) -> None:
        self.system_namespace = system_namespace
        self._caches = caches
        self._grants_of = caches.grants.index(lambda grant: (grant.spec.pod.uid,))
        self._audiences_of = caches.audiences.index(lambda audience: (audience.spec.audience,))
        self._ended: set[str] = set()
        """UIDs of pods that were once seen in a terminal phase, and are still there: no later status revives them."""
        self._orders: dict[str, tuple[WorkloadGrant, PodView, tuple[Revocation, ...]]] = {}
        """By grant UID: the orders that end it, for that very state of grant and pod."""
        self._book: OrderBook | None = None
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._waiters = 0
        self._max_waiters = max_waiters
        caches.pods.on_change(self._pod_changed)
        caches.grants.on_change(self._grant_changed)
        caches.revocations.on_change(self._revocation_changed)

    def audience(self, name: str) -> ProtectedAudience | None:
        """The ProtectedAudience of that audience: the accepted one if several claim it."""
        found = self._audiences_of.get(name)
        if len(found) <= 1:
            return next(iter(found), None)
        return min(found, key=lambda one: (not _accepted(one), one.metadata.creation_timestamp or "", one.metadata.uid))

    def pod(self, uid: str) -> PodView | None:
        """The pod of that UID."""
        found = self._caches.pods.by_uid(uid)
        if found is not None and uid in self._ended and not found.terminal:
            return msgspec.structs.replace(found, phase="Failed")
        return found

    def grant(self, pod_uid: str) -> WorkloadGrant | None:
        """The grant of that pod. Of several, one that is not Active: an instance does not gain by a second grant."""
        found = self._grants_of.get(pod_uid)
        if len(found) <= 1:
            return next(iter(found), None)
        return min(found, key=lambda one: (one.status.state == "Active", one.metadata.name))

    def orders_against(self, grant: WorkloadGrant, pod: PodView) -> tuple[Revocation, ...]:
        """The Revocations that end this grant. One that cannot be read is taken to reach whatever it might."""
        revocations = self._caches.revocations
        if not revocations.malformed and not len(revocations):
            return ()
        known = self._orders.get(grant.metadata.uid)
        if known is not None and known[0] is grant and known[1] is pod:
            return known[2]
        if self._book is None:
            self._book = OrderBook(revocations.values(), self.system_namespace)
        unreadable = OrderBook(self._unreadable(), self.system_namespace)
        found = (*self._book.against(grant, node=pod.node), *unreadable.against(grant, node=pod.node))
        if not revocations.malformed:  # nobody tells when that changes
            self._orders[grant.metadata.uid] = (grant, pod, found)
        return found

    def exceptions_of(self, grant: WorkloadGrant) -> tuple[TrustException, ...]:
        """The TrustExceptions that the grant rests on, as far as they exist. One that cannot be read does not."""
        found = (self._caches.exceptions.by_uid(one.uid) for one in grant.status.exceptions)
        return tuple(one for one in found if one is not None)

    async def grant_change(self, pod_uid: str, seconds: float) -> bool:
        """Wait until something happens to a grant of that pod. False if nothing did, or if too many wait already."""
        if self._waiters >= self._max_waiters or seconds <= 0:
            return False
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(pod_uid, set()).add(told)
        self._waiters += 1
        try:
            async with asyncio.timeout(seconds):
                await told
        except TimeoutError:
            return False
        finally:
            self._waiters -= 1
            others = self._waiting.get(pod_uid)
            if others is not None:
                others.discard(told)
                if not others:
                    del self._waiting[pod_uid]
        return True

    def _unreadable(self) -> Iterable[Revocation]:
        for key in self._caches.revocations.malformed:
            yield Revocation(
                metadata=ObjectMeta(name=key.name, namespace=key.namespace),
                spec=RevocationSpec(target=Target(), reason="this release cannot read it, so it may mean this grant"),
            )

    def _pod_changed(self, change: Change[PodView]) -> None:
        if isinstance(change, Deleted):
            self._ended.discard(change.uid)
        elif change.new.terminal:
            self._ended.add(change.uid)

    def _grant_changed(self, change: Change[WorkloadGrant]) -> None:
        if isinstance(change, Deleted):
            self._orders.pop(change.uid, None)
        uid = change.new.spec.pod.uid if not isinstance(change, Deleted) else change.old.spec.pod.uid
        for told in self._waiting.get(uid, ()):
            if not told.done():
                told.set_result(None)

    def _revocation_changed(self, change: Change[Revocation]) -> None:
        if isinstance(change, Added | Deleted) or change.old.spec != change.new.spec:
            self._orders.clear()
            self._book = None


def _accepted(audience: ProtectedAudience) -> bool:
    found = condition(audience.status.conditions, "Accepted")
    return found is not None and found.status == "True"
