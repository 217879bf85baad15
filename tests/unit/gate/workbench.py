"""A gate on a table: real state, receipts and handlers; registries and the API server are fakes."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonpatch
import msgspec
from prometheus_client import CollectorRegistry

from countersign.api.admission import AdmissionRequest, AdmissionReview, ServiceAccount
from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.exception import TrustException
from countersign.api.grant import WorkloadGrant
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.pause import AdmissionPause
from countersign.api.pod import Pod
from countersign.api.revocation import Revocation
from countersign.api.secret import Secret
from countersign.cluster.cache import Key, WatchCache
from countersign.cluster.errors import AlreadyExistsError, ClusterError
from countersign.cluster.owners import ControllerLinks, Owned
from countersign.gate.answers import Answer, RefuseNow
from countersign.gate.app import Asked, Handler
from countersign.gate.connect import EntryGuard
from countersign.gate.evidence.service import EvidenceRequest
from countersign.gate.metrics import GateMetrics
from countersign.gate.mutate import Mutator
from countersign.gate.orders import Recorder
from countersign.gate.outlooks import Outlooks
from countersign.gate.paused import OpenDoor
from countersign.gate.receipts import Receipts
from countersign.gate.state import Caches, GateState
from countersign.gate.subjects import Subjects
from countersign.gate.tallies import Tallies
from countersign.gate.templates import TemplateAdviser
from countersign.gate.tokens import TokenGuard
from countersign.gate.validate import Validator
from countersign.keys.receipt_keys import ReceiptKey, ReceiptKeys
from countersign.keys.receipts import ReceiptSigner, ReceiptVerifier
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.policies.policy import NamespaceFacts, Policy
from tests.unit.trust import build

Json = dict[str, Any]

REQUESTER = "system:serviceaccount:kube-system:replicaset-controller"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
KEYS = ReceiptKeys((ReceiptKey("k1", b"k" * 32, NOW - timedelta(days=1)),))


class Registries:
    """Answers by image string as asked; whatever is not listed is signed by key 1."""

    def __init__(self) -> None:
        self.found: dict[str, ImageFacts | Unverifiable] = {}
        self.asked: list[str] = []
        self.requests: list[EvidenceRequest] = []

    async def gather(
        self, requests: Iterable[EvidenceRequest], deadline: float
    ) -> Mapping[EvidenceRequest, ImageFacts | Unverifiable]:
        assert deadline > asyncio.get_running_loop().time()
        requests = list(requests)
        self.requests += requests
        self.asked += [str(request.reference) for request in requests]
        return {request: self._answer(request) for request in requests}

    def _answer(self, request: EvidenceRequest) -> ImageFacts | Unverifiable:
        reference = request.reference
        return self.found.get(str(reference)) or build.facts(reference.name, digest=reference.digest or build.DIGEST)


class Cluster:
    """Live objects. `broken`: every read fails as if the API server did not answer."""

    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], Pod] = {}
        self.grants: dict[tuple[str, str], WorkloadGrant] = {}
        self.owners: dict[tuple[str, str], Owned] = {}
        self.accounts: dict[str, ServiceAccount] = {}
        self.secrets: dict[str, Secret] = {}
        self.revocations: dict[tuple[str, str], Revocation] = {}
        self.me = "system:serviceaccount:countersign-system:countersign-gate"
        self.refuses: Exception | None = None
        """What a write ends in."""
        self.stores_all_the_same = False
        self.broken = False
        self.reads: list[str] = []

    async def pod(self, namespace: str, name: str, within: float) -> Pod | None:
        self._read(f"pod {name}")
        return self.pods.get((namespace, name))

    async def grant(self, namespace: str, name: str, within: float) -> WorkloadGrant | None:
        self._read(f"grant {name}")
        return self.grants.get((namespace, name))

    async def owned(self, group: str, plural: str, namespace: str, name: str, within: float) -> Owned | None:
        self._read(f"{plural} {name}")
        return self.owners.get((plural, name))

    async def namespace(self, name: str, within: float) -> NamespaceFacts | None:
        self._read(f"namespace {name}")
        return None

    async def revocation(self, namespace: str, name: str, within: float) -> Revocation | None:
        self._read(f"revocation {name}")
        return self.revocations.get((namespace, name))

    async def create_revocation(self, revocation: Revocation, within: float) -> None:
        key = (revocation.metadata.namespace, revocation.metadata.name)
        if key in self.revocations:
            raise AlreadyExistsError(409, "AlreadyExists", "taken")
        if self.refuses is None or self.stores_all_the_same:
            self.revocations[key] = revocation
        if self.refuses is not None:
            raise self.refuses

    async def username(self, within: float) -> str:
        return self.me

    def _read(self, what: str) -> None:
        self.reads.append(what)
        if self.broken:
            raise ClusterError("the API server does not answer")


class Workbench:
    """One gate, judged by hand."""

    def __init__(
        self,
        *policies: Policy,
        audiences: Iterable[ProtectedAudience] | None = None,
        revocations: Iterable[Revocation] = (),
    ) -> None:
        self.registries = Registries()
        self.cluster = Cluster()
        self.wall = NOW
        self.registry = CollectorRegistry()
        self.cluster_policies: WatchCache[Policy] = WatchCache()
        self.policies: WatchCache[Policy] = WatchCache()
        self.audiences: WatchCache[ProtectedAudience] = WatchCache()
        self.revocations: WatchCache[Revocation] = WatchCache()
        self.exceptions: WatchCache[TrustException] = WatchCache()
        self.pauses: WatchCache[AdmissionPause] = WatchCache()
        self.evidence_roots: WatchCache[EvidenceRoot] = WatchCache()
        self.namespaces: WatchCache[NamespaceFacts] = WatchCache()
        caches = Caches(
            cluster_policies=self.cluster_policies,
            policies=self.policies,
            audiences=self.audiences,
            revocations=self.revocations,
            exceptions=self.exceptions,
            pauses=self.pauses,
            evidence_roots=self.evidence_roots,
            namespaces=self.namespaces,
        )
        for _, cache in caches.named():
            cache.synced.set()
        self.declare(*policies)
        for one in (build.audience(),) if audiences is None else audiences:
            self.audiences.put(Key("", one.metadata.name), one.metadata.uid, "1", one)
        for order in revocations:
            key = Key(order.metadata.namespace, order.metadata.name)
            self.revocations.put(key, order.metadata.uid, "1", order)
        facts = NamespaceFacts(build.NAMESPACE, build.LABELS)
        self.namespaces.put(Key("", build.NAMESPACE), "ns-1", "1", facts)
        self.state = GateState(caches, self.cluster.namespace, system_namespace="countersign-system")
        metrics = self.metrics = GateMetrics(self.registry)
        subjects = Subjects(self.state, ControllerLinks(self.cluster))
        clock = lambda: self.wall  # noqa: E731
        self.signer, self.verifier = ReceiptSigner(KEYS, clock), ReceiptVerifier(KEYS)
        receipts = Receipts(self.signer, self.verifier, clock, metrics)
        told = Validator(self.state, subjects, self.registries, receipts, metrics, stage="mutate")
        door = OpenDoor(self.state, told.routes(), metrics, clock=clock)
        self.tallies = Tallies(NOW)
        mutator = Mutator(self.state, subjects, self.registries, receipts, metrics, tallies=self.tallies)
        self._mutate = door.around_mutate(mutator.routes())
        self.outlooks = Outlooks(self.state, subjects, self.registries, receipts, clock)
        recorder = Recorder(self.cluster, "countersign-system")
        self._validate: dict[Asked, Handler] = {
            **door.around_validate(Validator(self.state, subjects, self.registries, receipts, metrics).routes()),
            **TokenGuard(self.state, subjects, receipts, self.cluster, metrics=metrics, clock=clock).routes(),
            **TemplateAdviser(self.state, subjects, self.registries).routes(),
            **EntryGuard(self.state, subjects, self.cluster, recorder, clock=clock).routes(),
        }

    def declare(self, *policies: Policy) -> None:
        for number, policy in enumerate(policies):
            cache = self.cluster_policies if policy.is_cluster else self.policies
            version = f"{policy.ref.generation}-{number}-{time.monotonic_ns()}"
            cache.put(Key(policy.ref.namespace, policy.ref.name), policy.ref.uid, version, policy)

    def pause(self, pause: AdmissionPause) -> None:
        key = Key("", pause.metadata.name)
        self.pauses.put(key, pause.metadata.uid, str(time.monotonic_ns()), pause)

    async def mutate(self, pod: Json, **request: Any) -> Answer:
        return await _ask(self._mutate, _request(pod, **request))

    async def validate(self, thing: Json, **request: Any) -> Answer:
        return await _ask(self._validate, _request(thing, **request))

    async def admitted(self, pod: Json, **request: Any) -> Json:
        """The pod as the API server would hold it after both webhooks admitted it."""
        final = patched(pod, await self.mutate(pod, **request))
        final["metadata"] |= {"uid": "pod-1", "creationTimestamp": self.wall.strftime("%Y-%m-%dT%H:%M:%SZ")}
        answer = await self.validate(final, **request)
        assert answer.allowed, answer.message
        return final

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"countersign_gate_{name}_total", labels) or 0.0


def pod(*containers: Json, labels: Mapping[str, str] | None = None, **spec: Any) -> Json:
    """A pod as its author's request reaches a mutating webhook."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "api-1", "namespace": build.NAMESPACE, "labels": dict(labels or {"app": "api"})},
        "spec": {"serviceAccountName": "worker", "containers": list(containers or (build.container(),)), **spec},
    }


