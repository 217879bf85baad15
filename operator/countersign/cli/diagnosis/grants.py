"""Check of the grants: what is suspended for a reason that lies with the cluster and not with a policy or a pod."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from countersign.api.grant import WorkloadGrant
from countersign.cli.cluster.paths import collection
from countersign.cli.diagnosis.check import Check, Cluster
from countersign.grants.reasons import REMEDIES, Reason

BAD_DAYS: Final[tuple[Reason, ...]] = ("ReceiptKeyRevoked", "NodeLost", "NodeReplaced", "EpochChanged")
"""Each has its section in docs/bad-days.md."""


def suspended(cluster: Cluster, _system_namespace: str) -> Iterator[Check]:
    """Whether grants are suspended by a revoked receipt key, a lost node or a restored etcd."""
    counts: Counter[str] = Counter()
    total = 0
    for grant in cluster.items(collection(WorkloadGrant), WorkloadGrant):
        total += 1
        if grant.status.state == "Suspended":
            counts[grant.status.reason] += 1
    for reason in BAD_DAYS:
        if counts[reason]:
            remedy = f"{REMEDIES[reason]} See countersign grants --reason {reason}, and docs/bad-days.md"
            yield Check("grants", "warn", f"{counts[reason]} of {total} are suspended: {reason}", remedy)
    if not any(counts[reason] for reason in BAD_DAYS):
        yield Check("grants", "ok", f"none of {total} is suspended by a key, a node or an epoch")
