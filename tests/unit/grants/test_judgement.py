from __future__ import annotations

import msgspec
import pytest

from countersign.grants.judgement import MAX_EVIDENCE, ReceiptProblem, _most_telling, judge_instance, requalify
from countersign.grants.naming import grant_name, is_refused, refused_name
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.image_evidence import RuleEvidence
from tests.unit.grants.build import (
    ACCOUNT_UID,
    BORN,
    GIVEN,
    RECEIPT_HASH,
    admitted,
    at,
    changed,
    judged,
    live,
    stamp,
    with_image,
)
from tests.unit.trust.build import (
    AUDIENCE,
    DIGEST,
    ISSUER,
    ROOT_HASH,
    SCAN,
    WORKFLOW,
    attestation,
    certified,
    cluster_policy,
    facts,
    fingerprint,
    keyed,
    keyless,
    proof,
    rule_by,
    snapshot,
    subject,
    token,
    vouch,
    wants,
)

MISSING = ReceiptProblem("ReceiptMissing", "no receipt")


def test_the_grant_records_who_what_and_why() -> None:
    spec = judged().spec
    assert (spec.pod.name, spec.pod.uid, spec.pod.created_at) == ("api-1", "pod-uid", stamp(0))
    assert spec.pod.receipt_hash == RECEIPT_HASH
    assert (spec.service_account.name, spec.service_account.uid) == ("api", ACCOUNT_UID)
    assert spec.owner == "payments@example.com"
    assert spec.requester == "system:serviceaccount:kube-system:replicaset-controller"
    assert [(policy.uid, policy.profile) for policy in spec.policies] == [("uid-payments", "Service")]
    assert [(given.audience, given.policy_uid, given.max_expiration_seconds) for given in spec.tokens] == [
        (AUDIENCE, "uid-payments", 600)
    ]
    (image,) = spec.images
    assert (image.container, image.digest) == ("api", DIGEST)
    assert DIGEST in image.runtime_digests
    assert [one.key_fingerprint for one in image.evidence] == [fingerprint()]


def test_the_name_derives_from_the_nonce() -> None:
    assert judged(nonce="a").name == grant_name("a") != judged(nonce="b").name


def test_a_pod_that_no_policy_governs_gets_no_record() -> None:
    found, receipt = admitted()
    elsewhere = snapshot(cluster_policy(namespaces={"team": "other"}))
    assert judge_instance(elsewhere, found, receipt, ACCOUNT_UID, at(1)) is None
    assert judge_instance(elsewhere, found, MISSING, ACCOUNT_UID, at(1)) is None


def test_a_lifetime_counts_from_the_creation_of_the_pod() -> None:
    assert judged(snapshot(cluster_policy(tokens=(token(),), max_lifetime_seconds=900))).spec.expires_at == stamp(900)


def test_a_receipt_on_another_pod_spec_is_refused() -> None:
    found, receipt = admitted()
    swapped = msgspec.structs.replace(found, pod=with_image(found.pod, found.pod.spec.containers[0].image + "0"))
    judgement = judge_instance(GIVEN, swapped, receipt, ACCOUNT_UID, at(1))
    assert judgement is not None
    assert judgement.refusal is not None
    assert (judgement.refusal.state, judgement.refusal.reason) == ("Revoked", "ReceiptInvalid")
    assert judgement.name == refused_name("pod-uid")
    assert judgement.spec.tokens == ()


@pytest.mark.parametrize("age", [-60, 60])
def test_a_receipt_of_another_time_is_refused(age: int) -> None:
    found, receipt = admitted()
    later = msgspec.structs.replace(found, pod=changed(found.pod, creation_timestamp=stamp(age)))
    judgement = judge_instance(GIVEN, later, receipt, ACCOUNT_UID, at(60))
    assert judgement is not None
    assert is_refused(judgement.name)


def test_labels_that_changed_since_admission_do_not_spoil_the_receipt() -> None:
    found, receipt = admitted()
    relabelled = msgspec.structs.replace(found, pod=changed(found.pod, labels={"app": "api", "role": "primary"}))
    judgement = judge_instance(GIVEN, relabelled, receipt, ACCOUNT_UID, at(1))
    assert judgement is not None
    assert judgement.refusal is None
    assert judgement.spec.tokens


def test_labels_that_bring_another_policy_into_play_spoil_it() -> None:
    given = snapshot(*GIVEN.policies, cluster_policy("strict", pods={"tier": "secret"}))
    found, receipt = admitted(given)
    relabelled = msgspec.structs.replace(found, pod=changed(found.pod, labels={"app": "api", "tier": "secret"}))
    judgement = judge_instance(given, relabelled, receipt, ACCOUNT_UID, at(1))
    assert judgement is not None
    assert judgement.refusal is not None
    assert judgement.refusal.reason == "ReceiptInvalid"


def test_taking_a_label_off_does_not_take_a_pod_out_of_its_policy() -> None:
    given = snapshot(cluster_policy(pods={"app": "api"}, tokens=(token(),)))
    found, receipt = admitted(given)
    bare = msgspec.structs.replace(found, pod=changed(found.pod, labels={}))
    assert requalify(given, bare, receipt.receipt, BORN) is not None


