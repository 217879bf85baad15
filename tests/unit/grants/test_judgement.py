from __future__ import annotations

import msgspec
import pytest

from countersign.grants.judgement import ReceiptProblem, judge_instance, requalify
from countersign.grants.naming import grant_name, is_refused, refused_name
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
from tests.unit.trust.build import AUDIENCE, DIGEST, cluster_policy, fingerprint, snapshot, subject, token

MISSING = ReceiptProblem("ReceiptMissing", "no receipt")


def test_the_grant_records_who_what_and_why() -> None:
    spec = judged().spec
    assert (spec.pod.name, spec.pod.uid, spec.pod.created_at) == ("api-1", "pod-uid", stamp(0))
    assert spec.pod.receipt_hash == RECEIPT_HASH
    assert (spec.service_account.name, spec.service_account.uid) == ("api", ACCOUNT_UID)
    assert spec.owner == "payments@example.com"
    assert spec.requester == "system:serviceaccount:kube-system:replicaset-controller"
    assert [policy.uid for policy in spec.policies] == ["uid-payments"]
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
