"""The pods that run in a cluster, with all that a judgement of them takes, as the person who asks may see it."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from countersign.api.admission import Namespace
from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.grant import WorkloadGrant
from countersign.api.names import EXEMPT_NAMESPACES
from countersign.api.pod import Pod, is_terminal
from countersign.api.policy import ClusterTrustPolicy, ClusterTrustPolicySpec, TrustPolicy
from countersign.api.revocation import Revocation
from countersign.cli.cluster.kube import ApiError, Kube
from countersign.cli.cluster.paths import collection
from countersign.cli.pods.instances import exceptions, receipt_of, top_controller
from countersign.cli.pods.workloads import POD
from countersign.cli.terminal.exits import note
from countersign.cluster.owners import Resolved, controller_of
from countersign.signatures.roots.known_roots import KnownRoots
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import NamespaceFacts, Policy, PolicySnapshot, from_resource
from countersign.trust.receipt import Receipt, as_admitted


class Running(NamedTuple):
    """One pod that has not ended."""

    pod: Pod
    subject: Subject
    """As at its admission, if its grant rests on the receipt that it carries."""
    receipt: Receipt | None
    grant: WorkloadGrant | None
    controller: str
    """Its top-level controller, for people; empty: it has none."""

    @property
    def name(self) -> str:
        """For people: namespace and name."""
        return f"{self.pod.metadata.namespace}/{self.pod.metadata.name}"


class ClusterView:
    """Policies, namespaces, pods and grants of a cluster. Each method raises ApiError."""

    def __init__(self, kube: Kube, system_namespace: str) -> None:
        self._kube = kube
        self.system_namespace = system_namespace
        self.namespaces = {
            one.metadata.name: NamespaceFacts(one.metadata.name, one.metadata.labels)
            for one in kube.items("/api/v1/namespaces", Namespace)
        }
        policies: tuple[ClusterTrustPolicy | TrustPolicy, ...] = (
            *kube.items(collection(ClusterTrustPolicy), ClusterTrustPolicy),
            *kube.items(collection(TrustPolicy), TrustPolicy),
        )
        self.snapshot = PolicySnapshot(
            policies=tuple(from_resource(policy) for policy in policies),
            audiences=tuple(kube.items(collection(ProtectedAudience), ProtectedAudience)),
            revocations=tuple(self._revocations()),
            roots=KnownRoots(kube.items(collection(EvidenceRoot), EvidenceRoot)),
            exceptions=tuple(exceptions(kube)),
            system_namespace=system_namespace,
        )
        self._tops: dict[str, Resolved] = {}

    def reached(self, policy: Policy) -> set[str]:
        """Namespaces in which the policy may govern pods: those that the webhook entries cover for its sake."""
        spec = policy.spec
        if not isinstance(spec, ClusterTrustPolicySpec):
            found = {policy.ref.namespace}
        else:
            found = {account.namespace for account in spec.binding.service_accounts}
            selector = spec.match.namespace_selector
            found |= {name for name, facts in self.namespaces.items() if selector.matches(facts.labels)}
        return (found & self.namespaces.keys()) - {*EXEMPT_NAMESPACES, self.system_namespace}

    def running(self, namespaces: Collection[str]) -> Iterator[Running]:
        """The pods of these namespaces that have not ended, by namespace and name."""
        for namespace in sorted(namespaces):
            grants: dict[str, WorkloadGrant] = {}
            # Of several, one that is not final; by its name, so that the answer is the same each time.
            for grant in sorted(
                self._kube.items(collection(WorkloadGrant, namespace), WorkloadGrant),
                key=lambda one: (one.status.state != "Revoked", one.metadata.name),
            ):
                grants[grant.spec.pod.uid] = grant
            pods = self._kube.items(POD.path(namespace), Pod)
            for pod in sorted(pods, key=lambda one: one.metadata.name):
                if not is_terminal(pod):
                    yield self._running(pod, grants.get(pod.metadata.uid))

    def _running(self, pod: Pod, grant: WorkloadGrant | None) -> Running:
        owner = controller_of(pod.metadata)
        if owner is None:
            top, shown = Resolved(None, True), ""
        else:
            if owner.uid not in self._tops:
                self._tops[owner.uid] = top_controller(self._kube, pod.metadata.namespace, owner)
            top = self._tops[owner.uid]
            shown = f"{top.link.kind} {top.link.name}" if top.link else f"{owner.kind} {owner.name}"
        subject = Subject(
            pod=pod,
            namespace=self.namespaces[pod.metadata.namespace],
            controller=top.link,
            controller_known=top.known,
        )
        receipt = receipt_of(pod, grant).receipt
        return Running(pod, as_admitted(receipt, subject) if receipt else subject, receipt, grant, shown)

    def _revocations(self) -> Iterator[Revocation]:
        try:
            yield from self._kube.items(collection(Revocation), Revocation)
        except ApiError as error:
            if error.status != 403:
                raise
            note("judged without Revocations, which you may not read")
