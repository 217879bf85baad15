"""A case is run: judged as the gate would, and held against what it expects."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Literal, NamedTuple

from countersign.cli.image.registries import Registries
from countersign.cli.policy.suite.evidence import recorded, with_roots_of_record
from countersign.cli.policy.suite.model import Expected, PolicyTestCase
from countersign.cli.policy.suite.reading import BadCase, Case, CaseFile, complete
from countersign.cli.verdicts.judging import Judged, evidence_by, judge_by, needs_of
from countersign.signatures.roots.known_roots import known_roots
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.evidence.needs import EvidenceNeed
from countersign.trust.verdicts import denial
from countersign.trust.verdicts.verdict import Evidence

Outcome = Literal["passed", "failed", "error"]


class Difference(NamedTuple):
    """One expectation that did not hold."""

    member: str
    expected: Sequence[str]
    found: Sequence[str]


class Result(NamedTuple):
    """What came of a case."""

    file: CaseFile
    name: str
    outcome: Outcome
    seconds: float
    differences: tuple[Difference, ...] = ()
    message: str = ""
    """Of an error: why it could not be run."""


class Seen(NamedTuple):
    """What a case asked, and what it was told: for whoever records it."""

    case: Case
    needs: Sequence[EvidenceNeed]
    evidence: Evidence
    now: datetime


Observer = Callable[[Seen], None]


def run(file: CaseFile, asked: PolicyTestCase, registries: Registries, *, live: bool, observe: Observer) -> Result:
    """Run one case. `live`: the registries are asked, whatever the file has recorded."""
    started = perf_counter()
    try:
        case = complete(file, asked)
        live = live and not case.own_evidence
        if not (live or case.evidence.registry == "live"):
            case = with_roots_of_record(case)
        needs = needs_of(case.snapshot, case.subject)
        evidence = _evidence(case, needs, registries, live=live)
        now = case.now or datetime.now(UTC)
        observe(Seen(case, needs, evidence, now))
        differences = tuple(compare(case.expected, judge_by(case.snapshot, case.subject, evidence, now)))
    except BadCase as error:
        return Result(file, asked.name, "error", perf_counter() - started, message=str(error))
    outcome: Outcome = "failed" if differences else "passed"
    return Result(file, asked.name, outcome, perf_counter() - started, differences)


def _evidence(case: Case, needs: Sequence[EvidenceNeed], registries: Registries, *, live: bool) -> Evidence:
    known: dict[str, ImageFacts | Unverifiable] = {} if live else recorded(case, needs)
    unknown = [need for need in needs if need.image not in known]
    if not unknown:
        return known
    if not (live or case.evidence.registry == "live"):
        images = ", ".join(need.image for need in unknown)
        raise BadCase(
            f"evidence: nothing is recorded of {images}: list it in evidence.images, record it (--record), or ask the "
            "registry (evidence: {registry: live})"
        )
    found = evidence_by(registries, unknown, case.subject, known_roots(case.snapshot))
    for image, one in found.items():
        if isinstance(one, Unverifiable):
            raise BadCase(f"evidence: {image}: {one.reason}: {one.message}")
    return {**known, **found}


def compare(expected: Expected, judged: Judged) -> list[Difference]:
    """What is not as expected."""
    verdict = judged.verdict
    message = denial.message(verdict)
    differences = []

    def hold(member: str, wanted: Sequence[str], found: Sequence[str]) -> None:
        if list(wanted) != list(found):
            differences.append(Difference(member, wanted, found))

    found = "denied" if verdict.denials else "admitted" if verdict.governed else "notGoverned"
    if found != expected.verdict:
        # What comes with a verdict that is wrong says why.
        codes = sorted({f"{one.code} ({one.mode})" for one in verdict.findings})
        why = [message] if message else codes
        differences.append(Difference("verdict", [expected.verdict], [found, *why]))
    if expected.message and expected.message not in message:
        differences.append(Difference("message", [f"... {expected.message} ..."], [message]))
    if expected.exact_message:
        hold("exactMessage", [expected.exact_message], [message])
    if expected.reasons is not None:
        hold("reasons", sorted(set(expected.reasons)), sorted({one.code for one in verdict.findings}))
    if expected.tokens is not None:
        hold("tokens", sorted(expected.tokens), sorted(one.name for one in verdict.tokens))
    if expected.withheld is not None:
        hold("withheld", sorted(expected.withheld), sorted(one.name for one in verdict.withheld))
    if expected.warnings is not None and not _told(expected.warnings, denial.warnings(verdict)):
        wanted = [f"... {one} ..." for one in expected.warnings]
        differences.append(Difference("warnings", wanted, denial.warnings(verdict)))
    return differences


def _told(expected: Sequence[str], warnings: Sequence[str]) -> bool:
    """Whether each text stands in a warning, and each warning has such a text."""
    return all(any(text in warning for warning in warnings) for text in expected) and all(
        any(text in warning for text in expected) for warning in warnings
    )
