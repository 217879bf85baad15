"""Policies as the core sees them: one shape for both kinds, with the facts that scope needs.

A `PolicySnapshot` is everything that a judgement takes from the cluster besides the pod. It is immutable; the services
build a new one when a watch brings a change.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

import msgspec

from countersign.api.audience import ProtectedAudience
from countersign.api.exception import TrustException
from countersign.api.policy import ClusterTrustPolicy, ClusterTrustPolicySpec, Mode, TrustPolicy, TrustPolicySpec
from countersign.api.revocation import Revocation

DEFAULT_ROOT: Final = "public-good"
"""Name of the evidence root that is built in: the public-good Sigstore. An authority that names none means this one."""


class PolicyRef(NamedTuple):
    """Which policy, which state of it. `uid` is what evidence and grants name: names can be re-used."""

    kind: Literal["ClusterTrustPolicy", "TrustPolicy"]
    namespace: str
    name: str
    uid: str
    generation: int

    def __str__(self) -> str:
        """As people write it: `ClusterTrustPolicy payments`, `TrustPolicy team-a/payments`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Policy(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A ClusterTrustPolicy or TrustPolicy, ready for judgement.

    It keeps what `compiled` works out of it; services that reuse the object in the next snapshot spare that work.
    """

    ref: PolicyRef
    spec: ClusterTrustPolicySpec | TrustPolicySpec
    created: str
    """creationTimestamp: where two policies clash, the older wins."""

    @property
    def is_cluster(self) -> bool:
        """Whether it is the cluster's, not a namespace's own."""
        return self.ref.kind == "ClusterTrustPolicy"

    def mode_in(self, namespace: str) -> Mode:
        """The mode in that namespace (modeOverrides of a ClusterTrustPolicy)."""
        if isinstance(self.spec, ClusterTrustPolicySpec):
            for override in self.spec.mode_overrides:
                if override.namespace == namespace:
                    return override.mode
        return self.spec.mode


class NamespaceFacts(NamedTuple):
    """A namespace, as far as selectors ask."""

    name: str
    labels: Mapping[str, str]


class RootFacts(NamedTuple):
    """An evidence root, as far as a judgement asks: not what stands in it, only what that is called."""

    hash: str
    """`sha256:<hex>` of its content (`signatures.roots.TrustRoot.hash`); empty if there is none to use."""
    anchors: frozenset[str]
    """Names of its certificates and logs (`signatures.roots.TrustRoot.anchors`)."""
    problem: str = ""
    """A phrase: why it cannot be used now, and what to do. Empty if it can be."""


class PolicySnapshot(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All that a judgement takes from the cluster besides the pod itself. It keeps its own index (`compiled`)."""

    policies: tuple[Policy, ...] = ()
    audiences: tuple[ProtectedAudience, ...] = ()
    revocations: tuple[Revocation, ...] = ()
    exceptions: tuple[TrustException, ...] = ()
    """All that exist: which of them are in force, the time of the judgement says."""
    roots: Mapping[str, RootFacts] = MappingProxyType({})
    """Evidence roots by name. One that is not in here does not exist, or was not read yet: it vouches for nothing."""
    system_namespace: str = "countersign-system"


def from_resource(resource: ClusterTrustPolicy | TrustPolicy) -> Policy:
    """The policy that a custom resource states."""
    meta = resource.metadata
    kind: Literal["ClusterTrustPolicy", "TrustPolicy"] = (
        "ClusterTrustPolicy" if isinstance(resource, ClusterTrustPolicy) else "TrustPolicy"
    )
    return Policy(
        ref=PolicyRef(kind, meta.namespace, meta.name, meta.uid, meta.generation),
        spec=resource.spec,
        created=meta.creation_timestamp or "",
    )
