"""How policies compose: each judged alone, the stricter wins, and a token needs all that concerns it."""

from __future__ import annotations

from typing import Any

import pytest

from countersign.api.audience import AllowedNamespaces
from countersign.api.meta import LabelSelector
from countersign.api.policy import Binding, ModeOverride, ServiceAccountBinding
from countersign.api.responses import Responses
from countersign.trust.policies.policy import Policy
from tests.unit.trust.build import (
    ALL_NAMESPACES,
    AUDIENCE,
    NAMESPACE,
    REPOSITORY,
    TAGGED,
    audience,
    audiences_of,
    cluster_policy,
    codes,
    container,
    denied,
    facts,
    judged,
    pod,
    rule,
    snapshot,
    token,
    trust_policy,
    unsigned,
)

FAILING = (rule("strict", ("registry.example.com/**",), keys=(9,)),)
"""Rules that the signed image does not satisfy."""
CHECKED = facts(checked=(1, 2, 3, 9))


def giving(name: str = "giver", **members: Any) -> Policy:
    return cluster_policy(name, tokens=members.pop("tokens", (token(),)), **members)


def test_a_pod_that_nothing_governs_is_nobodys_business() -> None:
    verdict = judged(snapshot(cluster_policy(pods={"app": "web"})), found=unsigned())
    assert (verdict.governed, verdict.findings, verdict.tokens, verdict.qualifies) == ((), (), (), False)


def test_any_failure_under_enforce_denies() -> None:
    given = snapshot(giving(), cluster_policy("strict", images=FAILING))
    verdict = judged(given, found=CHECKED)
    assert denied(verdict) == ["ImageUnsigned"]
    assert verdict.tokens == ()


@pytest.mark.parametrize("mode", ["Audit", "Warn"])
def test_audit_and_warn_never_deny(mode: str) -> None:
    verdict = judged(snapshot(cluster_policy(mode=mode)), found=unsigned())
    assert codes(verdict) == ["ImageUnsigned"]
    assert denied(verdict) == []
    assert bool(verdict.warnings) is (mode == "Warn")
    assert bool(verdict.audit) is (mode == "Audit")


@pytest.mark.parametrize("mode", ["Audit", "Warn"])
def test_audit_and_warn_never_soften_another(mode: str) -> None:
    given = snapshot(cluster_policy("strict"), cluster_policy("soft", mode=mode), trust_policy(mode=mode))
    assert denied(judged(given, found=unsigned())) == ["ImageUnsigned"]


def test_the_mode_may_differ_by_namespace() -> None:
    policy = cluster_policy(mode="Enforce", mode_overrides=(ModeOverride(namespace=NAMESPACE, mode="Audit"),))
    assert denied(judged(snapshot(policy), found=unsigned())) == []
    assert denied(judged(snapshot(policy), found=unsigned(), namespace="other")) == ["ImageUnsigned"]


@pytest.mark.parametrize("mode", ["Audit", "Warn", "Enforce"])
def test_a_token_needs_its_own_policy_to_pass_whatever_the_mode(mode: str) -> None:
    assert audiences_of(judged(snapshot(giving(mode=mode)))) == [AUDIENCE]
    assert audiences_of(judged(snapshot(giving(mode=mode)), found=unsigned())) == []


def test_a_token_needs_every_enforce_policy_and_no_audit_policy_but_its_own() -> None:
    audited = snapshot(giving(), cluster_policy("other", mode="Audit", images=FAILING))
    assert audiences_of(judged(audited, found=CHECKED)) == [AUDIENCE]
    enforced = snapshot(giving(mode="Audit"), cluster_policy("other", mode="Enforce", images=FAILING))
    assert audiences_of(judged(enforced, found=CHECKED)) == []


