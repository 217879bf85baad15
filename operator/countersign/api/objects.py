"""Our kinds as a table, and models as the objects that the API server takes."""

from typing import Any, Final

import msgspec

from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.exception import TrustException
from countersign.api.grant import WorkloadGrant
from countersign.api.names import API_VERSION
from countersign.api.pause import AdmissionPause
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.api.revocation import Revocation

CustomResource = (
    ProtectedAudience
    | ClusterTrustPolicy
    | TrustPolicy
    | WorkloadGrant
    | Revocation
    | AdmissionPause
    | EvidenceRoot
    | TrustException
)

KINDS: Final[tuple[type[CustomResource], ...]] = (
    ProtectedAudience,
    ClusterTrustPolicy,
    TrustPolicy,
    WorkloadGrant,
    Revocation,
    AdmissionPause,
    EvidenceRoot,
    TrustException,
)


def to_object(resource: CustomResource) -> dict[str, Any]:
    """The resource as JSON-able members, with apiVersion and kind."""
    members: dict[str, Any] = msgspec.to_builtins(resource)
    return {"apiVersion": API_VERSION, "kind": resource.KIND, **members}
