"""What the gate knows of the cluster: policies, audiences, orders of people, evidence roots and namespaces, each from a
watch.

Changes make a new, immutable `PolicySnapshot` at its next use, so that a burst of them makes one. Until every watch has
listed once, nothing is judged. Afterwards the last known state stays in use however silent the API server is: a policy
that is minutes old denies and admits nearly as well, and no answer at all would stop the cluster.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.exception import TrustException
from countersign.api.pause import AdmissionPause
from countersign.api.revocation import Revocation
from countersign.cluster.cache import Change, Deleted, Key, WatchCache
from countersign.signatures.roots.known_roots import KnownRoots, RootContent
from countersign.trust.orders.pause import InForce, in_force
from countersign.trust.policies.policy import NamespaceFacts, Policy, PolicySnapshot

_log = structlog.get_logger()

NamespaceLookup = Callable[[str, float], Awaitable[NamespaceFacts | None]]
"""Reads a namespace live, within so many seconds; None if there is none."""


@dataclass(frozen=True, kw_only=True)
class Caches:
    """The watches' caches. Each belongs to a Reflector that somebody else runs."""

    cluster_policies: WatchCache[Policy]
    policies: WatchCache[Policy]
    audiences: WatchCache[ProtectedAudience]
    revocations: WatchCache[Revocation]
    exceptions: WatchCache[TrustException]
    pauses: WatchCache[AdmissionPause]
    evidence_roots: WatchCache[EvidenceRoot]
    namespaces: WatchCache[NamespaceFacts]

    def named(self) -> tuple[tuple[str, WatchCache[Policy] | WatchCache[ProtectedAudience] | WatchCache[Revocation]
                                   | WatchCache[TrustException] | WatchCache[AdmissionPause] | WatchCache[EvidenceRoot]
                                   | WatchCache[NamespaceFacts]], ...]:  # fmt: skip
        """Each with the kind that it holds."""
        return (
            ("ClusterTrustPolicy", self.cluster_policies),
            ("TrustPolicy", self.policies),
            ("ProtectedAudience", self.audiences),
            ("Revocation", self.revocations),
            ("TrustException", self.exceptions),
            ("AdmissionPause", self.pauses),
            ("EvidenceRoot", self.evidence_roots),
            ("Namespace", self.namespaces),
        )


