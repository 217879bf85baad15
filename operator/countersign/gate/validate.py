"""`/validate` on pods: the word that counts, about the pod as it is about to be stored.

A new pod is judged whole. Of a pod that exists only what the request changes is judged: one from before a policy must
not become unable to change its labels (database operators move a leader's label), and nothing may stand in the way of
what keeps the cluster going. What was admitted under a policy stays under it: a label taken away first does not let an
unverified image in afterwards.
"""

from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from countersign.api import clock
from countersign.api.admission import AdmissionRequest, UserInfo
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.pod import Pod, is_mirror
from countersign.api.policy import Mode
from countersign.gate.answers import Answer, allow, deny
from countersign.gate.app import Asked, Handler
from countersign.gate.decisions import admission, refusal
from countersign.gate.evidence.inquiry import EvidenceSource, evidence_for
from countersign.gate.metrics import GateMetrics
from countersign.gate.mirror import as_mirror
from countersign.gate.receipts import Receipts
from countersign.gate.state import GateState
from countersign.gate.subjects import Governed, Subjects, old_pod_of, pod_of
from countersign.runtime.tracing.spans import child
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.images.extraction import changed, extract
from countersign.trust.receipt import CLOCK_SKEW_SECONDS, UNTIMELY, Receipt
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.verdict import Stage, Verdict, judge

_STRICTNESS: Final[dict[Mode, int]] = {"Audit": 0, "Warn": 1, "Enforce": 2}
_ONLY_AT_CREATION: Final = frozenset({"TokenNotInjected", "TokenClash", "ApiTokenKept", "RequesterNotBound"})
"""Findings that no change of a pod that exists could put right."""
_BY_A_NEW_CONTAINER: Final = frozenset({"PodTooPrivileged", "TokenExposed"})
"""Findings about the whole pod that a new ephemeral container may be the cause of."""


class Validator:
    """Answers the reviews of `/validate` on pods."""

    def __init__(
        self,
        state: GateState,
        subjects: Subjects,
        evidence: EvidenceSource,
        receipts: Receipts,
        metrics: GateMetrics,
        *,
        stage: Stage = "validate",
    ) -> None:
        """`stage`: `mutate` judges pods that nobody has patched, as while admission is paused."""
        self._state = state
        self._subjects = subjects
        self._evidence = evidence
        self._receipts = receipts
        self._metrics = metrics
        self._stage = stage

    def routes(self) -> dict[Asked, Handler]:
        """What it judges."""
        return {
            Asked("", "v1", "pods", "", "CREATE"): self.create,
            Asked("", "v1", "pods", "", "UPDATE"): self.update,
            Asked("", "v1", "pods", "ephemeralcontainers", "UPDATE"): self.update,
        }

    async def create(self, request: AdmissionRequest, until: float) -> Answer:
        """The final pod, whole. A receipt of ours spares it the registry."""
        pod = pod_of(request)
        mirror = as_mirror(pod, request.user_info)
        if mirror is not None:
            return mirror
        found = await self._subjects.of(pod, request.namespace, request.user_info, until)
        if not found.policies:
            return allow("NotGoverned")
        carried = self._receipts.of(found.subject)
        if carried.receipt is not None:
            self._metrics.receipt("used")
        needs = evidence_needs(found.policies, pod, self._state.snapshot.roots)
        evidence = await evidence_for(self._evidence, needs, carried.receipt, found.subject, until)
        now = datetime.now(UTC)
        with child("gate.judge"):
            verdict = judge(self._state.snapshot, found.subject, evidence, stage=self._stage, now=now)
        if carried.problem:
            verdict = _with_receipt_problem(verdict, request.namespace, carried.problem, clock_difference(pod, now))
        refused = refusal(verdict, found.subject, unresolved=found.unresolved)
        return refused or admission(verdict, found.subject, evidence, warn=True)

    async def update(self, request: AdmissionRequest, until: float) -> Answer:
        """A pod that exists: new images, new ephemeral containers, and policies that its new labels bring into play."""
        pod, old = pod_of(request), old_pod_of(request)
        if pod.metadata.deletion_timestamp:
            return allow("BeingDeleted")
        if is_mirror(pod):
            return allow("MirrorPod")
        if pod.metadata.annotations.get(RECEIPT_ANNOTATION) != old.metadata.annotations.get(RECEIPT_ANNOTATION):
            return deny(
                "ReceiptTampered",
                f"ReceiptTampered: the annotation {RECEIPT_ANNOTATION} is Countersign's: it can be neither written, "
                "changed nor removed after admission. Way out: leave it as it is, or create the pod anew",
            )
        new = changed(old, pod)
        if not new and pod.metadata.labels == old.metadata.labels:
            return allow("NothingToJudge")
        receipt = self._receipts.signed(old).receipt
        requester = _requester_of(receipt)
        current, *earlier = [
            await self._subjects.of(_with_labels(pod, labels), request.namespace, requester, until)
            for labels in _labels_in_force(pod, old, receipt)
        ]
        known = _uids(*(earlier or [current]))
        change = _Change(
            containers=frozenset(use.container for use in new),
            ephemeral=any(use.kind == "ephemeral" for use in new),
            brought_in=_uids(current) - known,
        )
        answer = await self._judge_change(current, change, receipt, until)
        for one in earlier:
            if answer.allowed and new and not _uids(one) <= _uids(current):
                answer = await self._judge_change(one, change, receipt, until)
        return answer

    async def _judge_change(self, found: Governed, change: "_Change", receipt: Receipt | None, until: float) -> Answer:
        if not found.policies:
            return allow("NotGoverned")
        subject = found.subject
        wanted = {use.image for use in extract(subject.pod) if change.brought_in or use.container in change.containers}
        needs = [
            need
            for need in evidence_needs(found.policies, subject.pod, self._state.snapshot.roots)
            if need.image in wanted
        ]
        evidence = await evidence_for(self._evidence, needs, receipt, subject, until)
        with child("gate.judge"):
            verdict = judge(self._state.snapshot, subject, evidence, stage=self._stage, now=datetime.now(UTC))
        findings = tuple(finding for finding in verdict.findings if change.causes(finding))
        verdict = msgspec.structs.replace(verdict, findings=findings)
        refused = refusal(verdict, subject, unresolved=found.unresolved)
        return refused or admission(verdict, subject, evidence, warn=True)


