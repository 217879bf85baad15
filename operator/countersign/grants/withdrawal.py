"""What became of an instance's evidence since its admission: whether it was withdrawn, by time or by what came later.

The receipt's facts are evidence as of the admission; by them the policies of now are held against the instance
(`judgement.requalify`). The same judgement is made with what gates found out since, as of now. Only time and later
attestations can make the second worse than the first, since facts are joined: a registry that does not show a signature
any more has not unsigned anything, and cannot take back what it once showed. Four things can then be true of evidence
that does not do any more:

- time ran out: a deadline passed that the grant's status named (`evidenceGoodUntil`), or a later attestation fails. It
  is withdrawn, and the response `evidenceWithdrawn` says what follows;
- no such deadline was named, or a later one: then a change of policy did it, and it counts as one. It suspends, braked;
- no gate has looked yet in the life of this process, and no named deadline has passed: an earlier one may know of a
  newer attestation. Nothing changes until somebody has looked;
- what was withdrawn when it was last looked at stays so until a gate has looked again, and found that it holds.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

import msgspec

from countersign.api import clock
from countersign.api.grant import WorkloadGrant
from countersign.api.meta import UTCTime
from countersign.grants.impact import loses
from countersign.grants.judgement import qualification
from countersign.grants.lifecycle import Qualification
from countersign.grants.reasons import REMEDIES
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.image_evidence import Ages
from countersign.trust.evidence.needs import EvidenceNeed, needs_compiled
from countersign.trust.evidence.reverification import with_later
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.compiled import compiled_policy
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.policies.scope import governing
from countersign.trust.receipt import Receipt, as_admitted
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.verdict import Verdict, judge


class EvidenceNow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How the evidence of one instance stands."""

    qualification: Qualification
    """By which the policies are held against it."""
    withdrawn: str = ""
    """What does not hold any more, for people; empty: it holds, or nobody can tell."""
    feared: Qualification | None = None
    """What a change of policy makes of it unless a gate finds a newer attestation: for the brake to count."""
    good_until: UTCTime | None = None
    """What the grant's status should say (`evidenceGoodUntil`)."""
    too_old_at: datetime | None = None
    """When the first of its attestations grows too old, as far as is known now."""
    expiring: frozenset[str] = frozenset()
    """UIDs of the policies for which one will soon be too old: a tenth of `maxAgeSeconds` is left."""
    withdrawn_for: frozenset[str] = frozenset()
    """UIDs of the policies for which it does not hold any more."""


def questions(snapshot: PolicySnapshot, live: Subject, receipt: Receipt) -> dict[str, EvidenceNeed]:
    """What is to be asked about its images again and again, by image string. Images whose evidence nothing can turn are
    left out: most policies ask for signatures only. The needs name images by digest, so that equal ones are equal.
    """
    admitted = as_admitted(receipt, live)
    policies = [one for one in map(compiled_policy, governing(snapshot, admitted)) if one.may_turn]
    found: dict[str, EvidenceNeed] = {}
    for need in needs_compiled(policies, admitted.pod, snapshot.roots) if policies else ():
        facts = receipt.images.get(need.image)
        if facts is None or need.resolve:
            continue
        if any(rule.may_turn for policy in policies for rule in policy.matching(facts.image)):
            found[need.image] = msgspec.structs.replace(
                need, image=f"{facts.image}@{facts.digest}", want_config=need.platforms, stale_seconds=0
            )
    return found


