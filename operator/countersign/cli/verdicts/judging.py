"""The gate's verdict, made here: the same questions, the same functions, in the same order."""

import asyncio
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from countersign.cli.image.registries import ANSWER_SECONDS, Registries, evidence_source
from countersign.cli.terminal.exits import Exit
from countersign.gate.evidence.inquiry import evidence_for
from countersign.injection.patch import inject
from countersign.trust.evidence.facts import Unverifiable
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.images.extraction import extract
from countersign.trust.images.pins import facts_by_image, pins
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.policies.scope import governing
from countersign.trust.receipt import Receipt
from countersign.trust.verdicts.verdict import Evidence, Stage, Verdict, judge

Outcome = Literal["admitted", "denied", "unknown", "not governed"]


class Judged(NamedTuple):
    """What came out."""

    verdict: Verdict
    subject: Subject
    """With the pod as it would be stored; as its author wrote it if it is denied."""
    evidence: Evidence

    @property
    def outcome(self) -> Outcome:
        """`unknown` if what the registry did not say may yet change whether it is admitted, or with which tokens."""
        if not self.verdict.governed:
            return "not governed"
        if self.verdict.denials:
            return "unknown" if self.verdict.retry else "denied"
        undecided = any(finding.transient and finding.blocks_identity for finding in self.verdict.findings)
        return "unknown" if undecided else "admitted"

    @property
    def exit(self) -> Exit:
        """The exit code that says so."""
        return {"denied": Exit.NO, "unknown": Exit.UNKNOWN}.get(self.outcome, Exit.YES)


def judge_creation(snapshot: PolicySnapshot, subject: Subject, registries: Registries) -> Judged:
    """What would become of a pod at its creation: judged as written, patched, and judged as it would be stored."""
    evidence = asyncio.run(_evidence(registries, snapshot, subject, None))
    first = _judged(snapshot, subject, evidence, "mutate")
    # Without facts an image cannot be pinned, and the first verdict says why better than "it is not pinned" does.
    if first.outcome != "admitted" or any(isinstance(one, Unverifiable) for one in evidence.values()):
        return first
    before = subject.pod
    injection = inject(before, first.verdict, pins(extract(before), evidence))
    stored = msgspec.structs.replace(subject, pod=injection.pod)
    return _judged(snapshot, stored, facts_by_image(injection.pod, before, evidence), "validate")


def judge_live(
    snapshot: PolicySnapshot, subject: Subject, registries: Registries, receipt: Receipt | None = None
) -> Judged:
    """What the policies make of a pod that exists. `receipt`: the one that its grant rests on, whose facts stand."""
    evidence = asyncio.run(_evidence(registries, snapshot, subject, receipt))
    return _judged(snapshot, subject, evidence, "live")


async def _evidence(
    registries: Registries, snapshot: PolicySnapshot, subject: Subject, receipt: Receipt | None
) -> Evidence:
    needs = evidence_needs(governing(snapshot, subject), subject.pod, snapshot.roots)
    async with evidence_source(registries) as source:
        until = asyncio.get_running_loop().time() + ANSWER_SECONDS
        return await evidence_for(source, needs, receipt, subject, until)


def _judged(snapshot: PolicySnapshot, subject: Subject, evidence: Evidence, stage: Stage) -> Judged:
    return Judged(judge(snapshot, subject, evidence, stage=stage, now=datetime.now(UTC)), subject, evidence)