class _Change(NamedTuple):
    """What an UPDATE does to a pod."""

    containers: frozenset[str]
    """Whose images are new."""
    ephemeral: bool
    """Some of them are new ephemeral containers."""
    brought_in: frozenset[str]
    """UIDs of the policies that govern it by its new labels only."""

    def causes(self, finding: Finding) -> bool:
        """Whether the finding is about what the change brings, and not about what was there before it."""
        if finding.code in _ONLY_AT_CREATION:
            return False
        if finding.container in self.containers:
            return True
        if finding.code == "PodTooLarge":
            return bool(self.containers)  # none of its images was looked at, the new ones neither
        if self.ephemeral and finding.code in _BY_A_NEW_CONTAINER:
            return True
        return finding.policy is not None and finding.policy.uid in self.brought_in


def _labels_in_force(pod: Pod, old: Pod, receipt: Receipt | None) -> list[dict[str, str]]:
    """The pod's labels, then those of before and of its admission where they differ."""
    found = [pod.metadata.labels]
    if old.metadata.labels not in found:
        found.append(old.metadata.labels)
    if receipt is not None and receipt.labels not in found:
        found.append(receipt.labels)
    return found


def _requester_of(receipt: Receipt | None) -> UserInfo | None:
    """Who asked for the pod's creation, of which an UPDATE tells nothing."""
    if receipt is None:
        return None
    signed = receipt.requester
    return UserInfo(username=signed.username, uid=signed.uid, groups=signed.groups)


def _with_labels(pod: Pod, labels: dict[str, str]) -> Pod:
    if pod.metadata.labels == labels:
        return pod
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, labels=labels))


def _uids(*found: Governed) -> frozenset[str]:
    return frozenset(policy.ref.uid for one in found for policy in one.policies)


def clock_difference(pod: Pod, now: datetime) -> float:
    """By how many seconds our clock is ahead of that of the API server, which has just stamped the pod's creation.

    The stamp is in whole seconds, and what admission has taken since is in it, too.
    """
    try:
        return (now - clock.parse(pod.metadata.creation_timestamp or "")).total_seconds()
    except ValueError:
        return 0.0


def _with_receipt_problem(verdict: Verdict, namespace: str, problem: str, clock_ahead: float) -> Verdict:
    """The verdict with one finding more if the pod would get tokens: no grant comes of such a receipt.

    The kubelet would wait for the tokens' volumes for ever, so it is better said now.
    """
    givers = {token.policy.uid for token in verdict.tokens}
    policies = [policy for policy in verdict.governed if policy.ref.uid in givers]
    if not policies:
        return verdict
    strictest = max(policies, key=lambda policy: _STRICTNESS[policy.mode_in(namespace)])
    finding = Finding(
        code="ReceiptTampered",
        policy=strictest.ref,
        mode=strictest.mode_in(namespace),
        expected="the pod as it was verified and given its tokens",
        found=problem,
        remedy="see which admission webhook changes pods after Countersign (reinvocationPolicy: IfNeeded lets "
        "Countersign see the change)",
    )
    if problem == UNTIMELY and abs(clock_ahead) > CLOCK_SKEW_SECONDS:
        way = "ahead of" if clock_ahead > 0 else "behind"
        finding = msgspec.structs.replace(
            finding,
            code="ClockSkew",
            expected=f"clocks that differ by {CLOCK_SKEW_SECONDS} s at the most",
            found=f"the gate's clock {abs(clock_ahead):.0f} s {way} the API server's",
            remedy="set the clocks of the API servers and of the gate's node by NTP; this pod needs no change",
        )
    return msgspec.structs.replace(verdict, findings=(finding, *verdict.findings))
