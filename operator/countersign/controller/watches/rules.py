"""Policies, audiences, orders, exceptions, pauses and evidence roots as last seen: what says which pods may do what."""

from collections.abc import Mapping
from typing import Any, Final

from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot, content_of
from countersign.api.exception import TrustException
from countersign.api.pause import AdmissionPause
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.api.revocation import Revocation
from countersign.controller.watches.touched import NOTHING, Touched
from countersign.signatures.roots.known_roots import KnownRoots
from countersign.trust.orders.order_book import OrderBook, is_standing
from countersign.trust.policies.policy import Policy, PolicySnapshot, from_resource

AnyPolicyResource = ClusterTrustPolicy | TrustPolicy
Rule = AnyPolicyResource | ProtectedAudience | Revocation | TrustException | AdmissionPause | EvidenceRoot


class Rules:
    """All of them by UID, and what a judgement takes of them."""

    def __init__(self, system_namespace: str) -> None:
        self.policies: Final[dict[str, AnyPolicyResource]] = {}
        self.audiences: Final[dict[str, ProtectedAudience]] = {}
        self.revocations: Final[dict[str, Revocation]] = {}
        self.exceptions: Final[dict[str, TrustException]] = {}
        self.pauses: Final[dict[str, AdmissionPause]] = {}
        self.evidence_roots: Final[dict[str, EvidenceRoot]] = {}
        self.policy_changes = 0
        """How many changes of policies were seen so far."""
        self.policy_arrivals: Final[dict[str, int]] = {}
        """By UID of a policy: which of those changes brought its present generation."""
        self._system_namespace = system_namespace
        self._kept: Final[Mapping[type[object], dict[str, Any]]] = {
            ClusterTrustPolicy: self.policies,
            TrustPolicy: self.policies,
            ProtectedAudience: self.audiences,
            Revocation: self.revocations,
            TrustException: self.exceptions,
            AdmissionPause: self.pauses,
            EvidenceRoot: self.evidence_roots,
        }
        self._compiled: dict[str, tuple[int, Policy]] = {}
        self._snapshot: PolicySnapshot | None = None
        self._orders: OrderBook | None = None
        self._roots = KnownRoots()

    def see(self, found: Rule, *, gone: bool) -> Touched:
        """Take in an object as it is now, or that it is gone. Which pods an order ends, nobody can tell here."""
        uid = found.metadata.uid
        kept = self._kept[type(found)]
        before = kept.get(uid)
        if gone:
            kept.pop(uid, None)
        else:
            kept[uid] = found
        if isinstance(found, AdmissionPause):
            return Touched(pauses=True)
        changed = (before is not None) if gone else before is None or _differs(before, found)
        touched = Touched(policies=changed, status=changed)
        if changed and isinstance(found, Revocation):
            self._orders = None
            touched = touched._replace(policies=is_standing(found.spec.target))
        if touched.policies:
            self._snapshot = None
        if changed and isinstance(found, AnyPolicyResource):
            self._count_policy_change(uid, gone)
        return touched._replace(roots=True) if isinstance(found, EvidenceRoot) else touched

    def drop(self, kind: type[object], uid: str) -> Touched:
        """An object of that kind is gone, and nobody said so."""
        found = self._kept[kind].get(uid)
        return self.see(found, gone=True) if found is not None else NOTHING

    def uids(self, kind: type[object]) -> set[str]:
        """UIDs of all objects of a kind."""
        return {uid for uid, one in self._kept[kind].items() if type(one) is kind}

    def snapshot(self) -> PolicySnapshot:
        """What a judgement takes. The same object until something in it changes."""
        if self._snapshot is None:
            self._snapshot = PolicySnapshot(
                policies=tuple(self._policy(resource) for resource in self.policies.values()),
                audiences=tuple(self.audiences.values()),
                # Those that end what exists bear on no judgement: `order_book` has them all.
                revocations=tuple(one for one in self.revocations.values() if is_standing(one.spec.target)),
                roots=self.known_roots(),
                exceptions=tuple(self.exceptions.values()),
                system_namespace=self._system_namespace,
            )
        return self._snapshot

    def order_book(self) -> OrderBook:
        """All orders. The same object until one comes or goes."""
        if self._orders is None:
            self._orders = OrderBook(self.revocations.values(), self._system_namespace)
        return self._orders

    def known_roots(self) -> KnownRoots:
        """The EvidenceRoots as they are now, each content read once."""
        self._roots = KnownRoots(self.evidence_roots.values(), before=self._roots)
        return self._roots

    def _policy(self, resource: AnyPolicyResource) -> Policy:
        """The policy made once per generation, so that what was worked out of it is kept."""
        meta = resource.metadata
        known = self._compiled.get(meta.uid)
        if known is None or known[0] != meta.generation:
            known = self._compiled[meta.uid] = (meta.generation, from_resource(resource))
        return known[1]

    def _count_policy_change(self, uid: str, gone: bool) -> None:
        self.policy_changes += 1
        if gone:
            self.policy_arrivals.pop(uid, None)
            self._compiled.pop(uid, None)
        else:
            self.policy_arrivals[uid] = self.policy_changes


def _differs(before: Rule, now: Rule) -> bool:
    """Whether a judgement could differ. A change of status alone, such as our own writing, changes none."""
    if isinstance(before, Revocation):
        return False  # an order is never edited
    if isinstance(before, EvidenceRoot) and isinstance(now, EvidenceRoot):
        # That it was refreshed and found to be the same changes no judgement.
        return before.spec != now.spec or content_of(before) != content_of(now)
    return (
        before.spec != now.spec
        or before.metadata.generation != now.metadata.generation
        or before.metadata.deletion_timestamp != now.metadata.deletion_timestamp
    )
