"""Adoption: which pods run without an identity that a policy would give them, and which may be restarted for it.

A pod cannot be admitted after its creation, so the only way to an identity is another pod. Whether the next one would
get it is a verdict (`trust.verdicts`); here is said whether this one may be put aside. What is not known to come back,
or lost its identity for a reason that a person should look at first, stays.
"""

from collections.abc import Iterable
from typing import Final

from countersign.api.grant import WorkloadGrant
from countersign.api.pod import Pod, is_terminal
from countersign.grants.reasons import Reason
from countersign.trust.policies.policy import Policy

RECREATED: Final = frozenset({("apps", "ReplicaSet"), ("apps", "StatefulSet"), ("apps", "DaemonSet")})
"""Controllers that are known to make another pod for one that was evicted. A Job counts it as a failure of its work."""

CURED_BY_RESTART: Final[frozenset[Reason]] = frozenset(
    {
        "NotAdmitted",
        "ReceiptMissing",
        "ReceiptKeyRevoked",
        "LifetimeOver",
        "NotQualified",
        "NoLongerQualifies",
    }
)
"""Nobody did anything to such a pod. An order, another image or a copied receipt is for a person to look at: whoever
restarts that pod destroys what there is to see, and gives back what somebody took away."""


def lacks_identity(pod: Pod, policies: Iterable[Policy], grants: Iterable[WorkloadGrant]) -> bool:
    """Whether a pod that lives is without an Active grant, though some of the policies that govern it give tokens."""
    if is_terminal(pod) or pod.metadata.deletion_timestamp is not None:
        return False
    if not any(policy.spec.tokens for policy in policies):
        return False
    return not any(grant.status.state == "Active" for grant in grants)


def obstacle(pod: Pod, grants: Iterable[WorkloadGrant]) -> str:
    """Why a pod that lacks its identity may not be restarted by a machine, for people; empty: it may."""
    owner = next((one for one in pod.metadata.owner_references if one.controller), None)
    if owner is None:
        return "nothing would make it again: it has no controller"
    if (owner.api_version.rpartition("/")[0], owner.kind) not in RECREATED:
        return f"it is not known that a {owner.kind} makes another: restart it yourself"
    found = sorted(grants, key=lambda one: one.metadata.name)
    if not found or any(grant.status.state is None for grant in found):
        return "the controller has not judged it yet: is it running?"
    for grant in found:
        if grant.status.reason not in CURED_BY_RESTART:
            return f"look at it first: {grant.status.reason}"
    return ""