def test_a_required_policy_must_govern_the_pod() -> None:
    audiences = [audience(required=("baseline",))]
    absent = judged(snapshot(giving(), audiences=audiences))
    assert (audiences_of(absent), codes(absent), denied(absent)) == ([], ["RequiredPolicyMissing"], [])
    elsewhere = cluster_policy("baseline", pods={"app": "web"})
    assert audiences_of(judged(snapshot(giving(), elsewhere, audiences=audiences))) == []
    present = cluster_policy("baseline")
    assert audiences_of(judged(snapshot(giving(), present, audiences=audiences))) == [AUDIENCE]


def test_a_required_policy_must_be_satisfied_whatever_its_mode() -> None:
    failing = cluster_policy("baseline", mode="Audit", images=FAILING)
    verdict = judged(snapshot(giving(), failing, audiences=[audience(required=("baseline",))]), found=CHECKED)
    assert (audiences_of(verdict), denied(verdict)) == ([], [])


def test_a_trust_policy_of_the_same_name_is_not_the_required_policy() -> None:
    given = snapshot(giving(), trust_policy("baseline"), audiences=[audience(required=("baseline",))])
    assert audiences_of(judged(given)) == []


def test_unmatched_images_allow_admits_without_identity() -> None:
    policy = giving(unmatched_images="Allow", tokens=(token(containers=("api",)),))
    verdict = judged(snapshot(policy), pod(container(), container("proxy", "docker.io/envoy:1")))
    assert denied(verdict) == []
    assert codes(verdict) == ["ImageNotCovered"]
    assert (verdict.tokens, verdict.qualifies) == ((), False)
    assert judged(snapshot(policy)).qualifies


def test_a_policy_that_hands_out_tokens_without_rules_gives_no_identity() -> None:
    policy = giving(images=(), unmatched_images="Allow", tokens=(token(containers=("api",)),))
    assert audiences_of(judged(snapshot(policy))) == []


def test_a_namespaces_rules_never_satisfy_a_cluster_policys_deny() -> None:
    cluster = cluster_policy(images=(rule(globs=("registry.example.com/web/**",)),))
    assert denied(judged(snapshot(cluster, trust_policy()))) == ["ImageNotCovered"]


def test_a_cluster_policys_rules_never_satisfy_a_namespaces_deny() -> None:
    own = trust_policy(images=(rule(globs=("registry.example.com/web/**",)),))
    assert denied(judged(snapshot(cluster_policy(), own))) == ["ImageNotCovered"]


def test_where_settings_differ_the_stricter_wins() -> None:
    def settings(name: str, **members: Any) -> Policy:
        return cluster_policy(name, **members)

    verdict = judged(
        snapshot(
            settings("a", api_token="Shorten", drain_seconds=90, max_lifetime_seconds=7200),
            settings("b", on_termination="Immediate", responses=Responses(ephemeral_container="Suspend")),
            settings("c", api_token="Remove", drain_seconds=30, mode="Audit"),
            settings("d", max_lifetime_seconds=3600, responses=Responses(ephemeral_container="Report")),
        )
    )
    assert verdict.settings.api_token == "Remove"
    assert verdict.settings.on_termination == "Immediate"
    assert verdict.settings.drain_seconds == 30
    assert verdict.settings.max_lifetime_seconds == 3600
    assert verdict.settings.ephemeral_container == "Revoke"


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        (("Report", "Suspend"), "Suspend"),
        (("Suspend", "Revoke"), "Revoke"),
        (("Revoke", "Deny"), "Deny"),
        (("Report", "Report"), "Report"),
    ],
)
def test_deny_beats_revoke_beats_suspend_beats_report(responses: tuple[str, str], expected: str) -> None:
    policies = [
        cluster_policy(f"p{index}", responses=Responses(ephemeral_container=response))  # type: ignore[arg-type]
        for index, response in enumerate(responses)
    ]
    assert judged(snapshot(*policies)).settings.ephemeral_container == expected


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        ((Responses(), Responses()), 300),
        ((Responses(node_lost="Keep"), Responses(node_lost="Keep")), None),
        ((Responses(node_lost="Keep", node_lost_after_seconds=30), Responses(node_lost_after_seconds=900)), 900),
        ((Responses(node_lost_after_seconds=60), Responses(node_lost_after_seconds=900)), 60),
    ],
)
def test_a_policy_that_suspends_for_a_lost_node_beats_one_that_keeps_and_the_shorter_time_beats_the_longer(
    responses: tuple[Responses, Responses], expected: int | None
) -> None:
    policies = [cluster_policy(f"p{index}", responses=response) for index, response in enumerate(responses)]
    assert judged(snapshot(*policies)).settings.node_lost_seconds == expected
    assert judged(snapshot(*reversed(policies))).settings.node_lost_seconds == expected


