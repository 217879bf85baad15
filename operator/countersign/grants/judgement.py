"""The judgement of one instance: what its admission receipt says and what the live pod is, under the policies of now.

The receipt stands for facts about images and for who asked; everything else is judged anew from the live object.
"""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import msgspec

from countersign.api import clock
from countersign.api.grant import (
    GrantController,
    GrantEvidence,
    GrantException,
    GrantImage,
    GrantPod,
    GrantPolicy,
    GrantServiceAccount,
    GrantToken,
    WorkloadGrantSpec,
)
from countersign.api.meta import UTCTime
from countersign.grants.lifecycle import (
    MAX_CONTAINER,
    MAX_IMAGES,
    PolicyFinding,
    Qualification,
    Transition,
    listed,
    recorded_images,
)
from countersign.grants.naming import grant_name, refused_name
from countersign.grants.reasons import ReceiptReason
from countersign.grants.tracking import first_sight
from countersign.trust.evidence.image_evidence import RuleEvidence
from countersign.trust.images.reference import BadReference, ImageReference
from countersign.trust.pods.spec_hash import spec_hash
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.compiled import compiled_policy
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.policies.scope import governing
from countersign.trust.receipt import Receipt, as_admitted, mismatch
from countersign.trust.verdicts.verdict import Verdict, judge

MAX_LISTED = 64
MAX_EVIDENCE = 64
MAX_KEY_ID = 64
MAX_ISSUER = 512
MAX_SUBJECT = 1024
"""Bounds in a WorkloadGrant (api.grant)."""


class SpentReceipt(NamedTuple):
    """A receipt whose signature was verified."""

    receipt: Receipt
    hash: str
    """`sha256:<hex>` of its text, by which the grant remembers it."""
    key_id: str = ""
    """Id of the key that signed it."""


class ReceiptProblem(NamedTuple):
    """Why a pod has none that could be accepted."""

    reason: ReceiptReason
    message: str
    key_id: str = ""
    """Id of the revoked key that its receipt names, where that is the problem."""
    caused_by: str = ""
    """Whose doing it is, where that is not the pod itself."""


class InstanceJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """The record that a governed pod gets."""

    name: str
    spec: WorkloadGrantSpec
    qualification: Qualification
    refusal: Transition | None = None
    """Set where there is no acceptable receipt: the state that the record is in from the start."""


def judge_instance(
    snapshot: PolicySnapshot,
    subject: Subject,
    presented: SpentReceipt | ReceiptProblem,
    service_account_uid: str,
    now: datetime,
) -> InstanceJudgement | None:
    """The grant that this instance is due, or the record of its refusal. None: no policy governs it.

    `subject` is the live pod; who asked for it is taken from the receipt. A pod without any receipt that is older than
    a policy which governs it was never asked for one: it is Suspended, not Revoked. Neither state ever becomes Active,
    since a receipt cannot be had after admission. One whose receipt names a revoked key is Suspended, too, and judged
    anew should that key be restored.
    """
    if isinstance(presented, SpentReceipt):
        unfit = _unfit(snapshot, subject, presented.receipt, now)
        if unfit is not None:
            presented = ReceiptProblem("ReceiptInvalid", f"Its admission receipt does not count: {unfit}.")
    if isinstance(presented, ReceiptProblem):
        return refuse_instance(snapshot, subject, presented, service_account_uid, now)
    admitted = as_admitted(presented.receipt, subject)
    receipt = presented.receipt
    verdict = judge(snapshot, admitted, receipt.images, stage="live", now=now, found_at=receipt.issued_at)
    if not verdict.governed:
        return None
    qualified = qualification(verdict)
    return InstanceJudgement(
        name=grant_name(presented.receipt.nonce),
        spec=_spec(subject, verdict, presented, service_account_uid, tokens=qualified.tokens),
        qualification=qualified,
    )


def refuse_instance(
    snapshot: PolicySnapshot, subject: Subject, problem: ReceiptProblem, service_account_uid: str, now: datetime
) -> InstanceJudgement | None:
    """The record of a refusal. None: no policy governs the pod."""
    verdict = judge(snapshot, subject, {}, stage="live", now=now)
    if not verdict.governed:
        return None
    return InstanceJudgement(
        name=refused_name(subject.pod.metadata.uid),
        spec=_spec(subject, verdict, None, service_account_uid, tokens=(), key_id=problem.key_id),
        qualification=qualification(verdict),
        refusal=_refusal(subject, verdict, problem),
    )


