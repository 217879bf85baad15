"""What a change of policies would do: a comparison of verdicts, and the brake's word on it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from countersign.api.grant import WorkloadGrant
from countersign.api.policy import Mode, ModeOverride
from countersign.grants.foresight import Admission, Foreseen, Instance, admission_change, foresee
from countersign.grants.impact import DEFAULT_LIMITS, Limits
from countersign.grants.judgement import requalify
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.policies.policy import Policy, PolicySnapshot
from countersign.trust.verdicts.outlook import outlook
from countersign.trust.verdicts.verdict import Verdict
from tests.unit.grants.build import active, admitted, at
from tests.unit.trust.build import (
    ALL_NAMESPACES,
    PINNED,
    audience,
    cluster_policy,
    evidence_for,
    rule,
    snapshot,
    token,
    unsigned,
    unverifiable,
)

GOOD = cluster_policy(tokens=(token(),))


def edited(**members: Any) -> Policy:
    """GOOD after one edit."""
    members = {"tokens": (token(),), **members}
    policy = cluster_policy(**members)
    return msgspec.structs.replace(policy, ref=policy.ref._replace(generation=2))


def instance(
    now: PolicySnapshot,
    then: PolicySnapshot,
    *,
    uid: str = "pod-uid",
    found: ImageFacts | Unverifiable | None = None,
    grant: WorkloadGrant | None = None,
) -> Instance:
    """A pod that was admitted under `now`, with its Active grant unless another is given."""
    subject, spent = admitted(snapshot(GOOD))
    evidence = spent.receipt.images if found is None else evidence_for(subject.pod, found)
    before, after = (outlook(given, subject, evidence, at(1), admitted=True) for given in (now, then))
    return Instance(
        uid, before, after, grant if grant is not None else active(snapshot(GOOD))[0],
        requalify(now, subject, spent.receipt, at(1)), requalify(then, subject, spent.receipt, at(1)),
    )  # fmt: skip


def foreseen(now: PolicySnapshot, then: PolicySnapshot, **members: Any) -> Foreseen:
    policies = {policy.ref.uid: policy for policy in then.policies}
    (found,), _ = foresee([instance(now, then, **members)], policies, DEFAULT_LIMITS)
    return found


def test_no_change_is_none() -> None:
    assert not foreseen(snapshot(GOOD), snapshot(GOOD)).changes


def test_a_rule_that_nobody_satisfies_refuses_and_suspends() -> None:
    found = foreseen(snapshot(GOOD), snapshot(edited(images=(rule(globs=("other.example.com/**",)),))))
    assert (found.admission, found.grant, found.held) == ("refused", "suspended", False)
    assert found.lost == ("ledger.example.com",)


def test_a_deletion_admits_more_and_takes_the_tokens() -> None:
    strict = cluster_policy("strict", images=(rule(keys=(2,)),))
    now, then = snapshot(GOOD, strict), snapshot(GOOD)
    assert foreseen(now, then).admission == "admitted"
    found = foreseen(snapshot(GOOD), snapshot())
    assert (found.admission, found.grant, found.lost) == ("", "suspended", ("ledger.example.com",))


@pytest.mark.parametrize(("mode", "admission"), [("Enforce", "refused"), ("Warn", ""), ("Audit", "")])
def test_only_a_policy_that_enforces_refuses(mode: Mode, admission: Admission) -> None:
    stricter = cluster_policy("strict", mode=mode, images=(rule(keys=(2,)),))
    assert foreseen(snapshot(GOOD), snapshot(GOOD, stricter)).admission == admission


def test_the_mode_in_the_pods_namespace_counts() -> None:
    softened = cluster_policy(
        "strict", images=(rule(keys=(2,)),), mode_overrides=(ModeOverride(namespace="payments", mode="Audit"),)
    )
    assert foreseen(snapshot(GOOD), snapshot(GOOD, softened)).admission == ""


def test_a_registry_that_cannot_tell_leaves_it_open() -> None:
    found = foreseen(snapshot(GOOD), snapshot(GOOD), found=unverifiable(PINNED))
    assert (found.admission, found.lost, found.gained) == ("unknown", (), ())


def test_a_new_token_is_gained_at_the_next_creation_and_keeps_the_grant() -> None:
    more = edited(tokens=(token(), token("mail", "mail.example.com")))
    declared = [audience(), audience("mail.example.com", name="mail", allowed=ALL_NAMESPACES)]
    found = foreseen(snapshot(GOOD), snapshot(more, audiences=declared))
    assert (found.gained, found.grant) == (("mail.example.com",), "")


def suspended(reason: str) -> WorkloadGrant:
    grant, _ = active(snapshot(GOOD))
    status = msgspec.structs.replace(grant.status, state="Suspended", reason=reason)
    return msgspec.structs.replace(grant, status=status)


def test_what_a_policy_suspended_comes_back_with_it_and_nothing_else_does() -> None:
    broken = snapshot(edited(images=(rule(globs=("other.example.com/**",)),)))
    assert foreseen(broken, snapshot(GOOD), grant=suspended("NoLongerQualifies")).grant == "resumed"
    assert foreseen(broken, snapshot(GOOD), grant=suspended("NodeLost")).grant == ""
    assert foreseen(broken, broken, grant=suspended("NoLongerQualifies")).grant == ""


def test_a_mass_suspension_is_told_to_be_held_until_it_is_accepted() -> None:
    broken = edited(images=(rule(globs=("other.example.com/**",)),))
    many = [instance(snapshot(GOOD), snapshot(broken), uid=f"pod-{number}") for number in range(3)]
    found, impacts = foresee(many, {broken.ref.uid: broken}, Limits(2, 0.5))
    assert [(one.grant, one.held) for one in found] == [("suspended", True)] * 3
    (impact,) = impacts.values()
    assert (impact.losing, impact.active, impact.held) == (3, 3, True)
    accepted = msgspec.structs.replace(broken, spec=msgspec.structs.replace(broken.spec, accept_impact=1))
    found, _ = foresee(many, {accepted.ref.uid: accepted}, Limits(2, 0.5))
    assert not any(one.held for one in found)
    found, _ = foresee(many, {}, Limits(2, 0.5))
    assert not any(one.held for one in found), "a deletion is not held"


@pytest.mark.parametrize(
    ("now", "then", "expected"),
    [
        ("signed", "signed", ""), ("signed", "unsigned", "refused"), ("unsigned", "signed", "admitted"),
        ("unsigned", "unsigned", ""), ("unknown", "unsigned", "refused"), ("unknown", "signed", ""),
        ("signed", "unknown", "unknown"), ("unsigned", "unknown", "unknown"), ("unknown", "unknown", "unknown"),
    ],
)  # fmt: skip
def test_the_end_of_an_admission_changes_only_where_it_is_known_to(now: str, then: str, expected: Admission) -> None:
    assert admission_change(_verdict(now), _verdict(then)) == expected


def _verdict(image: str) -> Verdict:
    subject, spent = admitted(snapshot(GOOD))
    others: dict[str, ImageFacts | Unverifiable] = {"unsigned": unsigned(), "unknown": unverifiable(PINNED)}
    found = others.get(image)
    evidence = spent.receipt.images if found is None else evidence_for(subject.pod, found)
    return outlook(snapshot(GOOD), subject, evidence, at(1), admitted=True)
