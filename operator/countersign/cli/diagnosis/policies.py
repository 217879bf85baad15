"""Checks of what people wrote: policies and audiences with trouble, namespaces that nothing governs."""

from collections.abc import Iterator
from typing import Final

from countersign.api.admission import Namespace
from countersign.api.audience import ProtectedAudience
from countersign.api.meta import Condition
from countersign.api.names import EXEMPT_NAMESPACES
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.cli.cluster.paths import collection
from countersign.cli.diagnosis.check import Check, Cluster, Result

EVIDENCE_EXPIRING: Final = "EvidenceExpiring"
TROUBLE_WHEN_TRUE: Final = ("ImpactHeld", EVIDENCE_EXPIRING)
"""Conditions that tell of trouble when they hold; of all others it is when they do not."""
SHOWN: Final = 10
"""Names that are listed before the rest is counted."""


def policies(cluster: Cluster, _system_namespace: str) -> Iterator[Check]:
    """Whether the controller has judged every policy and audience, and what it found."""
    resources: list[ClusterTrustPolicy | TrustPolicy | ProtectedAudience] = [
        *cluster.items(collection(ClusterTrustPolicy), ClusterTrustPolicy),
        *cluster.items(collection(TrustPolicy), TrustPolicy),
        *cluster.items(collection(ProtectedAudience), ProtectedAudience),
    ]
    troubled = 0
    for resource in resources:
        meta, status = resource.metadata, resource.status
        name = f"{resource.KIND} {'/'.join(filter(None, (meta.namespace, meta.name)))}"
        if not status.conditions or status.observed_generation < meta.generation:
            troubled += 1
            yield Check(name, "warn", "the controller has not judged its present state", "is the controller running?")
            continue
        trouble = _trouble(status.conditions)
        troubled += bool(trouble)
        for one in trouble:
            found = f"{one.type}={one.status} {one.reason}: {one.message}"
            result: Result = "warn" if one.type == EVIDENCE_EXPIRING else "fail"
            yield Check(name, result, found, f"kubectl describe {resource.KIND.lower()} {meta.name}")
    if not troubled:
        yield Check("policies", "ok", f"{len(resources)} policies and audiences, none with trouble")


def coverage(cluster: Cluster, system_namespace: str) -> Iterator[Check]:
    """Namespaces whose pods no policy can govern."""
    governed = set(governed_namespaces(cluster, system_namespace))
    names = {one.metadata.name for one in cluster.items("/api/v1/namespaces", Namespace)}
    bare = sorted(names - governed - {*EXEMPT_NAMESPACES, system_namespace})
    if bare:
        shown = ", ".join(bare[:SHOWN]) + (f" and {len(bare) - SHOWN} more" if len(bare) > SHOWN else "")
        remedy = "pods there are admitted unjudged and without identity; write a policy if they should have one"
        yield Check("coverage", "warn", f"nothing governs {len(bare)} namespace(s): {shown}", remedy)
    else:
        yield Check("coverage", "ok", f"some policy governs each of {len(governed)} namespace(s)")


def governed_namespaces(cluster: Cluster, system_namespace: str) -> list[str]:
    """Namespaces where some pod could be governed: by selector, by a policy of their own, by a bound account."""
    of_cluster = list(cluster.items(collection(ClusterTrustPolicy), ClusterTrustPolicy))
    selectors = [policy.spec.match.namespace_selector for policy in of_cluster]
    named = {one.metadata.namespace for one in cluster.items(collection(TrustPolicy), TrustPolicy)}
    named |= {account.namespace for policy in of_cluster for account in policy.spec.binding.service_accounts}
    exempt = {*EXEMPT_NAMESPACES, system_namespace}
    return [
        one.metadata.name
        for one in cluster.items("/api/v1/namespaces", Namespace)
        if one.metadata.name not in exempt
        and (one.metadata.name in named or any(selector.matches(one.metadata.labels) for selector in selectors))
    ]


def _trouble(conditions: tuple[Condition, ...]) -> list[Condition]:
    bad = [one for one in conditions if one.status == ("True" if one.type in TROUBLE_WHEN_TRUE else "False")]
    # Ready only repeats what another one says.
    return [one for one in bad if one.type != "Ready"] or bad
