"""The REST endpoints that the controller uses, beside those of `cluster.resource`."""

from typing import Final

from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.exception import TrustException
from countersign.api.grant import WorkloadGrant
from countersign.api.names import GROUP, VERSION
from countersign.api.objects import CustomResource
from countersign.api.pause import AdmissionPause
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.api.revocation import Revocation
from countersign.cluster.resource import Resource


def of_kind(kind: type[CustomResource]) -> Resource:
    """The endpoint of one of our kinds."""
    return Resource(GROUP, VERSION, kind.PLURAL, kind.NAMESPACED)


GRANTS: Final = of_kind(WorkloadGrant)
AUDIENCES: Final = of_kind(ProtectedAudience)
CLUSTER_POLICIES: Final = of_kind(ClusterTrustPolicy)
POLICIES: Final = of_kind(TrustPolicy)
REVOCATIONS: Final = of_kind(Revocation)
PAUSES: Final = of_kind(AdmissionPause)
EVIDENCE_ROOTS: Final = of_kind(EvidenceRoot)
EXCEPTIONS: Final = of_kind(TrustException)
MUTATING: Final = Resource("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", False)
VALIDATING: Final = Resource("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", False)
