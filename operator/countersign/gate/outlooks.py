"""What would become of a running pod if it were created now. The controller asks, for the figures of policies.

A gate answers because it has what that takes already: registries, credentials, and a memory of facts. So no other
process needs any, and one that was admitted an hour ago costs no request.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec

from countersign.api.gate_calls import OutlookAnswer, OutlookQuestion, PolicyOutlook
from countersign.gate.evidence.inquiry import EvidenceSource, evidence_for
from countersign.gate.receipts import Receipts
from countersign.gate.state import GateState
from countersign.gate.subjects import Subjects
from countersign.registry.counting import RequestCount, counted_in
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.receipt import as_admitted
from countersign.trust.verdicts.outlook import outlook, recreated, weigh


class Outlooks:
    """Answers the questions of `/internal/outlook`."""

    def __init__(
        self,
        state: GateState,
        subjects: Subjects,
        evidence: EvidenceSource,
        receipts: Receipts,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._subjects = subjects
        self._evidence = evidence
        self._receipts = receipts
        self._clock = clock
        self._requests = RequestCount()

    async def answer(self, question: OutlookQuestion, until: float) -> OutlookAnswer:
        """The word of each policy, by `until` (loop time). Raises RefuseNow if namespace or policies cannot be read."""
        receipt = self._receipts.signed(question.pod).receipt
        if receipt is not None and receipt.namespace != question.namespace:
            receipt = None
        pod = recreated(question.pod, admitted=receipt is not None)
        if receipt is not None:
            metadata = msgspec.structs.replace(pod.metadata, labels=receipt.labels)
            pod = msgspec.structs.replace(pod, metadata=metadata)
        found = await self._subjects.of(pod, question.namespace, None, until)
        subject = found.subject if receipt is None else as_admitted(receipt, found.subject)
        snapshot = self._state.snapshot
        needs = evidence_needs(found.policies, pod, snapshot.roots)
        with counted_in(self._requests):
            evidence = await evidence_for(self._evidence, needs, receipt, subject, until)
        verdict = outlook(snapshot, subject, evidence, self._clock(), admitted=receipt is not None)
        carrying = msgspec.structs.replace(subject, pod=question.pod)
        doubtful = frozenset({"ControllerNotBound"}) if found.unresolved else frozenset[str]()
        return OutlookAnswer(
            policies=tuple(
                PolicyOutlook(
                    uid=one.policy.uid,
                    generation=one.policy.generation,
                    outcome=one.outcome,
                    reasons=one.reasons,
                    not_injected=one.not_injected,
                )
                for one in weigh(verdict, carrying, doubtful)
            ),
            registry_requests=self._requests.take(),
        )
