"""Evidence is withdrawn by time and by what came later, never by a registry's silence; and it comes back."""

from __future__ import annotations

import msgspec
import pytest

from countersign.grants.withdrawal import questions
from countersign.trust.policies.policy import Policy
from tests.unit.grants.build import admitted, at, stamp
from tests.unit.grants.scans import FIRST, IMAGE, MAX_AGE, Instance, asking, scan, scanned
from tests.unit.trust.build import DIGEST, REPOSITORY, cluster_policy, keyed, snapshot, token

END = FIRST + MAX_AGE + 1
"""The first second, from the pod's birth, in which the scan of its admission is too old."""
ACTIVE, AGAIN, WITHDRAWN = ("Active", "Admitted"), ("Active", "QualifiesAgain"), ("Suspended", "EvidenceWithdrawn")


def test_a_grant_names_the_moment_at_which_its_evidence_is_too_old() -> None:
    instance = Instance()
    stands = instance.judge(1)
    assert instance.state == ACTIVE
    assert instance.grant.status.evidence_good_until == stamp(END)
    assert stands.too_old_at == at(END)
    assert stands.qualification.until == at(END - MAX_AGE // 10), "people are told a tenth before"


def test_too_old_suspends_at_that_moment_and_not_before() -> None:
    instance = Instance()
    instance.judge(1)
    assert not instance.judge(END - 1).withdrawn
    assert instance.state == ACTIVE
    told = instance.judge(END).withdrawn
    assert instance.state == WITHDRAWN
    assert told.startswith("AttestationTooOld (ClusterTrustPolicy payments, api)")
    assert IMAGE in told
    assert f"found one of {stamp(FIRST)}; maxAgeSeconds is 3600" in told
    assert instance.judge(END + 500).withdrawn == told, "the same fault in the same words: nothing is written twice"


def test_it_is_told_before() -> None:
    instance = Instance()
    assert not instance.judge(1).expiring
    assert instance.judge(END - MAX_AGE // 10).expiring == {"uid-payments"}


def test_a_newer_attestation_moves_the_end() -> None:
    instance = Instance()
    instance.judge(1)
    instance.found = scanned(scan(), scan(1000))
    instance.judge(2000)
    assert instance.grant.status.evidence_good_until == stamp(1000 + MAX_AGE + 1)
    assert not instance.judge(END).withdrawn
    assert instance.state == ACTIVE


def test_what_was_too_old_comes_back_with_a_new_attestation() -> None:
    instance = Instance()
    instance.judge(1)
    instance.judge(END)
    instance.found = scanned(scan(), scan(END + 10))
    instance.judge(END + 20)
    assert instance.state == AGAIN
    assert instance.grant.status.evidence_good_until == stamp(END + 10 + MAX_AGE + 1)


def test_a_later_one_that_fails_suspends_where_the_latest_counts() -> None:
    instance = Instance(asking("Latest"))
    instance.judge(1)
    instance.found = scanned(scan(), scan(100, clean=False))
    assert "predicate.criticals = 2" in instance.judge(200).withdrawn
    assert instance.state == WITHDRAWN
    instance.found = scanned(scan(), scan(100, clean=False), scan(300))
    instance.judge(400)
    assert instance.state == AGAIN


def test_a_later_one_that_fails_is_nothing_where_any_counts() -> None:
    instance = Instance()
    instance.judge(1)
    instance.found = scanned(scan(), scan(100, clean=False))
    assert not instance.judge(200).withdrawn


def test_what_a_stranger_attests_neither_withdraws_nor_restores() -> None:
    instance = Instance(asking("Latest"))
    instance.judge(1)
    instance.found = scanned(scan(), scan(100, clean=False, by=3))
    assert not instance.judge(200).withdrawn
    instance.found = scanned(scan(), scan(END, by=3))
    instance.judge(END + 1)
    assert instance.state == WITHDRAWN


@pytest.mark.parametrize("select", ["Any", "Latest"])
def test_a_registry_that_shows_nothing_any_more_withdraws_nothing(select: str) -> None:
    instance = Instance(asking(select))
    instance.judge(1)
    instance.found = msgspec.structs.replace(scanned(), vouches=(), attestations=())
    assert not instance.judge(200).withdrawn
    assert instance.state == ACTIVE


def test_revoke_ends_it_for_good_and_report_leaves_it() -> None:
    revoked, reported = Instance(asking(response="Revoke")), Instance(asking(response="Report"))
    for instance in (revoked, reported):
        instance.judge(1)
        instance.found = scanned()
        assert instance.judge(END).withdrawn
    assert revoked.state == ("Revoked", "EvidenceWithdrawn")
    assert reported.state == ACTIVE
    assert reported.grant.status.evidence_good_until is None


def test_another_controller_believes_what_the_grant_says_until_a_gate_has_looked() -> None:
    instance = Instance()
    instance.judge(1)
    instance.found = scanned(scan(), scan(2000))
    instance.judge(2001)
    instance.restart()
    assert not instance.judge(END + 1).withdrawn, "the receipt's own is too old, but a newer one was known"
    assert instance.state == ACTIVE
    assert instance.judge(2000 + MAX_AGE + 1).withdrawn, "with nobody to look, it ends when it was said to end"
    assert instance.state == WITHDRAWN


def test_what_was_withdrawn_stays_so_under_another_controller_until_a_gate_has_looked() -> None:
    instance = Instance(asking("Latest", max_age=None))
    instance.judge(1)
    instance.found = scanned(scan(), scan(100, clean=False))
    told = instance.judge(200).withdrawn
    instance.restart()
    assert instance.judge(300).withdrawn == told
    assert instance.state == WITHDRAWN
    instance.found = scanned(scan(), scan(100, clean=False), scan(250))
    instance.judge(400)
    assert instance.state == AGAIN


def test_a_policy_that_asks_for_younger_ones_is_a_change_of_policy() -> None:
    """So it suspends as one, braked, whatever the response: a typo must be repairable."""
    instance = Instance(asking(response="Revoke"))
    instance.judge(1)
    instance.apply(asking(max_age=700, response="Revoke"))
    stands = instance.judge(300)
    assert (instance.state, stands.withdrawn) == (ACTIVE, "")
    assert stands.feared is not None, "nobody has looked for a newer one yet, but the brake counts it"
    instance.found = scanned()
    instance.judge(301)
    assert instance.state == ("Suspended", "NoLongerQualifies")
    instance.apply(asking(response="Revoke"))
    instance.judge(302)
    assert instance.state == AGAIN


def test_a_grant_from_before_deadlines_were_named_is_not_ended_by_one() -> None:
    """Of an older release, or of a policy without maxAgeSeconds: whatever changes now is no doing of time."""
    instance = Instance(asking("Any", max_age=None, response="Revoke"))
    instance.judge(1)
    instance.apply(asking(response="Revoke"))
    assert not instance.judge(END + 5).withdrawn
    instance.found = scanned()
    instance.judge(END + 6)
    assert instance.state == ("Suspended", "NoLongerQualifies")


def test_under_report_a_deadline_that_is_over_ends_nothing_once_the_response_is_another() -> None:
    instance = Instance(asking(response="Report"))
    instance.judge(1)
    instance.found = scanned()
    instance.judge(END)
    instance.apply(asking(response="Revoke"))
    instance.judge(END + 1)
    assert instance.state == ("Suspended", "NoLongerQualifies")


def test_only_images_whose_evidence_can_turn_are_asked_about_by_digest() -> None:
    instance = Instance(asking())
    (need,) = questions(instance.given, instance.subject, instance.spent.receipt).values()
    assert need.image == f"{REPOSITORY}@{DIGEST}"
    assert (need.stale_seconds, need.want_config) == (0, False)
    for policy in (cluster_policy(tokens=(token(),)), asking("Any", max_age=None)):
        given = snapshot(policy)
        subject, spent = admitted(given, found=scanned())
        assert questions(given, subject, spent.receipt) == {}


def test_a_policy_that_is_against_it_anyway_is_what_counts() -> None:
    instance = Instance()
    instance.judge(1)
    instance.apply(_other_signer())
    assert not instance.judge(END).withdrawn
    assert instance.state == ("Suspended", "NoLongerQualifies")


def _other_signer() -> Policy:
    policy = asking()
    (rule,) = policy.spec.images
    (release,) = rule.authorities
    changed = msgspec.structs.replace(rule, authorities=(keyed(release.name, 3),))
    spec = msgspec.structs.replace(policy.spec, images=(changed,))
    return msgspec.structs.replace(policy, spec=spec)
