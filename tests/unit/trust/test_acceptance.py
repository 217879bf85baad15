"""What the controller reports of policies and audiences without looking at any pod."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from countersign.api.audience import AllowedNamespaces, AllowRule, ProtectedAudience
from countersign.api.image_rule import Authority, ImageRule, KeyAuthority, KeylessIdentity
from countersign.api.meta import LabelSelector, SelectorRequirement
from countersign.api.policy import Binding, ServiceAccountBinding
from countersign.trust.evidence import conditions
from countersign.trust.policies.compiled import compiled_policy
from countersign.trust.policies.composition import accept
from countersign.trust.policies.overlap import may_overlap
from countersign.trust.policies.policy import NamespaceFacts, Policy, PolicySnapshot
from tests.unit.trust.build import (
    ALL_NAMESPACES,
    NAMESPACE,
    audience,
    cluster_policy,
    keyed,
    keyless,
    root,
    rule,
    rule_by,
    snapshot,
    token,
    trust_policy,
    wants,
)


def reasons(given: PolicySnapshot) -> dict[str, str]:
    return {judgement.ref.name: judgement.accepted_reason for judgement in accept(given).policies}


def resolved(given: PolicySnapshot, **namespaces: NamespaceFacts) -> str:
    (judgement,) = accept(given, namespaces).policies
    assert judgement.resolved_refs is (judgement.resolved_reason == "ResolvedRefs")
    return judgement.resolved_reason


def giving(name: str, created: str = "2026-01-01T00:00:00Z", **members: Any) -> Policy:
    return cluster_policy(name, created=created, tokens=(token(),), **members)


def test_a_plain_policy_is_accepted() -> None:
    (judgement,) = accept(snapshot(giving("payments"))).policies
    assert (judgement.accepted, judgement.accepted_reason) == (True, "Accepted")
    assert judgement.resolved_refs


def test_the_younger_of_two_that_clash_is_conflicted_and_told_with_whom() -> None:
    given = snapshot(giving("younger", "2026-02-01T00:00:00Z"), giving("older"))
    assert reasons(given) == {"younger": "Conflicted", "older": "Accepted"}
    message = accept(given).policies[0].accepted_message
    assert "ClusterTrustPolicy older" in message
    assert "ledger" in message


def test_a_cluster_policy_beats_an_older_one_of_a_namespace() -> None:
    own = trust_policy("own", created="2020-01-01T00:00:00Z", tokens=(token(),))
    given = snapshot(own, giving("cluster"), audiences=[audience(allowed=ALL_NAMESPACES)])
    assert reasons(given) == {"own": "Conflicted", "cluster": "Accepted"}


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ({}, {}, True),
        ({"pods": {"app": "a"}}, {"pods": {"app": "b"}}, False),
        ({"pods": {"app": "a"}}, {"pods": {"tier": "b"}}, True),
        ({"namespaces": {"team": "a"}}, {"namespaces": {"team": "b"}}, False),
        ({"namespaces": {"team": "a"}}, {"pods": {"team": "b"}}, True),
    ],
)
def test_policies_overlap_unless_their_selectors_contradict_each_other(
    one: dict[str, Any], other: dict[str, Any], overlap: bool
) -> None:
    a, b = compiled_policy(giving("a", **one)), compiled_policy(giving("b", **other))
    assert may_overlap(a, b) is may_overlap(b, a) is overlap


def test_trust_policies_of_two_namespaces_never_meet() -> None:
    a, b = compiled_policy(trust_policy("a")), compiled_policy(trust_policy("b", namespace="other"))
    assert not may_overlap(a, b)
    assert may_overlap(a, compiled_policy(trust_policy("b")))


def test_a_bound_account_is_a_meeting_point_whatever_the_selectors_say() -> None:
    binding = Binding(service_accounts=(ServiceAccountBinding(namespace=NAMESPACE, name="api"),))
    a = compiled_policy(giving("a", pods={"app": "a"}, binding=binding))
    b = compiled_policy(giving("b", pods={"app": "b"}))
    assert may_overlap(a, b)
    assert may_overlap(b, a)


@pytest.mark.parametrize(
    ("clauses", "satisfiable"),
    [
        ([("In", ("a", "b")), ("In", ("b", "c"))], True),
        ([("In", ("a",)), ("NotIn", ("a",))], False),
        ([("Exists", ()), ("DoesNotExist", ())], False),
        ([("DoesNotExist", ()), ("NotIn", ("a",))], True),
        ([("DoesNotExist", ()), ("In", ("a",))], False),
    ],
)
def test_expressions_contradict_each_other_by_their_values(
    clauses: list[tuple[Any, tuple[str, ...]]], satisfiable: bool
) -> None:
    selectors = [
        LabelSelector(match_expressions=(SelectorRequirement(key="app", operator=operator, values=values),))
        for operator, values in clauses
    ]
    from countersign.trust.policies.overlap import _satisfiable

    assert _satisfiable(*selectors) is satisfiable


def test_disjoint_policies_may_hand_out_the_same_audience() -> None:
    given = snapshot(giving("a", pods={"app": "a"}), giving("b", pods={"app": "b"}))
    assert reasons(given) == {"a": "Accepted", "b": "Accepted"}


def test_an_undeclared_audience_is_not_resolved() -> None:
    assert resolved(snapshot(giving("payments"), audiences=())) == "AudienceUnavailable"


def test_a_required_policy_that_does_not_exist_is_not_resolved() -> None:
    given = snapshot(giving("payments"), audiences=[audience(required=("baseline",))])
    assert resolved(given) == "RequiredPolicyMissing"


def test_a_namespaces_policy_needs_the_audiences_leave() -> None:
    own = trust_policy(tokens=(token(),))
    assert resolved(snapshot(own)) == "AudienceUnavailable"
    assert resolved(snapshot(own, audiences=[audience(allowed=ALL_NAMESPACES)])) == "ResolvedRefs"
    selector = AllowedNamespaces(from_="Selector", selector=LabelSelector(match_labels={"team": "payments"}))
    selected = snapshot(own, audiences=[audience(allowed=selector)])
    assert resolved(selected) == "AudienceUnavailable"
    assert resolved(selected, payments=NamespaceFacts("payments", {"team": "payments"})) == "ResolvedRefs"


def _garbage_key() -> ImageRule:
    authority = Authority(name="release", key=KeyAuthority(pem=("-----BEGIN PUBLIC KEY-----",)))
    return ImageRule(name="r", globs=("registry.example.com/**",), authorities=(authority,))


@pytest.mark.parametrize(
    ("policy", "part"),
    [
        (cluster_policy(images=(rule(globs=("library/nginx",)),)), "docker.io"),
        (cluster_policy(images=(_garbage_key(),)), "PEM"),
        (cluster_policy(images=(), tokens=(token(),)), "image rules"),
        (cluster_policy(binding=Binding(service_accounts=(ServiceAccountBinding(name="api"),))), "namespace"),
        (
            trust_policy(binding=Binding(service_accounts=(ServiceAccountBinding(namespace="other", name="api"),))),
            "its own only",
        ),
    ],
)
def test_what_can_never_have_its_effect_is_invalid_and_says_why(policy: Policy, part: str) -> None:
    (judgement,) = accept(snapshot(policy)).policies
    assert judgement.accepted_reason == "Invalid"
    assert part in judgement.accepted_message


@pytest.mark.parametrize(
    ("image_rule", "part"),
    [
        (rule_by(keyless("ci", KeylessIdentity(issuer_reg_exp="(", subject="a"))), "authority ci: issuerRegExp '('"),
        (
            rule_by(keyed(), attestors=(keyless("scanner", KeylessIdentity(issuer="a", subject_reg_exp="[")),)),
            "attestor scanner: subjectRegExp '['",
        ),
        (
            rule_by(
                keyless("ci", KeylessIdentity(issuer="a", subject="b", extensions_reg_exp={"runnerEnvironment": r"\1"}))
            ),
            "extensionsRegExp runnerEnvironment",
        ),
        (rule_by(keyed("scanner"), attestations=(wants(conditions=("predicate.x ==", "predicate.(")),)), "scan: "),
        (rule_by(keyed("scanner"), attestations=(wants(conditions=("open('/etc/passwd')",)),)), "'open'"),
    ],
)
def test_an_expression_that_cannot_be_read_is_invalid_and_says_where_it_stands(
    image_rule: ImageRule, part: str
) -> None:
    (judgement,) = accept(snapshot(cluster_policy(images=(image_rule,)))).policies
    assert judgement.accepted_reason == "Invalid"
    assert part in judgement.accepted_message


def test_an_evidence_root_that_does_not_exist_is_not_resolved() -> None:
    private = cluster_policy(images=(rule_by(keyless("ci", root="acme")),))
    assert resolved(snapshot(private)) == "EvidenceRootMissing"
    (judgement,) = accept(snapshot(private)).policies
    assert "EvidenceRoot acme" in judgement.resolved_message
    assert "evidenceRootRef" in judgement.resolved_message
    assert resolved(snapshot(private, roots={"acme": root()})) == "ResolvedRefs"


def test_the_root_of_an_attestor_must_be_there_too() -> None:
    scanned = rule_by(keyed(), attestors=(keyless("scanner", root="acme"),), attestations=(wants(),))
    assert resolved(snapshot(cluster_policy(images=(scanned,)))) == "EvidenceRootMissing"


def test_the_built_in_root_always_resolves() -> None:
    assert resolved(snapshot(cluster_policy(images=(rule_by(keyless()),)), roots={})) == "ResolvedRefs"


def test_a_root_that_cannot_be_used_is_told_with_its_problem() -> None:
    given = snapshot(cluster_policy(images=(rule_by(keyless()),)), roots={"public-good": root(problem="no content")})
    assert resolved(given) == "EvidenceRootUnusable"
    assert "no content" in accept(given).policies[0].resolved_message


def test_of_two_declarations_of_an_audience_the_younger_is_conflicted() -> None:
    given = snapshot(audiences=[audience(name="new", created="2026-02-01T00:00:00Z"), audience(name="old")])
    judged = accept(given).audiences
    assert [(one.name, one.accepted_reason) for one in judged] == [("new", "Conflicted"), ("old", "Accepted")]
    assert "old" in judged[0].accepted_message


def test_reserved_audiences_are_not_accepted() -> None:
    (judged,) = accept(snapshot(audiences=[audience("x.countersign.dev")])).audiences
    assert judged.accepted_reason == "Reserved"


def ruled(*expressions: str, **changes: Any) -> ProtectedAudience:
    made = audience(**changes)
    rules = tuple(AllowRule(name=f"r{number}", expression=one) for number, one in enumerate(expressions))
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, allow=rules))


def test_an_audience_with_rules_that_can_be_read_is_accepted() -> None:
    (judged,) = accept(snapshot(audiences=[ruled("request.method == 'GET'", "grant.profile == 'Agent'")])).audiences
    assert (judged.accepted, judged.accepted_reason) == (True, "Accepted")


def test_an_audience_with_a_rule_that_cannot_be_read_is_invalid_and_told_what_to_mend() -> None:
    (judged,) = accept(snapshot(audiences=[ruled("true", "request.metod == 'GET'")])).audiences
    assert (judged.accepted, judged.accepted_reason) == (False, "Invalid")
    assert judged.accepted_message.startswith("allow rule r1: request has no member 'metod': there are relyingParty")
    assert judged.accepted_message.endswith("until then no token of this audience is active")


def test_a_clash_is_told_before_the_rules_are() -> None:
    given = snapshot(audiences=[ruled("nonsense(", name="new", created="2026-02-01T00:00:00Z"), audience(name="old")])
    assert accept(given).audiences[0].accepted_reason == "Conflicted"


def test_a_policy_is_read_once_however_often_others_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace's own may hold a thousand conditions, a millisecond each, and all are asked about at each change."""
    read: list[str] = []
    problem = conditions.problem

    def noted(expression: str) -> str:
        read.append(expression)
        return problem(expression)

    monkeypatch.setattr(conditions, "problem", noted)
    mine = trust_policy(
        "own", images=(rule_by(keyed("scanner"), attestations=(wants(conditions=("true", "1 == 1")),)),)
    )
    for number in range(3):
        assert reasons(snapshot(mine, giving(f"p{number}")))["own"] == "Accepted"
    assert read == ["true", "1 == 1"]
