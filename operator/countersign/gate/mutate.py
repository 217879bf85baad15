"""`/mutate`: pin each image, inject what the policies give, attach the receipt.

A pod that its policies refuse is refused here already, which saves the rest of the way; the word that counts is that of
`/validate` on the final pod.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import structlog

from countersign.api.admission import AdmissionRequest
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.pod import Pod, is_mirror
from countersign.gate.answers import Answer, allow, retry_later
from countersign.gate.app import Asked, Handler
from countersign.gate.decisions import admission, digests, refusal
from countersign.gate.evidence.inquiry import EvidenceSource, evidence_for
from countersign.gate.metrics import GateMetrics
from countersign.gate.mirror import as_mirror
from countersign.gate.receipts import Receipts
from countersign.gate.state import GateState
from countersign.gate.subjects import Governed, Subjects, old_pod_of, pod_of
from countersign.gate.tallies import Tallies
from countersign.injection.patch import Injection, inject, with_receipt
from countersign.keys.errors import KeysError
from countersign.runtime.logs import pod_keys
from countersign.runtime.tracing.spans import child
from countersign.trust.evidence.abridged import abridged
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.images.extraction import changed, extract
from countersign.trust.images.pins import facts_by_image, pins
from countersign.trust.verdicts.verdict import UNGOVERNED, Evidence, Verdict, judge

_log = structlog.get_logger()


class Mutator:
    """Answers the reviews of `/mutate`."""

    def __init__(
        self,
        state: GateState,
        subjects: Subjects,
        evidence: EvidenceSource,
        receipts: Receipts,
        metrics: GateMetrics,
        *,
        tallies: Tallies,
    ) -> None:
        self._state = state
        self._subjects = subjects
        self._evidence = evidence
        self._receipts = receipts
        self._metrics = metrics
        self._tallies = tallies

    def routes(self) -> dict[Asked, Handler]:
        """What it judges."""
        return {
            Asked("", "v1", "pods", "", "CREATE"): self.create,
            Asked("", "v1", "pods", "", "UPDATE"): self.update,
            Asked("", "v1", "pods", "ephemeralcontainers", "UPDATE"): self.update,
        }

    async def create(self, request: AdmissionRequest, until: float) -> Answer:
        """A new pod: pins, tokens, receipt."""
        pod = _unborn(pod_of(request))
        mirror = as_mirror(pod, request.user_info)
        if mirror is not None:
            return mirror
        found = await self._subjects.of(pod, request.namespace, request.user_info, until)
        if not found.policies:
            return self._without_receipt(pod)
        needs = evidence_needs(found.policies, pod, self._state.snapshot.roots)
        evidence = await evidence_for(self._evidence, needs, None, found.subject, until)
        now = datetime.now(UTC)
        with child("gate.judge"):
            verdict = judge(self._state.snapshot, found.subject, evidence, stage="mutate", now=now)
        # One request comes here once for each webhook entry that covers it, and again when others change the pod; the
        # first time is told by the receipt, which is not there yet.
        if not request.dry_run and not self._receipts.just_given(pod, request.namespace):
            self._tallies.count(verdict, found.subject, unresolved=found.unresolved)
        refused = refusal(verdict, found.subject, unresolved=found.unresolved)
        if refused is not None:
            return refused
        pinned = pins(extract(pod), evidence)
        injection = inject(pod, verdict, pinned)
        final = self._subjects.with_pod(found.subject, injection.pod)
        facts = self._kept(found, facts_by_image(injection.pod, pod, evidence), now)
        try:
            text = self._receipts.text_for(final, verdict, facts, dry_run=request.dry_run)
        except KeysError as error:
            return self._without_identity(found, verdict, evidence, pinned, str(error))
        return admission(verdict, found.subject, evidence, patch=_patch(with_receipt(injection, text)))

    async def update(self, request: AdmissionRequest, until: float) -> Answer:
        """A pod that exists: the images that this very request brings in are pinned, and nothing else is touched.

        Pinning the tag of a container that already runs would restart it.
        """
        pod, old = pod_of(request), old_pod_of(request)
        if pod.metadata.deletion_timestamp:
            return allow("BeingDeleted")
        if is_mirror(pod):
            return allow("MirrorPod")
        new = changed(old, pod)
        if not new:
            return allow("NoImageChanged")
        found = await self._subjects.of(pod, request.namespace, None, until)
        if not found.policies:
            return allow("NotGoverned")
        images = {use.image for use in new}
        needs = [
            need for need in evidence_needs(found.policies, pod, self._state.snapshot.roots) if need.image in images
        ]
        evidence = await evidence_for(self._evidence, needs, None, found.subject, until)
        injection = inject(pod, UNGOVERNED, pins(new, evidence), only_images=True)
        return Answer(allowed=True, reason="Pinned", patch=_patch(injection), audit=digests(evidence))

    def _kept(self, found: Governed, facts: Mapping[str, ImageFacts], now: datetime) -> Mapping[str, ImageFacts]:
        """What the receipt is to hold of the facts."""
        namespace = found.subject.namespace.name
        return abridged(self._state.snapshot, namespace, found.policies, facts, now.timestamp())

    def _without_identity(
        self, found: Governed, verdict: Verdict, evidence: Evidence, pinned: Mapping[str, str], problem: str
    ) -> Answer:
        """No receipt can be signed, so no token would ever be minted: refused, or admitted without tokens."""
        pod, namespace = found.subject.pod, found.subject.namespace.name
        keys = pod_keys(namespace, pod.metadata.name or pod.metadata.generate_name, pod.metadata.uid)
        _log.error("receipt cannot be signed", **keys, error=problem)
        if any(policy.mode_in(namespace) == "Enforce" for policy in found.policies):
            return retry_later("ReceiptUnsigned", f"ReceiptUnsigned: no receipt can be given to this pod: {problem}")
        bare = msgspec.structs.replace(verdict, tokens=(), withheld=(*verdict.tokens, *verdict.withheld))
        injection = with_receipt(inject(pod, bare, pinned), None)
        return admission(bare, found.subject, evidence, patch=_patch(injection))

    def _without_receipt(self, pod: Pod) -> Answer:
        if RECEIPT_ANNOTATION not in pod.metadata.annotations:
            return allow("NotGoverned")
        self._metrics.receipt("removed")
        return Answer(allowed=True, reason="NotGoverned", patch=_patch(with_receipt(Injection((), pod), None)))


def _unborn(pod: Pod) -> Pod:
    """The pod without a creation time: the API server sets it later, and its author could make an old receipt fit."""
    if pod.metadata.creation_timestamp is None:
        return pod
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, creation_timestamp=None))


def _patch(injection: Injection) -> bytes | None:
    return injection.patch if injection.operations else None