def test_a_pod_without_a_receipt_that_is_younger_than_its_policy_slipped_in() -> None:
    judgement = judge_instance(GIVEN, subject(live(), requester=None), MISSING, ACCOUNT_UID, at(1))
    assert judgement is not None
    assert judgement.refusal is not None
    assert (judgement.refusal.state, judgement.refusal.reason) == ("Revoked", "ReceiptMissing")


def test_a_pod_without_a_receipt_that_is_older_than_its_policy_was_never_asked() -> None:
    younger = snapshot(cluster_policy(created=stamp(10), tokens=(token(),)))
    judgement = judge_instance(younger, subject(live(), requester=None), MISSING, ACCOUNT_UID, at(11))
    assert judgement is not None
    assert judgement.refusal is not None
    assert (judgement.refusal.state, judgement.refusal.reason) == ("Suspended", "NotAdmitted")


def test_a_forged_receipt_on_an_old_pod_is_no_excuse() -> None:
    younger = snapshot(cluster_policy(created=stamp(10), tokens=(token(),)))
    forged = ReceiptProblem("ReceiptInvalid", "not signed by us")
    judgement = judge_instance(younger, subject(live(), requester=None), forged, ACCOUNT_UID, at(11))
    assert judgement is not None
    assert judgement.refusal is not None
    assert judgement.refusal.state == "Revoked"


def test_a_pod_that_does_not_qualify_gets_a_grant_without_tokens() -> None:
    found, receipt = admitted()
    strict = snapshot(cluster_policy(images=(), tokens=()))
    judgement = judge_instance(strict, found, receipt, ACCOUNT_UID, at(1))
    assert judgement is not None
    assert judgement.refusal is None
    assert not judgement.qualification.qualifies
    assert judgement.spec.tokens == ()


def _attested(signed_at: int) -> ImageFacts:
    """Signed by the release workflow, scanned by key 2 at that time."""
    time = proof("timestamp", signed_at=signed_at, anchors=("tsa:acme",))
    scan = attestation(msgspec.structs.replace(vouch(2), proof=time))
    return facts(vouches=[certified()], attestations=(scan,), checked_roots=(ROOT_HASH,), checked_predicates=(SCAN,))


SCANNED = cluster_policy(
    tokens=(token(),),
    images=(
        rule_by(
            keyless(),
            attestors=(keyed("scanner", 2, root="public-good"),),
            attestations=(wants(max_age_seconds=3600),),
        ),
    ),
)


def test_the_grant_names_identities_and_what_was_attested() -> None:
    found = _attested(int(BORN.timestamp()) - 60)
    of, receipt = admitted(snapshot(SCANNED), found=found)
    judgement = judge_instance(snapshot(SCANNED), of, receipt, ACCOUNT_UID, at(1))
    assert judgement is not None
    signature, scan = judgement.spec.images[0].evidence
    assert (signature.authority, signature.issuer, signature.subject) == ("ci", ISSUER, WORKFLOW)
    assert (signature.key_fingerprint, signature.attestation) == ("", "")
    assert (scan.authority, scan.key_fingerprint) == ("scanner", fingerprint(2))
    assert (scan.attestation, scan.predicate_type) == ("scan", SCAN)


def test_an_attestation_does_not_grow_old_under_a_pod_that_was_admitted_by_it() -> None:
    found = _attested(int(BORN.timestamp()) - 3600)
    of, receipt = admitted(snapshot(SCANNED), found=found)
    a_day_later = requalify(snapshot(SCANNED), of, receipt.receipt, at(86400))
    assert a_day_later is not None
    assert a_day_later.qualifies
    stricter = cluster_policy(
        tokens=(token(),),
        images=(
            rule_by(
                keyless(),
                attestors=(keyed("scanner", 2, root="public-good"),),
                attestations=(wants(max_age_seconds=3599),),
            ),
        ),
    )
    turned = requalify(snapshot(stricter), of, receipt.receipt, at(86400))
    assert turned is not None
    assert not turned.qualifies


def test_a_pod_whose_evidence_root_is_gone_no_longer_qualifies_and_comes_back_with_it() -> None:
    of, receipt = admitted(snapshot(SCANNED), found=_attested(int(BORN.timestamp())))
    gone = requalify(snapshot(SCANNED, roots={}), of, receipt.receipt, at(9))
    assert gone is not None
    assert not gone.qualifies
    assert "EvidenceRootMissing" in gone.message
    back = requalify(snapshot(SCANNED), of, receipt.receipt, at(10))
    assert back is not None
    assert back.qualifies


def test_a_grant_without_room_names_one_for_everything_that_was_asked_first() -> None:
    many = [RuleEvidence("uid", "rule", f"a{number}", fingerprint(1), False) for number in range(MAX_EVIDENCE)]
    scan = RuleEvidence("uid", "rule", "scanner", fingerprint(2), False, attestation="scan", predicate_type=SCAN)
    kept = _most_telling((*many, scan))
    assert len(kept) == MAX_EVIDENCE
    assert kept[:2] == (many[0], scan)
    assert _most_telling((scan, *many[1:])) == (scan, *many[1:])
