"""Everything that the controller knows of the cluster, in one place and one event loop.

Watches and sweeps write it; reconciling reads it. It holds no rules: it says which pods a change concerns, and whether
policies may have changed (`Touched`).
"""

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from countersign.api.admission import Namespace, ServiceAccount
from countersign.api.grant import WorkloadGrant
from countersign.api.node import Node
from countersign.api.pod import Pod
from countersign.api.revocation import Revocation
from countersign.controller.watches.pod_record import PodRecord, version_of
from countersign.controller.watches.rules import Rule, Rules
from countersign.controller.watches.touched import NOTHING, Touched, merged
from countersign.controller.watches.watching import Sighting
from countersign.grants.nodes import NodeFacts, node_facts
from countersign.grants.sharing import Sharing
from countersign.trust.orders.reach import ends

Name = tuple[str, str]
"""Namespace (empty for what has none) and name."""

REMEMBERED_GONE = 4096
"""UIDs of deleted objects that are kept in mind, so that a list begun before the deletion does not revive them."""


class Account(NamedTuple):
    """A service account, as far as it is told from another of its name."""

    uid: str
    created: str


class World:
    """The cluster as last seen."""

    def __init__(self, system_namespace: str) -> None:
        self.system_namespace = system_namespace
        self.rules: Final = Rules(system_namespace)
        self.listed = False
        """Whether everything was listed once."""
        self.revisions: dict[type[object], int] = {}
        """etcd's revision at the last complete look at each kind."""
        self.pods: dict[str, PodRecord] = {}
        self.grants: dict[Name, WorkloadGrant] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self.accounts: dict[Name, Account] = {}
        self.nodes: dict[str, NodeFacts] = {}
        self._namespace_uids: dict[str, str] = {}
        self._by_pod: dict[str, dict[Name, None]] = {}
        self._versions: dict[str, int] = {}
        self._gone: dict[str, None] = {}
        self._sharing = Sharing()

    def see(self, sighting: Sighting) -> Touched:
        """Take in one event or one listed object. Older than what is known: nothing happens."""
        found = sighting.object
        meta = found.metadata
        if sighting.gone:
            self._remember_gone(meta.uid)
        elif meta.uid in self._gone:
            return NOTHING
        if isinstance(found, Pod):
            return self._see_pod(found, sighting.gone)
        version = version_of(meta)
        if not sighting.gone and self._versions.get(meta.uid, -1) >= version:
            return NOTHING
        if sighting.gone:
            self._versions.pop(meta.uid, None)
        else:
            self._versions[meta.uid] = version
        match found:
            case WorkloadGrant():
                return self._see_grant(found, sighting.gone)
            case Namespace():
                return self._see_namespace(found, sighting.gone)
            case ServiceAccount():
                return self._see_account(found, sighting.gone)
            case Node():
                return self._see_node(found, sighting.gone)
            case _:
                return self._see_rule(found, sighting.gone)

    def grants_of(self, pod_uid: str) -> list[WorkloadGrant]:
        """The grants that record this instance; ordinarily one."""
        return [self.grants[name] for name in self._by_pod.get(pod_uid, ())]

    def node_of(self, grant: WorkloadGrant) -> str:
        """Where the grant's pod now is; empty if nobody knows."""
        record = self.pods.get(grant.spec.pod.uid)
        return record.track.node_name if record is not None else ""

    def uids(self, kind: type[object]) -> set[str]:
        """UIDs of all objects of a kind that are known."""
        if kind is Pod:
            return {uid for uid, record in self.pods.items() if not record.gone}
        if kind is WorkloadGrant:
            return {grant.metadata.uid for grant in self.grants.values()}
        if kind is Namespace:
            return set(self._namespace_uids.values())
        if kind is ServiceAccount:
            return {account.uid for account in self.accounts.values()}
        if kind is Node:
            return {node.uid for node in self.nodes.values()}
        return self.rules.uids(kind)

    def vanished(self, kind: type[object], before: Collection[str], listed: Collection[str]) -> Touched:
        """Drop what was known `before` a complete list began and is not in it."""
        touched = NOTHING
        for uid in set(before) - set(listed):
            touched = merged(touched, self._drop(kind, uid))
        return touched

    def everyone(self) -> list[str]:
        """UIDs of every pod that is known, or that a grant records."""
        return list(dict.fromkeys((*self.pods, *self._by_pod)))

    def over(self) -> Iterator[str]:
        """UIDs of pods that hold a grant and have ended, are not there, or that an order ends."""
        book = self.rules.order_book()
        for grant in self.grants.values():
            if grant.status.state == "Revoked":
                continue
            record = self.pods.get(grant.spec.pod.uid)
            if record is None or record.gone or record.track.ended or book.against(grant, node=record.track.node_name):
                yield grant.spec.pod.uid

    def forget_pod(self, uid: str) -> None:
        """Let go of a pod that is gone and whose grants know it."""
        record = self.pods.get(uid)
        if record is not None and record.gone:
            del self.pods[uid]

    def live(self) -> Iterator[PodRecord]:
        """Every pod that exists."""
        return (record for record in self.pods.values() if not record.gone)

    def _drop(self, kind: type[object], uid: str) -> Touched:
        self._remember_gone(uid)
        if kind is Pod:
            record = self.pods.get(uid)
            if record is None:
                return Touched(pods=(uid,), ended=True) if uid in self._by_pod else NOTHING
            record.gone = True
            return Touched(pods=(uid,), ended=True, status=True)
        self._versions.pop(uid, None)
        if kind is WorkloadGrant:
            grant = next((one for one in self.grants.values() if one.metadata.uid == uid), None)
            return self._see_grant(grant, gone=True) if grant else NOTHING
        if kind is Namespace:
            name = next((name for name, known in self._namespace_uids.items() if known == uid), None)
            return self._drop_namespace(name) if name else NOTHING
        if kind is ServiceAccount:
            account = next((name for name, known in self.accounts.items() if known.uid == uid), None)
            return self._drop_account(account) if account else NOTHING
        if kind is Node:
            node = next((one for one in self.nodes.values() if one.uid == uid), None)
            return self._drop_node(node) if node else NOTHING
        return self.rules.drop(kind, uid)

    def _see_pod(self, pod: Pod, gone: bool) -> Touched:
        uid = pod.metadata.uid
        record = self.pods.get(uid)
        if record is None:
            if gone:
                return Touched(pods=(uid,), ended=True) if uid in self._by_pod else NOTHING
            self.pods[uid] = PodRecord(pod, fresh=self.listed)
            return Touched(pods=(uid,), ended=bool(self.pods[uid].track.ended), status=True)
        if not gone and record.version >= version_of(pod.metadata):
            return NOTHING
        before = record.track
        rejudge = record.see(pod, self.rules.policy_changes)
        record.gone = record.gone or gone
        if rejudge:
            record.judged = False
            record.outlook = None
        ended = (
            gone or record.track.ended != before.ended or record.track.deletion_timestamp != before.deletion_timestamp
        )
        if not ended and not rejudge and record.track == before:
            return NOTHING
        return Touched(pods=(uid,), ended=ended, status=ended)

    def _see_grant(self, grant: WorkloadGrant, gone: bool) -> Touched:
        name = (grant.metadata.namespace, grant.metadata.name)
        uid = grant.spec.pod.uid
        if gone:
            self.grants.pop(name, None)
            names = self._by_pod.get(uid, {})
            names.pop(name, None)
            if not names:
                self._by_pod.pop(uid, None)
        else:
            self.grants[name] = self._sharing.shared(grant)
            self._by_pod.setdefault(uid, {})[name] = None
        return Touched(pods=(uid,), status=True)

    def _see_namespace(self, namespace: Namespace, gone: bool) -> Touched:
        meta = namespace.metadata
        if gone:
            return self._drop_namespace(meta.name)
        self._namespace_uids[meta.name] = meta.uid
        if self.namespaces.get(meta.name) == meta.labels:
            return NOTHING
        self.namespaces[meta.name] = meta.labels
        return self._of_namespace(meta.name)

    def _drop_namespace(self, name: str) -> Touched:
        self.namespaces.pop(name, None)
        self._namespace_uids.pop(name, None)
        return self._of_namespace(name)

    def _of_namespace(self, name: str) -> Touched:
        # One without pods changes no judgement: namespaces come and go, and judging ten thousand pods takes seconds.
        inhabited = any(record.track.namespace == name for record in self.live())
        return Touched(policies=inhabited, namespaces=True)

    def _see_account(self, account: ServiceAccount, gone: bool) -> Touched:
        meta = account.metadata
        name = (meta.namespace, meta.name)
        known = self.accounts.get(name)
        if gone:
            return self._drop_account(name) if known is not None and known.uid == meta.uid else NOTHING
        self.accounts[name] = account_of(account)
        return NOTHING if known in (None, self.accounts[name]) else self._of_account(name)

    def _drop_account(self, name: Name) -> Touched:
        del self.accounts[name]
        return self._of_account(name)

    def _of_account(self, name: Name) -> Touched:
        concerned = [
            grant.spec.pod.uid
            for grant in self.grants.values()
            if (grant.metadata.namespace, grant.spec.service_account.name) == name
        ]
        return Touched(pods=tuple(concerned))

    def _see_node(self, node: Node, gone: bool) -> Touched:
        known = self.nodes.get(node.metadata.name)
        if gone:
            return self._drop_node(known) if known is not None and known.uid == node.metadata.uid else NOTHING
        facts = self.nodes[node.metadata.name] = node_facts(node, known)
        return NOTHING if known in (None, facts) else self._on_node(facts.name)

    def _drop_node(self, node: NodeFacts) -> Touched:
        del self.nodes[node.name]
        return self._on_node(node.name)

    def _on_node(self, name: str) -> Touched:
        return Touched(pods=tuple(uid for uid, record in self.pods.items() if record.track.node_name == name))

    def _see_rule(self, found: Rule, gone: bool) -> Touched:
        touched = self.rules.see(found, gone=gone)
        if isinstance(found, Revocation) and not gone and touched.status and not touched.policies:
            reached = tuple(self._reached(found))
            return touched._replace(pods=reached, ended=bool(reached))
        return touched

    def _reached(self, order: Revocation) -> Iterator[str]:
        for grant in self.grants.values():
            if grant.status.state == "Revoked":
                continue
            if ends(order, grant, self.system_namespace, node=self.node_of(grant)):
                yield grant.spec.pod.uid

    def _remember_gone(self, uid: str) -> None:
        self._gone[uid] = None
        while len(self._gone) > REMEMBERED_GONE:
            del self._gone[next(iter(self._gone))]


def account_of(account: ServiceAccount) -> Account:
    """What is kept of a service account."""
    return Account(account.metadata.uid, account.metadata.creation_timestamp or "")
