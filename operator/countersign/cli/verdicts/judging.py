"""The gate's verdict, made here: the same questions, the same functions, in the same order."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from countersign.cli.image.registries import ANSWER_SECONDS, Registries, evidence_source
from countersign.cli.terminal.exits import Exit
from countersign.gate.evidence.inquiry import evidence_for
from countersign.injection.patch import inject
from countersign.trust.evidence.facts import Unverifiable
from countersign.trust.evidence.needs import EvidenceNeed, evidence_needs
from countersign.trust.images.extraction import extract
from countersign.trust.images.pins import facts_by_image, pins
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import PolicySnapshot, RootFacts
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
    """What would become of a pod at its creation, by what the registries say."""
    return judge_by(snapshot, subject, evidence_by(registries, needs_of(snapshot, subject), subject, snapshot.roots))


def judge_by(snapshot: PolicySnapshot, subject: Subject, evidence: Evidence, now: datetime | None = None) -> Judged:
    """What would become of a pod at its creation: judged as written, patched, and judged as it would be stored."""
    now = now or datetime.now(UTC)
    first = _judged(snapshot, subject, evidence, "mutate", now)
    # Without facts an image cannot be pinned, and the first verdict says why better than "it is not pinned" does.
    if first.outcome != "admitted" or any(isinstance(one, Unverifiable) for one in evidence.values()):
        return first
    before = subject.pod
    injection = inject(before, first.verdict, pins(extract(before), evidence))
    stored = msgspec.structs.replace(subject, pod=injection.pod)
    return _judged(snapshot, stored, facts_by_image(injection.pod, before, evidence), "validate", now)


def judge_live(
    snapshot: PolicySnapshot, subject: Subject, registries: Registries, receipt: Receipt | None = None
) -> Judged:
    """What the policies make of a pod that exists. `receipt`: the one that its grant rests on, whose facts stand."""
    evidence = evidence_by(registries, needs_of(snapshot, subject), subject, snapshot.roots, receipt)
    return _judged(snapshot, subject, evidence, "live", datetime.now(UTC))


def needs_of(snapshot: PolicySnapshot, subject: Subject) -> tuple[EvidenceNeed, ...]:
    """What must be found out before the pod can be judged."""
    return evidence_needs(governing(snapshot, subject), subject.pod, snapshot.roots)


def evidence_by(
    registries: Registries,
    needs: Sequence[EvidenceNeed],
    subject: Subject,
    roots: Mapping[str, RootFacts],
    receipt: Receipt | None = None,
) -> Evidence:
    """What the registries say, held against these roots; a receipt's facts where they answer."""

    async def ask() -> Evidence:
        async with evidence_source(registries, roots) as source:
            until = asyncio.get_running_loop().time() + ANSWER_SECONDS
            return await evidence_for(source, needs, receipt, subject, until)

    return asyncio.run(ask()) if needs else {}


def _judged(snapshot: PolicySnapshot, subject: Subject, evidence: Evidence, stage: Stage, now: datetime) -> Judged:
    return Judged(judge(snapshot, subject, evidence, stage=stage, now=now), subject, evidence)
