"""Whether the evidence of running pods still holds: facts found out anew, for the controller, which judges them.

Nothing is taken from a receipt, and from memory only what is as young as the controller says. What was found out stays
in memory for admissions.
"""

from countersign.gate.evidence.inquiry import EvidenceSource, request_of
from countersign.registry.counting import RequestCount, counted_in
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.reverification import EvidenceAnswer, EvidenceQuestion


class Reverification:
    """Answers the questions of `/internal/evidence`."""

    def __init__(self, evidence: EvidenceSource) -> None:
        self._evidence = evidence
        self._requests = RequestCount()

    async def answer(self, question: EvidenceQuestion, until: float) -> EvidenceAnswer:
        """What is found out by `until` (loop time). Raises BadReference if the question names no image."""
        inquiry = question.inquiry
        request = request_of(
            inquiry.need,
            inquiry.namespace,
            inquiry.service_account,
            inquiry.pull_secrets,
            max_age_seconds=max(question.max_age_seconds, 0.0),
        )
        with counted_in(self._requests):
            found = (await self._evidence.gather([request], until))[request]
        made = self._requests.take()
        if not isinstance(found, ImageFacts):
            return EvidenceAnswer(reason=found.reason, registry_requests=made)
        if found.stale_seconds:
            # What was found out while the registry still answered says nothing about now.
            return EvidenceAnswer(reason="RegistryUnavailable", registry_requests=made)
        return EvidenceAnswer(facts=found, registry_requests=made)