def requalify(
    snapshot: PolicySnapshot, subject: Subject, receipt: Receipt | None, now: datetime
) -> Qualification | None:
    """How a live pod stands with the policies of now, for one that has its grant; None: none governs it any more.

    `receipt` is the one that the grant rests on; None for the record of a refusal.
    """
    admitted = as_admitted(receipt, subject) if receipt else subject
    images, found_at = (receipt.images, receipt.issued_at) if receipt else ({}, None)
    verdict = judge(snapshot, admitted, images, stage="live", now=now, found_at=found_at)
    return qualification(verdict) if verdict.governed else None


def _unfit(snapshot: PolicySnapshot, subject: Subject, receipt: Receipt, now: datetime) -> str | None:
    """Why the receipt is not this pod's. Labels may have changed since, unless that brings another policy into play."""
    admitted = as_admitted(receipt, subject)
    problem = mismatch(receipt, msgspec.structs.replace(admitted, requester=None), now)
    if problem is not None:
        return problem
    then = {policy.ref.uid for policy in governing(snapshot, admitted)}
    if any(policy.ref.uid not in then for policy in governing(snapshot, subject)):
        return "the pod's labels are others than at admission, and another policy governs it by them"
    return None


def qualification(verdict: Verdict) -> Qualification:
    """The verdict in a few words."""
    findings = tuple(
        PolicyFinding(finding.policy.uid if finding.policy else "", finding.code, finding.blocks_identity)
        for finding in verdict.findings
    )
    tokens = tuple(
        GrantToken(
            audience=token.audience, policy_uid=token.policy.uid, max_expiration_seconds=token.expiration_seconds
        )
        for token in verdict.tokens[:MAX_LISTED]
    )
    return Qualification(
        qualifies=verdict.qualifies,
        message="" if verdict.qualifies else _what_is_missing(verdict),
        policies=tuple(policy.ref.uid for policy in verdict.governed),
        findings=tuple(dict.fromkeys(findings)),
        not_injected=any(finding.code == "TokenNotInjected" for finding in findings),
        tokens=tokens if verdict.qualifies else (),
        settings=verdict.settings,
        blamed="" if verdict.qualifies else _blamed(verdict),
        exceptions=_exceptions(verdict),
        may_turn=any(compiled_policy(policy).may_turn for policy in verdict.governed),
    )


def _blamed(verdict: Verdict) -> str:
    found = [finding.policy for finding in verdict.findings if finding.blocks_identity and finding.policy is not None]
    return _same(listed(str(ref) for ref in found or [policy.ref for policy in verdict.governed]))


_same = lru_cache(maxsize=1024)(str)
"""One object for all pods that the same policies speak against."""


def _exceptions(verdict: Verdict) -> tuple[GrantException, ...]:
    """Each exception that waives something, with all that it waives: at most `exceptions.MAX_WAIVERS`."""
    found = []
    for waiver in sorted(verdict.waivers):
        waived = [finding for finding in verdict.findings if finding.waiver == waiver]
        containers = dict.fromkeys(finding.container[:MAX_CONTAINER] for finding in waived if finding.container)
        found.append(
            GrantException(
                name=waiver.name,
                uid=waiver.uid,
                expires_at=waiver.ends,
                tokens=waiver.tokens,
                checks=tuple(dict.fromkeys(finding.code for finding in waived)),
                containers=tuple(containers)[:MAX_LISTED],
            )
        )
    return tuple(found)


def _what_is_missing(verdict: Verdict) -> str:
    if not verdict.findings:
        return "None of the tokens of its policies is for a container of this pod."
    first = next((finding for finding in verdict.findings if finding.blocks_identity), verdict.findings[0])
    where = ", ".join(str(part) for part in (first.policy, first.container) if part)
    others = len(verdict.findings) - 1
    more = f" And {others} more." if others else ""
    return f"{first.code} ({where}): expected {first.expected}, found {first.found}; {first.remedy}.{more}"


def _refusal(subject: Subject, verdict: Verdict, problem: ReceiptProblem) -> Transition:
    created = subject.pod.metadata.creation_timestamp or ""
    newest = max(policy.created for policy in verdict.governed)
    if problem.reason == "ReceiptMissing" and created and created <= newest:
        return Transition(
            state="Suspended",
            reason="NotAdmitted",
            message=f"The pod was created at {created}, before a policy governed it: it was never admitted under it.",
            caused_by=listed(str(policy.ref) for policy in verdict.governed if policy.created >= created),
        )
    pod = f"Pod {subject.namespace.name}/{subject.pod.metadata.name}"
    if problem.reason == "ReceiptKeyRevoked":
        key = f"receipt key {problem.key_id}"
        return Transition(state="Suspended", reason=problem.reason, message=problem.message, caused_by=key)
    cause = problem.caused_by or pod
    return Transition(state="Revoked", reason=problem.reason, message=problem.message, caused_by=cause)


