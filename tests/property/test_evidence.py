"""What holds for any policies about signers and attestations, and any evidence."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from countersign.api.revocation import Revocation
from countersign.trust.evidence.abridged import abridged
from countersign.trust.evidence.facts import Attestation, ImageFacts, Vouch, joined
from countersign.trust.evidence.needs import covers, evidence_needs
from countersign.trust.policies.policy import Policy, PolicySnapshot
from countersign.trust.policies.scope import governing
from countersign.trust.verdicts.denial import MAX_MESSAGE, message
from countersign.trust.verdicts.verdict import Verdict, judge
from tests.property.evidence_strategies import attestations, image_facts, policies, snapshots, vouches
from tests.unit.trust.build import ISSUER, NAMESPACE, NOW, TAGGED, fingerprint, pod, revocation, subject

POD = pod()


def verdict(snapshot: PolicySnapshot, found: ImageFacts) -> Verdict:
    return judge(snapshot, subject(POD), {TAGGED: found}, stage="mutate", now=NOW)


def told(of: Verdict) -> set[tuple[str, ...]]:
    """All that a verdict says, but for the order in which facts were found."""
    findings = {(one.code, str(one.policy), one.found, str(one.is_denial), str(one.transient)) for one in of.findings}
    evidence = {tuple(map(str, each)) for used in of.evidence_used for each in used.evidence}
    return findings | evidence | {("token", token.audience) for token in of.tokens}


def refusing(of: Verdict) -> set[str]:
    return {str(finding.policy) for finding in of.denials}


def blocking(of: Verdict) -> set[str]:
    return {str(finding.policy) for finding in of.findings if finding.blocks_identity}


@given(snapshots(), image_facts(), st.lists(vouches, max_size=3), st.lists(attestations, max_size=3))
def test_more_evidence_never_turns_an_admission_into_a_denial(
    snapshot: PolicySnapshot, found: ImageFacts, more: list[Vouch], attested: list[Attestation]
) -> None:
    """But for `select: Latest`, which is there to let a newer attestation refuse what an older one let in."""
    extra = msgspec.structs.replace(found, vouches=tuple(more), attestations=tuple(attested))
    before, after = verdict(snapshot, found), verdict(snapshot, joined(found, extra))
    assert refusing(after) <= refusing(before)
    assert blocking(after) <= blocking(before)
    assert {token.audience for token in before.tokens} <= {token.audience for token in after.tokens}


@given(snapshots(latest=True), image_facts(), policies("extra", latest=True))
def test_without_a_policy_nobody_else_admits_what_it_denied(
    snapshot: PolicySnapshot, found: ImageFacts, extra: Policy
) -> None:
    more = msgspec.structs.replace(snapshot, policies=(*snapshot.policies, extra))
    before, after = verdict(more, found), verdict(snapshot, found)
    assert refusing(before) - {str(extra.ref)} == refusing(after)
    assert blocking(before) - {str(extra.ref)} == blocking(after)


@given(snapshots(latest=True), st.lists(image_facts(most=3), min_size=2, max_size=4), st.randoms())
def test_facts_that_are_joined_in_any_order_are_judged_alike(
    snapshot: PolicySnapshot, parts: list[ImageFacts], shuffler: random.Random
) -> None:
    parts = [msgspec.structs.replace(one, configs=parts[0].configs) for one in parts]
    shuffled = list(parts)
    shuffler.shuffle(shuffled)
    assert told(verdict(snapshot, _join(parts))) == told(verdict(snapshot, _join(shuffled)))


def _join(parts: list[ImageFacts]) -> ImageFacts:
    whole = parts[0]
    for part in parts[1:]:
        whole = joined(whole, part)
    return whole


ORDERS = (
    revocation(key_fingerprint=fingerprint(1)),
    revocation(signer={"issuer": ISSUER, "subject": "ann@example.com"}),
)


@given(snapshots(), image_facts(), st.sampled_from(ORDERS))
def test_a_revocation_only_ever_takes_away(snapshot: PolicySnapshot, found: ImageFacts, order: Revocation) -> None:
    """But for `select: Latest`: the one before the revoked one is then the latest."""
    revoked = msgspec.structs.replace(snapshot, revocations=(*snapshot.revocations, order))
    before, after = verdict(snapshot, found), verdict(revoked, found)
    assert refusing(before) <= refusing(after)
    assert blocking(before) <= blocking(after)


@given(snapshots(latest=True), image_facts(), st.sampled_from(ORDERS))
def test_nothing_rests_on_whom_a_revocation_names(
    snapshot: PolicySnapshot, found: ImageFacts, order: Revocation
) -> None:
    revoked = msgspec.structs.replace(snapshot, revocations=(*snapshot.revocations, order))
    used = [one for each in verdict(revoked, found).evidence_used for one in each.evidence]
    target = order.spec.target
    assert all(one.key_fingerprint != target.key_fingerprint for one in used)
    assert target.signer is None or all(one.subject != target.signer.subject for one in used)


@given(snapshots(latest=True), image_facts(most=20))
def test_what_a_receipt_keeps_is_judged_as_the_whole(snapshot: PolicySnapshot, found: ImageFacts) -> None:
    kept = abridged(snapshot, NAMESPACE, governing(snapshot, subject(POD)), {TAGGED: found}, NOW.timestamp())[TAGGED]
    assert kept.left_out == len(found.vouches) + len(found.attestations) - len(kept.vouches) - len(kept.attestations)
    before, after = verdict(snapshot, found), verdict(snapshot, kept)
    assert refusing(before) == refusing(after)
    assert blocking(before) == blocking(after)
    assert [token.audience for token in before.tokens] == [token.audience for token in after.tokens]


@given(snapshots(latest=True), image_facts())
def test_a_root_that_loses_its_material_only_ever_takes_away(snapshot: PolicySnapshot, found: ImageFacts) -> None:
    emptied = {name: one._replace(anchors=frozenset()) for name, one in snapshot.roots.items()}
    after = verdict(msgspec.structs.replace(snapshot, roots=emptied), found)
    assert all(not one.issuer for each in after.evidence_used for one in each.evidence)


@given(snapshots(latest=True), image_facts(stale=False))
def test_facts_that_answer_the_need_are_never_called_evidence_from_before(
    snapshot: PolicySnapshot, found: ImageFacts
) -> None:
    (need,) = evidence_needs(governing(snapshot, subject(POD)), POD, snapshot.roots) or (None,)
    every = {claim.condition for one in found.attestations for claim in one.claims}
    found = msgspec.structs.replace(found, checked_conditions=tuple(sorted(every)))
    if need is not None and covers(found, need) and all(len(one.claims) == 2 for one in found.attestations):
        assert all(finding.code != "ImageUnverifiable" for finding in verdict(snapshot, found).findings)


@given(snapshots(latest=True), image_facts())
def test_what_is_told_is_bounded_and_printable(snapshot: PolicySnapshot, found: ImageFacts) -> None:
    text = message(verdict(snapshot, found))
    assert len(text) <= MAX_MESSAGE
    assert text.isprintable()