def test_an_ephemeral_container_is_denied_where_the_policy_says_so() -> None:
    given = pod(container(), ephemeralContainers=[container("debug")])
    policy = cluster_policy(responses=Responses(ephemeral_container="Deny"))
    assert denied(judged(snapshot(policy), given)) == ["EphemeralContainerDenied"]
    assert denied(judged(snapshot(cluster_policy()), given)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (token("ledger", "a.example.com"), token("ledger", "b.example.com")),
        (token("a", AUDIENCE), token("b", AUDIENCE)),
        (token("a", "a.example.com", env_var="FILE"), token("b", "b.example.com", env_var="FILE")),
    ],
)
def test_where_tokens_clash_cluster_beats_namespace_then_the_older(one: Any, other: Any) -> None:
    audiences = [audience(text, name=text, allowed=ALL_NAMESPACES) for text in {one.audience, other.audience}]
    own = trust_policy(tokens=(other,), created="2020-01-01T00:00:00Z")
    verdict = judged(snapshot(own, giving(tokens=(one,)), audiences=audiences))
    assert [(granted.name, granted.policy.name) for granted in verdict.tokens] == [(one.name, "giver")]
    assert (codes(verdict), denied(verdict)) == (["TokenClash"], [])

    younger = giving("younger", tokens=(other,), created="2026-02-01T00:00:00Z")
    older = giving("older", tokens=(one,), created="2026-01-01T00:00:00Z")
    verdict = judged(snapshot(younger, older, audiences=audiences))
    assert [granted.policy.name for granted in verdict.tokens] == ["older"]


def test_a_clash_costs_the_loser_its_token_never_its_protection() -> None:
    younger = giving("younger", images=FAILING, created="2026-02-01T00:00:00Z")
    assert denied(judged(snapshot(giving(), younger), found=CHECKED)) == ["ImageUnsigned"]


def test_policies_that_do_not_meet_in_a_pod_do_not_clash() -> None:
    other = giving("other", pods={"app": "web"}, created="2020-01-01T00:00:00Z")
    assert audiences_of(judged(snapshot(giving(), other))) == [AUDIENCE]


def test_an_audience_that_nobody_declares_is_not_handed_out() -> None:
    verdict = judged(snapshot(giving(), audiences=()))
    assert (audiences_of(verdict), codes(verdict), denied(verdict)) == ([], ["AudienceUnavailable"], [])


def test_of_two_declarations_of_an_audience_the_older_counts() -> None:
    strict = audience(name="old", created="2025-01-01T00:00:00Z", longest=600)
    loose = audience(name="new", created="2026-01-01T00:00:00Z", longest=86400)
    policy = giving(tokens=(token(expiration_seconds=3600),))
    assert audiences_of(judged(snapshot(policy, audiences=(loose, strict)))) == []


def test_reserved_audiences_are_not_handed_out() -> None:
    text = "verifier.countersign.dev"
    policy = giving(tokens=(token(audience=text),))
    assert audiences_of(judged(snapshot(policy, audiences=[audience(text)]))) == []


def test_a_token_lives_no_longer_than_its_audience_allows() -> None:
    given = (audience(longest=900),)
    assert audiences_of(judged(snapshot(giving(tokens=(token(expiration_seconds=900),)), audiences=given))) == [
        AUDIENCE
    ]
    assert audiences_of(judged(snapshot(giving(tokens=(token(expiration_seconds=901),)), audiences=given))) == []