def evidence_now(
    snapshot: PolicySnapshot,
    live: Subject,
    receipt: Receipt,
    *,
    admitted: Qualification,
    grant: WorkloadGrant,
    asked: Collection[str],
    found: Mapping[str, ImageFacts],
    now: datetime,
) -> EvidenceNow:
    """How the evidence stands at `now`.

    `admitted`: how the instance stands by the receipt alone (`judgement.requalify`). `asked`: image strings that
    `questions` names. `found`: what gates have found out about those since this process started, by image string.
    """
    status = grant.status
    known = clock.parse(status.evidence_good_until) if status.evidence_good_until else None
    stays = EvidenceNow(qualification=admitted, good_until=status.evidence_good_until)
    if loses(grant, admitted):
        return stays  # the policies of now are against it whatever became of its evidence
    images = {image: with_later(facts, found.get(image)) for image, facts in receipt.images.items()}
    verdict = judge(snapshot, as_admitted(receipt, live), images, stage="live", now=now)
    current = qualification(verdict)
    ages = _ages(verdict)
    looked = all(image in found for image in asked)
    passed = known is not None and known <= now
    if not loses(grant, current):
        first = min((one.too_old_at for one in ages.values()), default=None)
        too_old_at = clock.from_seconds(first) if first is not None else None
        if passed and not looked:
            return _bounded(msgspec.structs.replace(stays, withdrawn=_as_told(grant)))
        later = too_old_at is not None and (known is None or too_old_at > known)
        good_until = too_old_at if looked or known is None or later else known
        moments = [clock.from_seconds(moment) for one in ages.values() for moment in one]
        if good_until is not None:
            moments.append(good_until)
        return _bounded(
            EvidenceNow(
                qualification=_looking_again(current, moments, now),
                good_until=clock.format_time(good_until) if good_until is not None else None,
                too_old_at=too_old_at,
                expiring=frozenset(uid for uid, one in ages.items() if one.old_at <= now.timestamp()),
            )
        )
    against = _against(verdict, admitted)
    seen = all(one.image in found for one in against)
    later_fails = any(one.code == "AttestationFailed" for one in against)
    if passed or later_fails or (seen and admitted.settings.evidence_withdrawn == "Report"):
        return _bounded(
            EvidenceNow(
                qualification=_looking_again(admitted, (), now),
                withdrawn=_told(against),
                good_until=status.evidence_good_until if passed else clock.format_time(now),
                withdrawn_for=frozenset(one.policy.uid for one in against if one.policy is not None),
            )
        )
    moments = [known] if known is not None else []
    if seen:
        return msgspec.structs.replace(stays, qualification=_looking_again(current, moments, now))
    reports = admitted.settings.evidence_withdrawn == "Report"
    waiting = _looking_again(admitted, moments, now)
    return _bounded(msgspec.structs.replace(stays, qualification=waiting, feared=None if reports else current))


def reported(found: EvidenceNow) -> str | None:
    """What to tell people on the pod where a withdrawal is only reported; an end or a suspension has its own words."""
    if not found.withdrawn or found.qualification.settings.evidence_withdrawn != "Report":
        return None
    return f"Its evidence does not hold any more. {found.withdrawn} {REMEDIES['EvidenceWithdrawn']}"


def _bounded(found: EvidenceNow) -> EvidenceNow:
    """Under Report time ends nothing, and no deadline is named: one that names none cannot run out when the response
    becomes another.
    """
    if found.qualification.settings.evidence_withdrawn != "Report":
        return found
    return msgspec.structs.replace(found, good_until=None)


def _looking_again(qualified: Qualification, moments: Collection[datetime], now: datetime) -> Qualification:
    return msgspec.structs.replace(
        qualified, look_again=min((moment for moment in moments if moment > now), default=None)
    )


def _ages(verdict: Verdict) -> dict[str, Ages]:
    """By the UID of a policy: the attestation that grows too old first, of those that it goes by."""
    found: dict[str, Ages] = {}
    for used in verdict.evidence_used:
        for one in used.evidence:
            if one.ages is not None:
                found[one.policy_uid] = min(found.get(one.policy_uid, one.ages), one.ages)
    return found


def _against(verdict: Verdict, admitted: Qualification) -> list[Finding]:
    """The findings that were not there at its admission."""
    then = {(one.policy_uid, one.code) for one in admitted.findings if one.blocks_identity}
    return [
        one
        for one in verdict.findings
        if one.blocks_identity and (one.policy.uid if one.policy is not None else "", one.code) not in then
    ]


def _told(against: list[Finding]) -> str:
    """For people: policy, image, what was expected and what was found."""
    if not against:
        return "The evidence of its admission does not do any more."
    first = against[0]
    where = ", ".join(str(part) for part in (first.policy, first.container) if part)
    more = f" And {len(against) - 1} more." if len(against) > 1 else ""
    return f"{first.code} ({where}), image {first.image}: expected {first.expected}, found {first.found}.{more}"


def _as_told(grant: WorkloadGrant) -> str:
    """What was said of it when somebody last looked."""
    status = grant.status
    if status.reason == "EvidenceWithdrawn" and status.message:
        return status.message
    return f"Its evidence was known to hold until {status.evidence_good_until}, and was not verified since."
