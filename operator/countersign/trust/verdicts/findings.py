"""A finding: one reason why a pod does not satisfy a policy, with the way out."""

from typing import Literal

import msgspec

from countersign.api.policy import Mode
from countersign.trust.orders.exceptions import Waiver
from countersign.trust.policies.policy import PolicyRef

ReasonCode = Literal[
    "ImageNotCovered",
    "ImageUnsigned",
    "ImageUnverifiable",
    "ImageNotFound",
    "ImageMalformed",
    "ImageNotPinned",
    "ImageRevoked",
    "AttestationMissing",
    "AttestationFailed",
    "AttestationTooOld",
    "EvidenceRootMissing",
    "EvidenceRootUnusable",
    "EvidenceStale",
    "CommandNotAllowed",
    "EnvNotAllowed",
    "ServiceAccountNotBound",
    "ControllerNotBound",
    "RequesterNotBound",
    "TokenExposed",
    "TokenNotInjected",
    "TokenClash",
    "ApiTokenKept",
    "PodTooLarge",
    "PodTooPrivileged",
    "EphemeralContainerDenied",
    "ReceiptTampered",
    "ClockSkew",
    "AudienceUnavailable",
    "RequiredPolicyMissing",
]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One reason, complete enough to act on.

    `expected`, `found` and `remedy` are phrases without a final full stop; the denial's formatter joins them.
    """

    code: ReasonCode
    policy: PolicyRef | None
    mode: Mode
    """Mode of the policy in the pod's namespace. Only Enforce denies."""
    container: str = ""
    """Container name, or `volume/<name>` for an image volume; empty if the finding is about the pod."""
    image: str = ""
    expected: str
    found: str
    remedy: str
    transient: bool = False
    """The evidence could not be had in time: the same pod may pass at the retry."""
    blocks_identity: bool = True
    """Whether it withholds tokens (all but reports do)."""
    denies: bool = True
    """False for what is only reported, whatever the mode, such as an unmatched image under `unmatchedImages: Allow`."""
    waiver: Waiver | None = None
    """The TrustException by which it does not deny; whether it blocks identity, `blocks_identity` says as ever."""
    pod_wide: bool = False
    """It holds against the pod under every policy, and withholds all tokens. `policy` is then the strictest one."""

    @property
    def is_denial(self) -> bool:
        """Whether it keeps the pod out."""
        return self.denies and self.mode == "Enforce"
