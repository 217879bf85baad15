"""The outcome of a judgement: findings, tokens and settings for one pod."""

from functools import cached_property

import msgspec

from countersign.trust.evidence.image_evidence import ImageEvidence
from countersign.trust.orders.exceptions import Waiver
from countersign.trust.pods.tokens import TokenGrant
from countersign.trust.policies.policy import Policy
from countersign.trust.policies.profiles import NO_SETTINGS, Settings
from countersign.trust.verdicts.findings import Finding


class Verdict(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What the policies make of one pod."""

    governed: tuple[Policy, ...]
    """Policies that govern it; empty: none of this applies, and the pod is nobody's business here."""
    findings: tuple[Finding, ...]
    tokens: tuple[TokenGrant, ...]
    """Tokens that it receives (mutate) or may hold (validate, live)."""
    withheld: tuple[TokenGrant, ...]
    """Tokens of its policies that it does not receive: what an earlier call injected of them is taken out again."""
    evidence_used: tuple[ImageEvidence, ...]
    """Images that some rule holds for, and why; and, with no evidence, those that an exception lets in."""
    settings: Settings
    """How it is treated from then on: the stricter of what its policies say."""
    owner: str
    """Owner named by the policy of the first token, otherwise by the first governing policy."""
    hands_out: bool
    """Some governing policy hands out tokens to such pods."""

    @cached_property
    def denials(self) -> tuple[Finding, ...]:
        """The findings that keep the pod out; empty: it is admitted."""
        return tuple(finding for finding in self.findings if finding.is_denial)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What the author is told although the pod is admitted: findings under Warn, and reports under Enforce."""
        return tuple(finding for finding in self.findings if finding.mode != "Audit" and not finding.is_denial)

    @property
    def audit(self) -> tuple[Finding, ...]:
        """What is only recorded."""
        return tuple(finding for finding in self.findings if finding.mode == "Audit")

    @property
    def qualifies(self) -> bool:
        """Whether the instance may have an Active grant: a token to hold, or no token to hand out and no finding."""
        if not self.governed:
            return False
        if self.hands_out:
            return bool(self.tokens)
        return not any(finding.blocks_identity for finding in self.findings)

    @property
    def waivers(self) -> tuple[Waiver, ...]:
        """The TrustExceptions that waive some finding of it."""
        return tuple(dict.fromkeys(finding.waiver for finding in self.findings if finding.waiver is not None))

    @property
    def retry(self) -> bool:
        """Whether the pod is kept out only because evidence could not be had in time."""
        return bool(self.denials) and all(finding.transient for finding in self.denials)


UNGOVERNED = Verdict(
    governed=(),
    findings=(),
    tokens=(),
    withheld=(),
    evidence_used=(),
    owner="",
    hands_out=False,
    settings=NO_SETTINGS,
)
