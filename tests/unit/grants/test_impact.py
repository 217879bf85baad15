from __future__ import annotations

import msgspec
import pytest

from countersign.grants.impact import Limits, accepted, blamed, hold_message, is_held, loses, weigh
from countersign.grants.judgement import requalify
from countersign.trust.policies.policy import Policy
from tests.unit.grants.build import BORN, POLICY, active, admitted
from tests.unit.trust.build import cluster_policy, facts, snapshot, token

UID = POLICY.ref.uid


def edited(generation: int, accept: int | None = None) -> Policy:
    spec = msgspec.structs.replace(POLICY.spec, accept_impact=accept)
    return msgspec.structs.replace(POLICY, ref=POLICY.ref._replace(generation=generation), spec=spec)


def held(losing: int, active_grants: int, policy: Policy, limits: Limits | None = None) -> bool:
    found = weigh(
        {UID: {str(n) for n in range(losing)}},
        {UID: {str(n) for n in range(active_grants)}},
        {UID: policy},
        limits or Limits(),
    )
    return found[UID].held


@pytest.mark.parametrize(
    ("losing", "resting", "is_too_much"),
    [(10, 10, False), (11, 11, True), (11, 44, False), (11, 43, True), (250, 1000, False), (251, 1000, True)],
)
def test_more_than_ten_grants_and_more_than_a_quarter_are_held(losing: int, resting: int, is_too_much: bool) -> None:
    assert held(losing, resting, edited(2)) is is_too_much


def test_limits_can_be_set() -> None:
    assert held(2, 100, edited(2), Limits(1, 0.0))
    assert not held(100, 100, edited(2), Limits(1000, 0.0))


@pytest.mark.parametrize(
    ("generation", "accept", "is_accepted"),
    [(5, None, False), (5, 3, False), (5, 4, True), (5, 5, True), (6, 4, False)],
)
def test_consent_covers_the_held_generation_and_the_edit_that_gives_it(
    generation: int, accept: int | None, is_accepted: bool
) -> None:
    assert accepted(edited(generation, accept)) is is_accepted
    assert held(100, 100, edited(generation, accept)) is not is_accepted


def test_a_suspension_waits_only_if_all_whom_it_is_laid_to_are_held() -> None:
    impacts = weigh({"a": {str(n) for n in range(20)}, "b": {"1"}}, {}, {"a": edited(2), "b": edited(2)}, Limits())
    assert is_held({"a"}, impacts)
    assert not is_held({"a", "b"}, impacts)
    assert not is_held(set(), impacts), "a deleted policy is not braked"


def test_a_failing_grant_is_laid_to_the_policy_that_it_fails_under() -> None:
    grant, _ = active()
    found, receipt = admitted()
    new = cluster_policy("baseline", images=())
    qualification = requalify(snapshot(POLICY, new), found, receipt.receipt, BORN)
    assert loses(grant, qualification)
    assert blamed(grant, qualification, {UID: POLICY, new.ref.uid: new}) == {new.ref.uid}


def test_a_grant_is_not_laid_to_a_policy_that_only_says_that_evidence_was_stale() -> None:
    patient = cluster_policy("patient")
    found, receipt = admitted(snapshot(POLICY, patient), found=facts(stale_seconds=60))
    grant, _ = active(snapshot(POLICY, patient))
    bare = cluster_policy()
    qualification = requalify(snapshot(bare, patient), found, receipt.receipt, BORN)
    assert qualification is not None
    assert {one.code for one in qualification.findings} == {"EvidenceStale"}
    assert blamed(grant, qualification, {UID: bare, patient.ref.uid: patient}) == {UID}


def test_a_grant_that_was_let_go_is_laid_to_the_policy_that_did() -> None:
    grant, _ = active()
    assert loses(grant, None)
    assert blamed(grant, None, {UID: POLICY}) == {UID}
    assert blamed(grant, None, {}) == frozenset()


def test_a_withdrawn_token_is_laid_to_the_policy_that_gave_it() -> None:
    grant, _ = active()
    found, receipt = admitted()
    other = cluster_policy("other")
    bare = cluster_policy()
    qualification = requalify(snapshot(bare, other), found, receipt.receipt, BORN)
    assert loses(grant, qualification)
    assert blamed(grant, qualification, {UID: bare, other.ref.uid: other}) == {UID}


def test_a_grant_that_keeps_its_tokens_loses_nothing() -> None:
    grant, seen = active()
    assert not loses(grant, seen.qualification)
    found, receipt = admitted()
    more = cluster_policy(tokens=(token(), token("more", "more.example.com")))
    assert not loses(grant, requalify(snapshot(more), found, receipt.receipt, BORN))


def test_the_message_says_how_to_go_ahead() -> None:
    found = weigh({UID: {str(n) for n in range(20)}}, {}, {UID: edited(7)})
    assert "acceptImpact: 7" in hold_message(found[UID])
    assert "20 of 20" in hold_message(found[UID])