def _spec(
    subject: Subject,
    verdict: Verdict,
    receipt: SpentReceipt | None,
    service_account_uid: str,
    *,
    tokens: tuple[GrantToken, ...],
    key_id: str = "",
) -> WorkloadGrantSpec:
    pod, meta, controller = subject.pod, subject.pod.metadata, subject.controller
    return WorkloadGrantSpec(
        pod=GrantPod(
            name=meta.name,
            uid=meta.uid,
            node_name=pod.spec.node_name,
            generation=meta.generation,
            spec_hash=spec_hash(pod),
            receipt_hash=receipt.hash if receipt else "",
            receipt_key_id=(receipt.key_id if receipt else key_id)[:MAX_KEY_ID],
            created_at=meta.creation_timestamp or "",
        ),
        service_account=GrantServiceAccount(name=pod.spec.service_account_name, uid=service_account_uid),
        controller=(
            GrantController(
                api_group=controller.api_group, kind=controller.kind, name=controller.name, uid=controller.uid
            )
            if controller is not None and subject.controller_known
            else None
        ),
        owner=verdict.owner,
        requester=(receipt.receipt.requester.username if receipt else "")[:253],
        policies=tuple(
            GrantPolicy(
                kind=policy.ref.kind,
                namespace=policy.ref.namespace,
                name=policy.ref.name,
                uid=policy.ref.uid,
                generation=policy.ref.generation,
                profile=policy.spec.profile,
            )
            for policy in verdict.governed[:MAX_LISTED]
        ),
        tokens=tokens,
        images=_images(subject, verdict, receipt),
        expires_at=_expiry(meta.creation_timestamp, verdict.settings.max_lifetime_seconds),
    )


def _images(subject: Subject, verdict: Verdict, receipt: SpentReceipt | None) -> tuple[GrantImage, ...]:
    vouched = {(used.container, used.image): used for used in verdict.evidence_used}
    # A refused pod's images are nobody's evidence: its digests are what its author wrote.
    listed = []
    track = first_sight(subject.pod)
    for place, kept in zip(track.images[:MAX_IMAGES], recorded_images(track), strict=True):
        used = vouched.get(place) if receipt else None
        listed.append(
            GrantImage(
                container=kept[0],
                image=kept[1],
                digest=used.digest if used else _written_digest(place[1]),
                runtime_digests=used.runtime_digests[:MAX_LISTED] if used else (),
                evidence=tuple(map(_grant_evidence, _most_telling(used.evidence if used else ()))),
            )
        )
    return tuple(listed)


def _most_telling(evidence: tuple[RuleEvidence, ...]) -> tuple[RuleEvidence, ...]:
    """As many as a grant holds: of everything that was asked for one, before any of it has a second.

    Whoever revokes a signer reads here what rests on it. One who stands alone here, for want of room, is missed.
    """
    if len(evidence) <= MAX_EVIDENCE:
        return evidence
    first = {(one.policy_uid, one.rule, one.attestation, one.signed_digest): one for one in reversed(evidence)}
    return tuple(dict.fromkeys((*reversed(first.values()), *evidence)))[:MAX_EVIDENCE]


def _grant_evidence(one: RuleEvidence) -> GrantEvidence:
    return GrantEvidence(
        policy_uid=one.policy_uid,
        rule=one.rule,
        authority=one.authority,
        key_fingerprint=one.key_fingerprint,
        digest_listed=one.digest_listed,
        issuer=one.issuer[:MAX_ISSUER],
        subject=one.subject[:MAX_SUBJECT],
        attestation=one.attestation,
        predicate_type=one.predicate_type,
        signed_digest=one.signed_digest,
    )


def _written_digest(image: str) -> str:
    try:
        return ImageReference.parse(image).digest or ""
    except BadReference:
        return ""


def _expiry(created: UTCTime | None, seconds: int | None) -> UTCTime | None:
    if created is None or seconds is None:
        return None
    return clock.format_time(clock.parse(created) + timedelta(seconds=seconds))
