"""Receipts at the gate: read what a pod carries, write what it is to carry."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from countersign.api.names import DRY_RUN_RECEIPT, RECEIPT_ANNOTATION
from countersign.api.pod import Pod
from countersign.gate.metrics import GateMetrics
from countersign.keys.errors import ReceiptError
from countersign.keys.receipts import ReceiptSigner, ReceiptVerifier
from countersign.trust import receipt as receipts
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.pods.subject import Subject
from countersign.trust.receipt import BadReceipt, Receipt
from countersign.trust.verdicts.verdict import Verdict

NONCE_BYTES: Final = 16
"""128 bits: what makes a grant's name unguessable and unique."""


class Carried(NamedTuple):
    """The receipt on a pod: none, a good one, or a problem that says why it counts for nothing."""

    receipt: Receipt | None
    problem: str


NONE: Final = Carried(None, "")


class Receipts:
    """Reads and writes with the receipt keys of the moment."""

    def __init__(
        self, signer: ReceiptSigner, verifier: ReceiptVerifier, clock: Callable[[], datetime], metrics: GateMetrics
    ) -> None:
        self._signer = signer
        self._verifier = verifier
        self._clock = clock
        self._metrics = metrics

    def signed(self, pod: Pod) -> Carried:
        """The receipt that stands on the pod, if Countersign signed it: for this pod or another."""
        text = pod.metadata.annotations.get(RECEIPT_ANNOTATION, "")
        if not text or text == DRY_RUN_RECEIPT:
            return NONE
        try:
            payload, _ = self._verifier.verify(text)
            return Carried(receipts.decode(payload), "")
        except (ReceiptError, BadReceipt) as error:
            return Carried(None, str(error))

    def of(self, subject: Subject) -> Carried:
        """The receipt on the subject's pod, if Countersign signed it for this very pod."""
        carried = self.signed(subject.pod)
        if carried.receipt is None:
            if carried.problem:
                self._metrics.receipt("rejected")
            return carried
        problem = receipts.mismatch(carried.receipt, subject, self._clock())
        if problem is not None:
            self._metrics.receipt("rejected")
            return Carried(None, problem)
        return carried

    def just_given(self, pod: Pod, namespace: str) -> bool:
        """Whether a pod that is being created carries a receipt that a gate gave it a moment ago, in this request."""
        receipt = self.signed(pod).receipt
        if receipt is None or receipt.namespace != namespace:
            return False
        return abs(self._clock().timestamp() - receipt.issued_at) <= receipts.RECEIPT_MAX_AGE_SECONDS

    def text_for(self, subject: Subject, verdict: Verdict, facts: Mapping[str, ImageFacts], *, dry_run: bool) -> str:
        """The receipt that the subject's pod, as the patch leaves it, is to carry.

        Ours is kept where it still fits, as at re-invocation; any other is replaced. A dry run hands the object to the
        user, so it gets a marker that no reader accepts. Raises KeysError if nothing can be signed.
        """
        if dry_run:
            return DRY_RUN_RECEIPT
        kept = self.signed(subject.pod).receipt
        if kept is not None and self._still_fits(kept, subject, verdict, facts):
            self._metrics.receipt("kept")
            return subject.pod.metadata.annotations[RECEIPT_ANNOTATION]
        made = receipts.make(subject, verdict.governed, facts, now=self._clock(), nonce=os.urandom(NONCE_BYTES).hex())
        self._metrics.receipt("signed")
        return self._signer.sign(receipts.encode(made))

    def _still_fits(self, kept: Receipt, subject: Subject, verdict: Verdict, facts: Mapping[str, ImageFacts]) -> bool:
        return (
            receipts.mismatch(kept, subject, self._clock()) is None
            and {policy.uid for policy in kept.policies} == {policy.ref.uid for policy in verdict.governed}
            and kept.images == facts
        )
