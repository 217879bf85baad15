"""The gate's verdict, made here: the same questions, the same functions, in the same order."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import msgspec

from countersign.cli.image.registries import ANSWER_SECONDS, Registries, evidence_source
from countersign.cli.terminal.exits import Exit
from countersign.gate.evidence.inquiry import evidence_for
from countersign.injection.patch import inject
from countersign.signatures.roots.known_roots import KnownRoots, known_roots
from countersign.trust.evidence.facts import Unverifiable
from countersign.trust.evidence.needs import EvidenceNeed, evidence_needs
from countersign.trust.images.extraction import extract
from countersign.trust.images.pins import facts_by_image, pins
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.policies.scope import governing
from countersign.trust.receipt import Receipt
from countersign.trust.verdicts.outlook import outlook, recreated
from countersign.trust.verdicts.verdict import Evidence, Stage, Verdict, judge

PARALLEL: Final = 8
"""Pods about which registries are asked at once."""

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
    return judge_by(
        snapshot, subject, evidence_by(registries, needs_of(snapshot, subject), subject, known_roots(snapshot))
    )


def judge_by(snapshot: PolicySnapshot, subject: Subject, evidence: Evidence, now: datetime | None = None) -> Judged:
    """What would become of a pod at its creation: judged as written, patched, and judged as it would be stored."""
    now = now or datetime.now(UTC)
    first = _judged(snapshot, subject, evidence, "mutate", now=now)
    # Without facts an image cannot be pinned, and the first verdict says why better than "it is not pinned" does.
    if first.outcome != "admitted" or any(isinstance(one, Unverifiable) for one in evidence.values()):
        return first
    before = subject.pod
    injection = inject(before, first.verdict, pins(extract(before), evidence))
    stored = msgspec.structs.replace(subject, pod=injection.pod)
    return _judged(snapshot, stored, facts_by_image(injection.pod, before, evidence), "validate", now=now)


def judge_live(
    snapshot: PolicySnapshot, subject: Subject, registries: Registries, receipt: Receipt | None = None
) -> Judged:
    """What the policies make of a pod that exists. `receipt`: the one that its grant rests on, whose facts stand."""
    evidence = evidence_by(registries, needs_of(snapshot, subject), subject, known_roots(snapshot), receipt)
    found_at = receipt.issued_at if receipt is not None else None
    return _judged(snapshot, subject, evidence, "live", now=datetime.now(UTC), found_at=found_at)


class Case(NamedTuple):
    """A running pod to be judged as if it were created now."""

    snapshot: PolicySnapshot
    subject: Subject
    """As at its admission, if it has a receipt that counts."""
    receipt: Receipt | None = None


def judge_again(cases: Sequence[Case], registries: Registries, *, fresh: bool = False) -> list[Judged]:
    """What would become of running pods if they were created now, in the order of the cases.

    Registries are asked PARALLEL pods at a time, by one service that remembers what they said. `fresh`: also about what
    a pod's receipt answers.
    """
    return asyncio.run(_judge_again(cases, registries, fresh=fresh))


async def _judge_again(cases: Sequence[Case], registries: Registries, *, fresh: bool) -> list[Judged]:
    turns = asyncio.Semaphore(PARALLEL)
    async with AsyncExitStack() as stack:
        # Memory is shared by whoever believes the same roots: mostly by all.
        roots = [known_roots(case.snapshot) for case in cases]
        sources = {
            key: await stack.enter_async_context(evidence_source(registries, found))
            for key, found in {id(found): found for found in roots}.items()
        }

        async def one(case: Case, believed: KnownRoots) -> Judged:
            admitted = case.receipt is not None
            subject = case.subject
            pod = recreated(subject.pod, admitted=admitted)
            needs = evidence_needs(governing(case.snapshot, subject), pod, case.snapshot.roots)
            async with turns:
                until = asyncio.get_running_loop().time() + ANSWER_SECONDS
                known = None if fresh else case.receipt
                source = sources[id(believed)]
                evidence = await evidence_for(source, needs, known, subject, until)
            verdict = outlook(case.snapshot, subject, evidence, datetime.now(UTC), admitted=admitted)
            return Judged(verdict, subject, evidence)

        return list(await asyncio.gather(*map(one, cases, roots)))


def needs_of(snapshot: PolicySnapshot, subject: Subject) -> tuple[EvidenceNeed, ...]:
    """What must be found out before the pod can be judged."""
    return evidence_needs(governing(snapshot, subject), subject.pod, snapshot.roots)


def evidence_by(
    registries: Registries,
    needs: Sequence[EvidenceNeed],
    subject: Subject,
    roots: KnownRoots,
    receipt: Receipt | None = None,
) -> Evidence:
    """What the registries say, held against these roots; a receipt's facts where they answer."""

    async def ask() -> Evidence:
        async with evidence_source(registries, roots) as source:
            until = asyncio.get_running_loop().time() + ANSWER_SECONDS
            return await evidence_for(source, needs, receipt, subject, until)

    return asyncio.run(ask()) if needs else {}


def _judged(
    snapshot: PolicySnapshot,
    subject: Subject,
    evidence: Evidence,
    stage: Stage,
    *,
    now: datetime,
    found_at: float | None = None,
) -> Judged:
    verdict = judge(snapshot, subject, evidence, stage=stage, now=now, found_at=found_at)
    return Judged(verdict, subject, evidence)
