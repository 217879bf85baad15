"""A cluster in memory around a PodReconciler: what the watches would bring is put in, what it writes is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from countersign.api.admission import Namespace, ServiceAccount
from countersign.api.exception import TrustException
from countersign.api.grant import WorkloadGrant, WorkloadGrantSpec, WorkloadGrantStatus
from countersign.api.meta import ObjectMeta
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.node import Node, NodeCondition, NodeStatus
from countersign.api.pod import Pod, PodCondition
from countersign.api.policy import ClusterTrustPolicy, ClusterTrustPolicySpec
from countersign.api.revocation import Revocation, RevocationSpec, Target
from countersign.api.verifier_calls import UsesReport
from countersign.cluster.events import ObjectReference, Urgency
from countersign.cluster.owners import Owned
from countersign.controller.evidence.reverified import Reverified
from countersign.controller.instances.judging import Judging
from countersign.controller.instances.pods import PodReconciler
from countersign.controller.instances.uses import UseKeeper
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.store import NameTakenError, StaleError
from countersign.controller.watches.touched import Touched
from countersign.controller.watches.watching import Sighting
from countersign.controller.watches.world import Account, World
from countersign.grants.impact import DEFAULT_LIMITS, Limits
from countersign.keys.receipt_keys import ReceiptKeys, plan_receipt_keys
from countersign.keys.receipts import ReceiptSigner, ReceiptVerifier
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.policies.policy import Policy, PolicySnapshot, from_resource
from countersign.trust.receipt import encode
from tests.unit.grants.build import ACCOUNT_UID, BORN, admitted, changed, live, stamp
from tests.unit.trust.build import LABELS, NAMESPACE, PINNED, cluster_policy, token

GOOD = cluster_policy(tokens=(token(),))


def resource_of(policy: Policy, generation: int = 1) -> ClusterTrustPolicy:
    ref = policy.ref
    meta = ObjectMeta(name=ref.name, uid=ref.uid, generation=generation, creation_timestamp=policy.created)
    assert isinstance(policy.spec, ClusterTrustPolicySpec)
    return ClusterTrustPolicy(metadata=meta, spec=policy.spec)


@dataclass
class MemoryStore:
    """Grants as the API server would keep them. It counts, so that a test can say what was not written."""

    cluster: Cluster
    grants: dict[str, WorkloadGrant] = field(default_factory=dict)
    writes: int = 0
    fail_on_write: int = 0
    """Number of the write, counted from now on, that a crash prevents."""
    meanwhile: Callable[[], None] | None = None
    """What happens, once, while the next call is under way."""

    async def create_grant(self, namespace: str, name: str, spec: WorkloadGrantSpec) -> WorkloadGrant:
        await self._turn()
        if name in self.grants:
            raise NameTakenError(name)
        meta = ObjectMeta(
            name=name, namespace=namespace, uid=f"uid-{self.cluster.version()}",
            resource_version=str(self.cluster.version()), creation_timestamp=stamp(1),
        )  # fmt: skip
        self.grants[name] = WorkloadGrant(metadata=meta, spec=spec)
        return self.grants[name]

    async def write_grant_status(self, grant: WorkloadGrant, status: WorkloadGrantStatus) -> WorkloadGrant:
        await self._turn()
        held = self.grants.get(grant.metadata.name)
        if held is None or held.metadata.resource_version != grant.metadata.resource_version:
            raise StaleError(grant.metadata.name)
        meta = msgspec.structs.replace(held.metadata, resource_version=str(self.cluster.version()))
        self.grants[grant.metadata.name] = msgspec.structs.replace(held, metadata=meta, status=status)
        return self.grants[grant.metadata.name]

    async def delete_grant(self, grant: WorkloadGrant) -> None:
        await self._turn()
        self.grants.pop(grant.metadata.name, None)

    async def read_grant(self, namespace: str, name: str) -> WorkloadGrant | None:
        return self.grants.get(name)

    async def read_pod(self, namespace: str, name: str) -> Pod | None:
        return next((pod for pod in self.cluster.pods.values() if pod.metadata.name == name), None)

    async def read_account(self, namespace: str, name: str) -> Account | None:
        return self.cluster.accounts.get((namespace, name))

    async def read_node(self, name: str) -> Node | None:
        return self.cluster.nodes.get(name)

    async def node_lease(self, name: str) -> str | None:
        return self.cluster.leases.get(name)

    async def owned(self, group: str, plural: str, namespace: str, name: str, within: float) -> Owned | None:
        await self._wait()
        return None

    async def _wait(self) -> None:
        await asyncio.sleep(0)
        happening, self.meanwhile = self.meanwhile, None
        if happening is not None:
            happening()

    async def _turn(self) -> None:
        await self._wait()
        self.writes += 1
        if self.fail_on_write:
            self.fail_on_write -= 1
            if not self.fail_on_write:
                raise ConnectionError("killed")


class Cluster:
    """What exists, and the controller's parts over it."""

    def __init__(self, policy: Policy | None = GOOD, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.now = BORN + timedelta(seconds=1)
        self.pods: dict[str, Pod] = {}
        self.nodes: dict[str, Node] = {}
        self.leases: dict[str, str] = {}
        self.epoch = ""
        self.accounts = {(NAMESPACE, "api"): Account(ACCOUNT_UID, stamp(-60))}
        self.events: list[tuple[str, str, str]] = []
        self.later: dict[str, float] = {}
        self.withdrawn: list[str] = []
        self.reported: list[UsesReport] = []
        """What verifiers tell when they are asked next."""
        self.woken: list[str] = []
        self.key_ring = plan_receipt_keys(None, datetime(2026, 1, 1, tzinfo=UTC)) or ReceiptKeys(())
        self.receipts = ReceiptVerifier(self.key_ring)
        self.refreshes = 0
        self._versions = 100
        self._policies = 0
        self.store = MemoryStore(self)
        self.given = PolicySnapshot()
        self._limits = limits
        self.start()
        if policy is not None:
            self.apply(policy)

    def start(self) -> None:
        """A controller that knows nothing but what the store holds."""
        self.world = World("countersign-system")
        metrics = ControllerMetrics(CollectorRegistry())
        self.reverified = Reverified(refresh=3600.0, monotonic=self._seconds)
        self.judging = Judging(
            self.world, self.store, self, metrics, self._limits,
            clock=lambda: self.now, reverified=self.reverified,
            turned=lambda record, withdrawn: self.withdrawn.append(record.track.uid) if withdrawn else None,
        )  # fmt: skip
        self.uses = UseKeeper(
            self.world, self, metrics,
            ask=self.reports, record_seconds=600, clock=lambda: self.now, wake=self.woken.append,
        )  # fmt: skip
        self.reconciler = PodReconciler(
            self.world, self.store, self.judging, self, metrics, uses=self.uses,
            retention=timedelta(days=1), epoch=self.epoch, clock=lambda: self.now, later=self.later.__setitem__,
            changed=lambda: None,
        )  # fmt: skip
        meta = ObjectMeta(name=NAMESPACE, uid="ns-uid", labels=dict(LABELS), resource_version="1")
        self.see(Namespace(metadata=meta))
        for (namespace, name), account in self.accounts.items():
            made = ObjectMeta(
                name=name, namespace=namespace, uid=account.uid, creation_timestamp=account.created,
                resource_version=str(self.version()),
            )  # fmt: skip
            self.see(ServiceAccount(metadata=made))

    async def restart(self, *, epoch: str | None = None) -> None:
        """The controller ends and another, of that epoch if one is named, lists everything."""
        self.epoch = self.epoch if epoch is None else epoch
        policies, audiences = dict(self.world.rules.policies), dict(self.world.rules.audiences)
        orders = {**self.world.rules.revocations, **self.world.rules.exceptions}
        self.start()
        for one in (*policies.values(), *audiences.values(), *orders.values(), *self.store.grants.values()):
            self.see(one)
        for seen in (*self.nodes.values(), *self.pods.values()):
            self.see(seen)
        self.world.listed = True
        await self.survey()

    def _seconds(self) -> float:
        return (self.now - BORN).total_seconds()

    # Protocols: keys and events

    async def refresh_receipt_keys(self) -> None:
        self.refreshes += 1
        self.receipts.keys = self.key_ring

    def revoke_keys(self, *ids: str) -> None:
        """These receipt keys are revoked, and no others."""
        self.key_ring = ReceiptKeys(self.key_ring.keys, frozenset(ids))
        self.receipts.keys = self.key_ring

    async def reports(self) -> list[UsesReport]:
        told, self.reported = self.reported, []
        return told

    def emit(self, regarding: ObjectReference, urgency: Urgency, reason: str, note: str, *, action: str) -> None:
        self.events.append((regarding.uid, reason, note))

    # What happens

    def version(self) -> int:
        self._versions += 1
        return self._versions

    def see(self, found: Any, *, gone: bool = False) -> Touched:
        return self.world.see(Sighting(found, gone=gone, listed=False))

    def apply(self, policy: Policy) -> None:
        """Create or edit a policy, with every audience that it needs."""
        from tests.unit.trust.build import audience

        self._policies += 1
        resource = resource_of(policy, self._policies)
        meta = msgspec.structs.replace(resource.metadata, resource_version=str(self.version()))
        self.see(msgspec.structs.replace(resource, metadata=meta))
        declared = audience()
        meta = msgspec.structs.replace(declared.metadata, resource_version=str(self.version()))
        self.see(msgspec.structs.replace(declared, metadata=meta))
        self.given = PolicySnapshot(
            policies=(from_resource(resource),), audiences=(declared,), system_namespace="countersign-system"
        )

    def delete_policy(self, policy: Policy = GOOD) -> None:
        self.see(resource_of(policy), gone=True)

    def order(self, **target: Any) -> None:
        meta = ObjectMeta(
            name="leak", namespace="countersign-system", uid="order-uid", creation_timestamp=stamp(3600),
            resource_version=str(self.version()),
        )  # fmt: skip
        self.see(Revocation(metadata=meta, spec=RevocationSpec(target=Target(**target), reason="leaked")))

    def exempt(self, *exceptions: TrustException) -> None:
        """Create exceptions, or change them. Pods are admitted by these alone from now on."""
        for one in exceptions:
            meta = msgspec.structs.replace(one.metadata, resource_version=str(self.version()))
            self.see(msgspec.structs.replace(one, metadata=meta))
        self.given = msgspec.structs.replace(self.given, exceptions=exceptions)

    def admit(
        self,
        uid: str = "pod-uid",
        *,
        nonce: str = "",
        signer: ReceiptKeys | None = None,
        found: ImageFacts | None = None,
        image: str = PINNED,
    ) -> Pod:
        """A pod through the gate: injected, with a signed receipt."""
        given = msgspec.structs.replace(self.given, roots=self.world.rules.known_roots())
        subject, spent = admitted(given, live(uid, image=image), nonce=nonce or uid, found=found)
        text = ReceiptSigner(signer or self.key_ring, lambda: BORN).sign(encode(spent.receipt))
        return self.store_pod(changed(subject.pod, name=uid, annotations={RECEIPT_ANNOTATION: text}))

    def bind(self, uid: str = "pod-uid", *, node: str = "n1", seconds: float = 0) -> Pod:
        """The scheduler's part, and the API server's: the pod is bound to the node at that time."""
        pod = self.pods[uid]
        bound = PodCondition(type="PodScheduled", status="True", last_transition_time=stamp(seconds))
        status = msgspec.structs.replace(pod.status, conditions=(bound,))
        spec = msgspec.structs.replace(pod.spec, node_name=node)
        return self.store_pod(msgspec.structs.replace(pod, spec=spec, status=status))

    def node(
        self, name: str = "n1", *, uid: str = "node-uid", ready: str = "True", since: float = -60, created: float = -60
    ) -> Touched:
        """A node as it is now."""
        meta = ObjectMeta(
            name=name, uid=uid, creation_timestamp=stamp(created), resource_version=str(self.version())
        )  # fmt: skip
        condition = NodeCondition(type="Ready", status=ready, last_transition_time=stamp(since))
        self.nodes[name] = Node(metadata=meta, status=NodeStatus(conditions=(condition,)))
        return self.see(self.nodes[name])

    def slip_in(self, uid: str = "pod-uid") -> Pod:
        """A pod around the gate."""
        return self.store_pod(changed(live(uid), name=uid))

    def store_pod(self, pod: Pod) -> Pod:
        meta = msgspec.structs.replace(pod.metadata, resource_version=str(self.version()))
        self.pods[meta.uid] = msgspec.structs.replace(pod, metadata=meta)
        self.see(self.pods[meta.uid])
        return self.pods[meta.uid]

    def vanish(self, uid: str = "pod-uid") -> None:
        self.see(self.pods.pop(uid), gone=True)

    async def survey(self) -> None:
        await self.judging.survey()
        for uid in self.world.everyone():
            await self.settle(uid)

    async def settle(self, uid: str = "pod-uid") -> None:
        await self.reconciler.reconcile(uid)

    def state(self, uid: str = "pod-uid") -> tuple[str, str] | None:
        found = [grant.status for grant in self.store.grants.values() if grant.spec.pod.uid == uid]
        assert len(found) <= 1
        return (found[0].state or "", found[0].reason) if found else None

    def condition(self, kind: str, uid: str = "pod-uid") -> str | None:
        """Status of the grant's condition of that type."""
        [status] = [grant.status for grant in self.store.grants.values() if grant.spec.pod.uid == uid]
        return next((one.status for one in status.conditions if one.type == kind), None)
