"""What the gate counts about registries and verifications also stands in the trace of the review that caused it."""

from countersign.gate.evidence.metrics import EvidenceMetrics, VerificationOutcome
from countersign.registry.observer import RequestKind, RequestOutcome
from countersign.runtime.tracing.spans import happened


class TracedEvidence(EvidenceMetrics):
    """As EvidenceMetrics. A request that several reviews wait for belongs to the one that began it."""

    def requested(self, kind: RequestKind, outcome: RequestOutcome, seconds: float) -> None:
        """One try has ended."""
        super().requested(kind, outcome, seconds)
        happened(f"registry.{kind}", seconds, {"countersign.outcome": outcome})

    def verified(self, outcome: VerificationOutcome, seconds: float) -> None:
        """One verification of one digest has ended."""
        super().verified(outcome, seconds)
        happened("gate.verification", seconds, {"countersign.outcome": outcome})