@pytest.mark.parametrize(
    ("allowed", "given"),
    [
        (AllowedNamespaces(), False),
        (AllowedNamespaces(from_="All"), True),
        (AllowedNamespaces(from_="Names", names=(NAMESPACE,)), True),
        (AllowedNamespaces(from_="Names", names=("other",)), False),
        (AllowedNamespaces(from_="Selector", selector=LabelSelector(match_labels={"team": "payments"})), True),
        (AllowedNamespaces(from_="Selector", selector=LabelSelector(match_labels={"team": "web"})), False),
        (AllowedNamespaces(from_="Selector"), False),
    ],
)
def test_the_audiences_owner_says_which_namespaces_own_policies_may_hand_it_out(
    allowed: AllowedNamespaces, given: bool
) -> None:
    own = trust_policy(tokens=(token(),))
    verdict = judged(snapshot(own, audiences=[audience(allowed=allowed)]))
    assert audiences_of(verdict) == ([AUDIENCE] if given else [])
    assert audiences_of(judged(snapshot(giving(), audiences=[audience(allowed=allowed)]))) == [AUDIENCE]


def test_an_audience_of_its_own_spelling_is_another_audience() -> None:
    injection = 'x"] || true || a in ["y'
    verdict = judged(snapshot(giving(tokens=(token(audience=injection),))))
    assert audiences_of(verdict) == []


def test_tokens_go_to_the_named_containers_that_the_pod_has() -> None:
    policy = giving(tokens=(token(containers=("api", "init", "nowhere")),))
    given = pod(container(), container("web"), initContainers=[container("init")])
    assert judged(snapshot(policy), given).tokens[0].containers == ("api", "init")


def test_unnamed_they_go_to_every_ordinary_container_whose_image_a_rule_matches() -> None:
    policy = giving(images=(rule(), rule("mesh", ("docker.io/mesh/**",))))
    given = pod(container(), container("web", f"{REPOSITORY}:2"), initContainers=[container("init")])
    assert judged(snapshot(policy), given).tokens[0].containers == ("api", "web")


def test_a_token_that_no_container_receives_is_not_handed_out() -> None:
    verdict = judged(snapshot(giving(tokens=(token(containers=("nowhere",)),))))
    assert (verdict.tokens, denied(verdict), codes(verdict)) == ((), [], ["TokenNotInjected"])


def test_the_owner_is_that_of_the_policy_which_gives_the_token() -> None:
    given = snapshot(cluster_policy("baseline", created="2020-01-01T00:00:00Z"), giving())
    assert judged(given).owner == "giver@example.com"
    assert judged(snapshot(cluster_policy("baseline"))).owner == "baseline@example.com"


def test_qualifies_without_tokens_needs_a_pod_without_findings() -> None:
    assert judged(snapshot(cluster_policy())).qualifies
    assert not judged(snapshot(cluster_policy(mode="Audit")), found=unsigned()).qualifies


def test_a_foreign_service_account_escapes_no_binding() -> None:
    binding = Binding(service_accounts=(ServiceAccountBinding(namespace=NAMESPACE, name="api"),))
    escaped = pod(serviceAccountName="api", metadata={"labels": {}})
    policy = cluster_policy(pods={"app": "api"}, binding=binding)
    assert denied(judged(snapshot(policy), escaped, unsigned())) == ["ImageUnsigned"]


def test_a_snapshot_is_worked_out_once_and_a_policy_too() -> None:
    from countersign.trust.policies.compiled import compiled, compiled_policy

    policy = cluster_policy()
    first, second = snapshot(policy), snapshot(policy)
    assert compiled(first) is compiled(first)
    assert compiled(first) is not compiled(second)
    assert compiled(first).cluster[0] is compiled(second).cluster[0] is compiled_policy(policy)
    assert first == second
    assert judged(first, evidence={TAGGED: facts()}) == judged(second, evidence={TAGGED: facts()})