def changed(old: Json, **parts: Any) -> Json:
    """A deep copy with members of metadata or spec replaced."""
    made: Json = json.loads(json.dumps(old))
    for name, value in parts.items():
        (made["metadata"] if name in ("labels", "annotations", "deletionTimestamp") else made["spec"])[name] = value
    return made


def patched(pod: Json, answer: Answer) -> Json:
    assert answer.allowed, answer.message
    made: Json = json.loads(json.dumps(pod))
    return made if answer.patch is None else jsonpatch.apply_patch(made, json.loads(answer.patch))


def operations(answer: Answer) -> list[Json]:
    found: list[Json] = json.loads(answer.patch or b"[]")
    return found


def receipt_of(pod: Json) -> str:
    text: str = pod["metadata"].get("annotations", {}).get(RECEIPT_ANNOTATION, "")
    return text


def receipt_payload(text: str) -> Json:
    payload = text.split(".")[1]
    made: Json = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return made


def _request(thing: Json, *, old: Json | None = None, sub: str = "", **more: Any) -> AdmissionRequest:
    group, kind, resource = more.pop("group", ""), more.pop("kind", "Pod"), more.pop("resource", "pods")
    user = {"username": more.pop("user", REQUESTER), "groups": more.pop("groups", ["system:authenticated"])}
    request = {
        "uid": "review-1",
        "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": resource},
        "subResource": sub,
        "namespace": build.NAMESPACE,
        "name": thing.get("metadata", {}).get("name", ""),
        "operation": "UPDATE" if old is not None else "CREATE",
        "userInfo": user,
        "object": thing,
        "oldObject": old,
        **more,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return msgspec.json.decode(msgspec.json.encode(review), type=AdmissionReview).request


async def _ask(routes: Mapping[Asked, Handler], request: AdmissionRequest) -> Answer:
    kind = request.resource
    handler = routes[Asked(kind.group, kind.version, kind.resource, request.sub_resource, request.operation)]
    try:
        return await handler(request, asyncio.get_running_loop().time() + 5.0)
    except RefuseNow as refused:
        return refused.answer