class GateState:
    """The present snapshot, and what is wrong with it."""

    def __init__(
        self,
        caches: Caches,
        lookup: NamespaceLookup,
        *,
        system_namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caches = caches
        self._lookup = lookup
        self._system_namespace = system_namespace
        self._clock = clock
        self._snapshot: PolicySnapshot | None = None
        self._roots = KnownRoots()
        self._unreadable_roots: frozenset[Key] = frozenset()
        self._pauses: tuple[AdmissionPause, ...] | None = None
        """Those that may be in force; None: look anew."""
        self._last: dict[tuple[str, Key], Policy] = {}
        """Last readable state of policies that went away: a policy does not go by becoming unreadable."""
        caches.cluster_policies.on_change(lambda change: self._policy_changed("ClusterTrustPolicy", change))
        caches.policies.on_change(lambda change: self._policy_changed("TrustPolicy", change))
        caches.audiences.on_change(self._changed)
        caches.revocations.on_change(self._changed)
        # One that cannot be read waives nothing.
        caches.exceptions.on_change(self._changed)
        caches.pauses.on_change(self._pause_changed)
        caches.evidence_roots.on_change(self._changed)

    @property
    def snapshot(self) -> PolicySnapshot:
        """Everything that a judgement takes from the cluster, as last seen."""
        if self._snapshot is None or self._unreadable_roots != self._caches.evidence_roots.malformed.keys():
            kept = self._still_there()
            self._snapshot = PolicySnapshot(
                policies=(*self._caches.cluster_policies.values(), *self._caches.policies.values(), *kept),
                audiences=tuple(self._caches.audiences.values()),
                revocations=tuple(self._caches.revocations.values()),
                roots=self._known_roots(),
                exceptions=tuple(self._caches.exceptions.values()),
                system_namespace=self._system_namespace,
            )
        return self._snapshot

    def content(self, name: str) -> RootContent | None:
        """What the evidence root of that name holds now, of the present snapshot (`gate.evidence`, Roots)."""
        _ = self.snapshot
        return self._roots.content(name)

    def paused(self, now: datetime) -> InForce | None:
        """The pause that holds the door open now. One that cannot be read is none."""
        if self._pauses is None:
            self._pauses = tuple(self._caches.pauses.values())
        if not self._pauses:
            return None
        found = in_force(self._pauses, now)
        if found is None:
            # Those that are over stay as a record, for ever: no review is to wait for a look through them.
            self._pauses = ()
        return found

    def starting(self) -> str:
        """What has not been listed yet; empty once everything has. From then on the gate judges."""
        missing = [kind for kind, cache in self._caches.named() if not cache.synced.is_set()]
        return f"not listed yet: {', '.join(missing)}" if missing else ""

    async def listed(self) -> None:
        """Wait until everything has been listed."""
        for _, cache in self._caches.named():
            await cache.synced.wait()

    def age(self) -> float:
        """Seconds since the oldest watch's last sign of life."""
        return self._clock() - min(cache.last_activity for _, cache in self._caches.named())

    def unreadable(self, namespace: str) -> str:
        """An object that could change the judgement of a pod in `namespace` and cannot be read; empty if there is none.

        The CRDs let in nothing that this release cannot read, so it is one of a newer release. Judging without it could
        admit what it forbids.
        """
        caches = self._caches
        if not (caches.cluster_policies.malformed or caches.policies.malformed or caches.revocations.malformed):
            return ""
        _ = self.snapshot  # brings _last up to date
        for key in caches.cluster_policies.malformed:
            if ("ClusterTrustPolicy", key) not in self._last:
                return f"ClusterTrustPolicy {key.name}"
        for key in caches.policies.malformed:
            if key.namespace == namespace and ("TrustPolicy", key) not in self._last:
                return f"TrustPolicy {key.namespace}/{key.name}"
        for key in caches.revocations.malformed:
            if key.namespace in (namespace, self._system_namespace):
                return f"Revocation {key.namespace}/{key.name}"
        return ""

    @property
    def audiences_unreadable(self) -> bool:
        """Whether some ProtectedAudience cannot be read, so that an audience we do not know may be protected."""
        return bool(self._caches.audiences.malformed)

    def known_namespace(self, name: str) -> NamespaceFacts | None:
        """The namespace, if the watch has seen it."""
        return self._caches.namespaces.get("", name)

    async def namespace(self, name: str, within: float) -> NamespaceFacts | None:
        """The namespace from the watch, or live if the watch has not seen it (it may be a moment old)."""
        return self.known_namespace(name) or await self._lookup(name, within)

    def _policy_changed(self, kind: str, change: Change[Policy]) -> None:
        if isinstance(change, Deleted):
            self._last[kind, change.key] = change.old
        else:
            self._last.pop((kind, change.key), None)
        self._snapshot = None

    def _changed(
        self, _change: Change[ProtectedAudience] | Change[Revocation] | Change[TrustException] | Change[EvidenceRoot]
    ) -> None:
        self._snapshot = None

    def _pause_changed(self, _change: Change[AdmissionPause]) -> None:
        self._pauses = None

    def _known_roots(self) -> KnownRoots:
        cache = self._caches.evidence_roots
        self._unreadable_roots = frozenset(cache.malformed)
        names = [key.name for key in self._unreadable_roots]
        self._roots = KnownRoots(cache.values(), unreadable=names, before=self._roots)
        return self._roots

    def _still_there(self) -> tuple[Policy, ...]:
        malformed = {
            *(("ClusterTrustPolicy", key) for key in self._caches.cluster_policies.malformed),
            *(("TrustPolicy", key) for key in self._caches.policies.malformed),
        }
        self._last = {which: policy for which, policy in self._last.items() if which in malformed}
        for kind, key in self._last:
            _log.error("policy cannot be read: its last readable state stays in force", policy=f"{kind} {key}")
        return tuple(self._last.values())
