"""What the gate watches: the kinds that a judgement takes from the cluster, and two Secrets of its own namespace."""

from collections.abc import Coroutine
from typing import Any, Never

from countersign.api import names
from countersign.api.admission import Namespace
from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot, without_metadata
from countersign.api.exception import TrustException
from countersign.api.objects import CustomResource
from countersign.api.pause import AdmissionPause
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.api.revocation import Revocation
from countersign.api.secret import Secret
from countersign.cluster.client import ApiClient
from countersign.cluster.resource import NAMESPACES, SECRETS, Resource
from countersign.cluster.watch import Reflector
from countersign.gate.own_secrets import OwnSecrets
from countersign.gate.state import Caches
from countersign.trust.policies.policy import NamespaceFacts, from_resource


class Watches:
    """The watches of one gate, to be run by whoever made them."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        """`namespace`: our own."""
        clusters = Reflector(client, _resource(ClusterTrustPolicy), ClusterTrustPolicy, from_resource)
        own = Reflector(client, _resource(TrustPolicy), TrustPolicy, from_resource)
        audiences = Reflector(client, _resource(ProtectedAudience), ProtectedAudience, _same)
        revocations = Reflector(client, _resource(Revocation), Revocation, _same)
        exceptions = Reflector(client, _resource(TrustException), TrustException, _same)
        pauses = Reflector(client, _resource(AdmissionPause), AdmissionPause, _same)
        roots = Reflector(client, _resource(EvidenceRoot), EvidenceRoot, without_metadata)
        namespaces = Reflector(client, NAMESPACES, Namespace, _namespace_facts)
        certificate = _own_secret(client, namespace, names.GATE_TLS_SECRET)
        receipt_keys = _own_secret(client, namespace, names.RECEIPT_KEYS_SECRET)
        self.secrets = OwnSecrets()
        certificate.cache.on_change(self.secrets.on_certificate)
        receipt_keys.cache.on_change(self.secrets.on_receipt_keys)
        self.caches = Caches(
            cluster_policies=clusters.cache,
            policies=own.cache,
            audiences=audiences.cache,
            revocations=revocations.cache,
            exceptions=exceptions.cache,
            pauses=pauses.cache,
            evidence_roots=roots.cache,
            namespaces=namespaces.cache,
        )
        self._reflectors = (
            clusters, own, audiences, revocations, exceptions, pauses, roots, namespaces, certificate, receipt_keys,
        )  # fmt: skip

    def runs(self) -> list[Coroutine[Any, Any, Never]]:
        """One for each watch."""
        return [reflector.run() for reflector in self._reflectors]


def _resource(kind: type[CustomResource]) -> Resource:
    return Resource(names.GROUP, names.VERSION, kind.PLURAL, kind.NAMESPACED)


def _own_secret(client: ApiClient, namespace: str, name: str) -> Reflector[Secret, Secret]:
    return Reflector(client, SECRETS, Secret, _same, namespace=namespace, name=name)


def _same(thing: Any) -> Any:
    return thing


def _namespace_facts(namespace: Namespace) -> NamespaceFacts:
    return NamespaceFacts(namespace.metadata.name, namespace.metadata.labels)
