"""What the controller asks a gate, besides the reviews of the API server: JSON by POST, on the gate's own TLS port.

Who may ask is told by `keys.calls`. Answers hold numbers, reason codes and, where evidence is asked for, facts about
images as they stand in receipts; nothing else of what a registry said.
"""

from typing import Final, Literal

import msgspec

from countersign.api.pod import Pod
from countersign.api.policy_status import GateTally

TALLIES_PATH: Final = "/internal/tallies"
"""No body; answers TallyReport."""
OUTLOOK_PATH: Final = "/internal/outlook"
"""OutlookQuestion; answers OutlookAnswer, or 503 if it cannot be told now."""
EVIDENCE_PATH: Final = "/internal/evidence"
"""`trust.evidence.reverification.EvidenceQuestion`; answers its EvidenceAnswer, or 503 likewise."""


class _Call(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Members of a newer release are skipped, and what an older one does not send has a default."""


class PolicyTally(_Call, frozen=True, kw_only=True):
    """What a gate has counted of one policy's latest generation that it knows."""

    uid: str
    generation: int
    tally: GateTally


class TallyReport(_Call, frozen=True, kw_only=True):
    """Everything that a gate has counted since it started."""

    policies: tuple[PolicyTally, ...] = ()


class OutlookQuestion(_Call, frozen=True, kw_only=True):
    """What would become of a running pod if it were created now?"""

    namespace: str
    pod: Pod


class PolicyOutlook(_Call, frozen=True, kw_only=True):
    """The word of one policy (`trust.verdicts.outlook.Weighed`)."""

    uid: str
    generation: int
    outcome: Literal["allowed", "wouldDeny", "unknown"]
    reasons: tuple[str, ...] = ()
    not_injected: bool = False


class OutlookAnswer(_Call, frozen=True, kw_only=True):
    """The words of all policies that govern it."""

    policies: tuple[PolicyOutlook, ...] = ()
    registry_requests: int = 0
    """HTTP requests to registries for such questions since the last answer to one."""
