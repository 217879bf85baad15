"""What the policies say to exec, attach and port-forward: into which pods people may go, and at what price.

Whoever goes in makes another thing of the instance than was admitted. The strictest of the governing policies decides.
"""

from collections.abc import Iterable
from typing import NamedTuple

from countersign.api.responses import ExecResponse
from countersign.trust.policies.compiled import compiled_policy
from countersign.trust.policies.policy import Policy, PolicyRef


class Entering(NamedTuple):
    """What becomes of whoever wants to go in."""

    response: ExecResponse = "Allow"
    """`Deny` only where a policy that says so enforces."""
    policy: PolicyRef | None = None
    """The policy that says it; None: none says anything but Allow."""
    would_deny: PolicyRef | None = None
    """A policy that says Deny without enforcing it: as with its ephemeral containers, the identity ends instead."""
    governed: bool = False
    """Whether some policy governs the pod."""


def entering(policies: Iterable[Policy], namespace: str) -> Entering:
    """The strictest response of the governing policies of a pod in `namespace`.

    A mode changes admission and never identity: a Deny that does not enforce revokes.
    """
    found = Entering()
    for policy in policies:
        found = found._replace(governed=True)
        said = compiled_policy(policy).settings.exec
        if said == "Allow":
            continue
        if said == "Deny" and policy.mode_in(namespace) == "Enforce":
            return Entering("Deny", policy.ref, governed=True)
        would_deny = found.would_deny or (policy.ref if said == "Deny" else None)
        found = Entering("Revoke", found.policy or policy.ref, would_deny, governed=True)
    return found
