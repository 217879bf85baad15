"""An attestation counts by its type, by who made it, by what it says, and by how old it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from countersign.api.clock import from_seconds
from countersign.api.image_rule import AttestationRule, Authority
from countersign.trust.evidence.facts import Attestation, ImageFacts, Vouch
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.denial import message
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.verdict import judge
from tests.unit.trust.build import (
    DIGEST,
    ISSUER,
    NOW,
    PINNED,
    ROOT_HASH,
    SCAN,
    TAGGED,
    attestation,
    certified,
    cluster_policy,
    container,
    denied,
    facts,
    fingerprint,
    judged,
    keyed,
    keyless,
    pod,
    proof,
    revocation,
    root,
    rule_by,
    snapshot,
    subject,
    vouch,
    wants,
)

CLEAN = "predicate.criticals == 0"
HOUR_AGO = int(NOW.timestamp()) - 3600


def asking(
    *attestations: AttestationRule, attestors: tuple[Authority, ...] = (keyed("scanner", 2),), **members: Any
) -> PolicySnapshot:
    snapshot_members = {key: members.pop(key) for key in ("revocations", "roots") if key in members}
    rule = rule_by(keyed("release", 1), attestors=attestors, attestations=attestations or (wants(),), **members)
    return snapshot(cluster_policy(images=(rule,)), **snapshot_members)


def signed(*attestations: Attestation, **members: Any) -> ImageFacts:
    """Signed by key 1; every question was asked."""
    members.setdefault("checked_predicates", (SCAN,))
    members.setdefault("checked_roots", (ROOT_HASH,))
    return facts(attestations=attestations, **members)


def refused(given: PolicySnapshot, found: ImageFacts) -> Finding:
    (finding,) = judged(given, found=found).findings
    assert finding.is_denial
    assert finding.blocks_identity
    return finding


def timed(by: Vouch, signed_at: int | None) -> Vouch:
    return msgspec.structs.replace(by, proof=proof("timestamp", signed_at=signed_at, anchors=("tsa:acme",)))


def test_an_attestation_by_one_who_may_make_it_holds_and_is_recorded() -> None:
    verdict = judged(asking(), found=signed(attestation()))
    assert verdict.findings == ()
    (used,) = verdict.evidence_used
    assert [(one.authority, one.key_fingerprint, one.attestation, one.predicate_type) for one in used.evidence] == [
        ("release", fingerprint(1), "", ""),
        ("scanner", fingerprint(2), "scan", SCAN),
    ]


def test_an_attestation_that_is_missing_is_told_with_its_type_and_who_may_make_it() -> None:
    text = message(judged(asking(), found=signed()))
    assert text == (
        f"AttestationMissing: container api ({TAGGED}): ClusterTrustPolicy payments expects attestation scan ({SCAN}) "
        "by scanner (rule payments); found none of that type. "
        f"Way out: attest it (cosign attest --type {SCAN} ...) as one who may"
    )


def test_an_attestation_of_another_type_never_counts() -> None:
    assert refused(asking(), signed(attestation(predicate_type=SCAN + "x"))).code == "AttestationMissing"
    assert refused(asking(), signed(attestation(predicate_type=SCAN.upper()))).code == "AttestationMissing"


def test_who_may_sign_the_image_may_not_attest_it_unless_the_policy_says_so() -> None:
    assert refused(asking(), signed(attestation(vouch(1)))).code == "AttestationMissing"
    assert judged(asking(wants("scan", "release")), found=signed(attestation(vouch(1)))).findings == ()


def test_who_may_attest_does_not_sign() -> None:
    assert denied(judged(asking(), found=signed(attestation(), vouches=[vouch(2)]))) == ["ImageUnsigned"]


def test_a_stranger_who_attests_is_named() -> None:
    given = asking(attestors=(keyless("scanner"),))
    finding = refused(given, signed(attestation(certified("evil@example.com"))))
    assert finding.code == "AttestationMissing"
    assert f"one by evil@example.com of issuer {ISSUER} only, who may not make it" in finding.found


def test_a_keyless_attestor_attests() -> None:
    given = asking(attestors=(keyless("scanner"),))
    assert judged(given, found=signed(attestation(certified()))).findings == ()
    assert judged(asking(attestors=(keyless("scanner"),), roots={}), found=signed(attestation(certified()))).denials


def test_every_attestation_that_a_rule_asks_for_must_hold() -> None:
    slsa = "https://slsa.dev/provenance/v1"
    given = asking(wants(), wants("provenance", "release", predicate_type=slsa))
    found = signed(attestation(), checked_predicates=(SCAN, slsa))
    assert refused(given, found).code == "AttestationMissing"
    both = signed(
        attestation(), attestation(vouch(1), predicate_type=slsa, statement="2"), checked_predicates=(SCAN, slsa)
    )
    assert judged(given, found=both).findings == ()


def test_signature_and_attestation_are_each_told_when_both_are_missing() -> None:
    assert denied(judged(asking(), found=signed(vouches=()))) == ["ImageUnsigned", "AttestationMissing"]


def test_every_condition_must_hold() -> None:
    given = asking(wants(conditions=(CLEAN, "true")))
    assert judged(given, found=signed(attestation(holds=(CLEAN, "true")))).findings == ()
    finding = refused(given, signed(attestation(holds=("true",), fails={CLEAN: "predicate.criticals = 3"})))
    assert finding.code == "AttestationFailed"


def test_a_condition_that_fails_is_told_by_its_message_and_the_value_found() -> None:
    failing = signed(attestation(fails={CLEAN: "predicate.criticals = 3"}))
    told = refused(asking(wants(conditions=(CLEAN,), message="update the base image")), failing)
    assert told.found == "update the base image (found predicate.criticals = 3)"
    bare = refused(asking(wants(conditions=(CLEAN,))), failing)
    assert bare.found == f"not true: {CLEAN} (found predicate.criticals = 3)"


def test_a_condition_that_nobody_put_to_the_attestation_is_no_definite_no_and_no_pass() -> None:
    finding = refused(asking(wants(conditions=(CLEAN,))), signed(attestation()))
    assert finding.code == "ImageUnverifiable"


def test_a_type_that_nobody_looked_for_is_no_definite_no() -> None:
    assert refused(asking(), signed(checked_predicates=())).code == "ImageUnverifiable"


def test_of_several_attestations_one_that_holds_is_enough() -> None:
    given = asking(wants(conditions=(CLEAN,)))
    good, bad = attestation(holds=(CLEAN,), statement="1"), attestation(fails={CLEAN: "x"}, statement="2")
    assert judged(given, found=signed(bad, good)).findings == ()


def test_conditions_are_not_met_by_several_attestations_together() -> None:
    given = asking(wants(conditions=("a", "b")))
    one = attestation(holds=("a",), fails={"b": "x"}, statement="1")
    two = attestation(holds=("b",), fails={"a": "x"}, statement="2")
    assert refused(given, signed(one, two)).code == "AttestationFailed"


def scans(select: Any = "Any", **members: Any) -> PolicySnapshot:
    """Scans by key 2, whose time the public-good root knows."""
    scanner = keyed("scanner", 2, root="public-good")
    return asking(wants(conditions=(CLEAN,), select=select, **members), attestors=(scanner,))


@pytest.mark.parametrize("reverse", [False, True])
def test_latest_lets_only_the_one_with_the_latest_trusted_time_count(reverse: bool) -> None:
    old = attestation(timed(vouch(2), HOUR_AGO), holds=(CLEAN,), statement="1")
    new = attestation(timed(vouch(2), HOUR_AGO + 1), fails={CLEAN: "3 criticals"}, statement="2")
    given = (old, new)[:: -1 if reverse else 1]
    assert judged(scans(), found=signed(*given)).findings == ()
    assert refused(scans("Latest"), signed(*given)).code == "AttestationFailed"
    newest = attestation(timed(vouch(2), HOUR_AGO + 2), holds=(CLEAN,), statement="3")
    assert judged(scans("Latest"), found=signed(*given, newest)).findings == ()


def test_latest_of_the_same_second_lets_each_of_them_count() -> None:
    good = attestation(timed(vouch(2), HOUR_AGO), holds=(CLEAN,), statement="1")
    bad = attestation(timed(vouch(2), HOUR_AGO), fails={CLEAN: "3"}, statement="2")
    assert refused(scans("Latest"), signed(good, bad)).code == "AttestationFailed"


def test_latest_is_that_of_those_who_may_make_it() -> None:
    good = attestation(timed(vouch(2), HOUR_AGO), holds=(CLEAN,), statement="1")
    strangers = attestation(timed(vouch(3), HOUR_AGO + 9), fails={CLEAN: "3"}, statement="2")
    assert judged(scans("Latest"), found=signed(good, strangers)).findings == ()


def test_latest_counts_none_without_a_trusted_time() -> None:
    undated = attestation(vouch(2), holds=(CLEAN,))
    finding = refused(scans("Latest"), signed(undated))
    assert finding.code == "AttestationTooOld"
    assert "select Latest needs" in finding.found


def test_the_age_is_measured_by_trusted_time() -> None:
    fresh = signed(attestation(timed(vouch(2), HOUR_AGO), holds=(CLEAN,)))
    assert judged(scans(max_age_seconds=3600), found=fresh).findings == ()
    finding = refused(scans(max_age_seconds=3599), fresh)
    assert finding.code == "AttestationTooOld"
    assert finding.found == "one of 2026-03-01T11:00:00Z; maxAgeSeconds is 3599"


def test_it_does_until_the_very_moment_that_is_told_as_its_end() -> None:
    found = {PINNED: signed(attestation(timed(vouch(2), HOUR_AGO), holds=(CLEAN,)))}
    given, of = scans(max_age_seconds=3600), subject(pod(container(image=PINNED)))
    verdict = judge(given, of, found, stage="live", now=NOW)
    [ages] = {one.ages for used in verdict.evidence_used for one in used.evidence if one.ages}
    end = from_seconds(ages.too_old_at)
    just_before = end - timedelta(milliseconds=1)
    assert denied(judge(given, of, found, stage="live", now=just_before)) == []
    assert denied(judge(given, of, found, stage="live", now=end)) == ["AttestationTooOld"]


def test_an_attestation_without_a_trusted_time_has_no_age_that_would_do() -> None:
    undated = signed(attestation(vouch(2), holds=(CLEAN,)))
    assert "without a trusted time" in refused(scans(max_age_seconds=999999), undated).found
    other_root = signed(attestation(timed(vouch(2), HOUR_AGO), holds=(CLEAN,)))
    unknown = asking(
        wants(conditions=(CLEAN,), max_age_seconds=999999),
        attestors=(keyed("scanner", 2, root="public-good"),),
        roots={"public-good": root(anchors=("tsa:other",))},
    )
    assert refused(unknown, other_root).code == "AttestationTooOld"


def test_a_key_of_no_root_brings_no_trusted_time() -> None:
    given = asking(wants(max_age_seconds=999999))
    assert refused(given, signed(attestation(timed(vouch(2), HOUR_AGO)))).code == "AttestationTooOld"


def test_the_age_of_a_live_pods_evidence_is_that_of_its_admission() -> None:
    found = {PINNED: signed(attestation(timed(vouch(2), HOUR_AGO), holds=(CLEAN,)))}
    given, of = scans(max_age_seconds=3600), subject(pod(container(image=PINNED)))
    a_year_later = NOW.replace(year=2027)
    assert denied(judge(given, of, found, stage="live", now=a_year_later)) == ["AttestationTooOld"]
    assert denied(judge(given, of, found, stage="live", now=a_year_later, found_at=NOW.timestamp())) == []


def test_a_listed_digest_vouches_for_the_image_and_not_for_its_attestations() -> None:
    given = asking(digests=(DIGEST,))
    assert refused(given, signed(vouches=())).code == "AttestationMissing"
    assert judged(given, found=signed(attestation(), vouches=())).findings == ()


def test_a_rule_may_ask_for_attestations_only() -> None:
    rule = rule_by(attestors=(keyed("scanner", 2),), attestations=(wants(),))
    given = snapshot(cluster_policy(images=(rule,)))
    assert judged(given, found=signed(attestation(), vouches=())).findings == ()
    assert refused(given, signed(vouches=())).code == "AttestationMissing"


def test_an_attestation_that_names_nobody_who_is_there_is_made_by_nobody() -> None:
    assert refused(asking(wants("scan", "nobody")), signed(attestation())).code == "AttestationMissing"


def test_an_attestation_by_a_revoked_key_or_signer_counts_for_nothing() -> None:
    by_key = asking(revocations=[revocation(key_fingerprint=fingerprint(2))])
    assert "revoked key" in refused(by_key, signed(attestation())).found
    order = revocation(signer={"issuer": ISSUER, "subject": certified().identity.subject})  # type: ignore[union-attr]
    by_signer = asking(attestors=(keyless("scanner"),), revocations=[order])
    assert "revoked signer" in refused(by_signer, signed(attestation(certified()))).found


def test_facts_about_a_statement_join_whatever_was_asked_first() -> None:
    from countersign.trust.evidence.facts import joined

    given = asking(wants(conditions=("a", "b")))
    one, two = signed(attestation(holds=("a",))), signed(attestation(holds=("b",)))
    assert judged(given, found=joined(one, two)).findings == ()
    assert judged(given, found=joined(two, one)).findings == ()
