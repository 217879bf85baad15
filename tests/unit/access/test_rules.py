"""Step 17: an audience's rules over the decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from countersign.access.decision import Decision
from countersign.access.rules import MAX_TOLD_LENGTH, Facts, weigh
from countersign.access.use import UNTOLD, Use, one_reading, use_of
from countersign.api.audience import AllowRule, ProtectedAudience
from countersign.api.clock import format_time
from countersign.api.grant import GrantController, GrantEvidence, GrantImage, GrantPolicy
from countersign.trust.allow.rules import compiled
from countersign.trust.allow.variables import MAX_EVIDENCE
from tests.unit.access import cases
from tests.unit.access.cases import NOW, Case, active

USE = use_of(source_address="10.1.2.3", method="get", path="/v1/accounts?x=1", scope="read write")


def ruled(*expressions: str, **messages: str) -> ProtectedAudience:
    made = cases.audience()
    rules = tuple(
        AllowRule(name=f"r{number}", expression=one, message=messages.get(f"r{number}", ""))
        for number, one in enumerate(expressions)
    )
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, allow=rules))


def facts(case: Case, use: Use = USE) -> Facts:
    assert case.pod is not None
    assert case.grant is not None
    assert case.asker is not None
    return Facts(claims=case.claims, pod=case.pod, grant=case.grant, asker=case.asker, use=use, now=case.now)


def weighed(
    *expressions: str,
    case: Case | None = None,
    use: Use = USE,
    explain: bool = False,
    messages: Mapping[str, str] = MappingProxyType({}),
) -> Decision:
    case, audience = case or active(), ruled(*expressions, **messages)
    decision = case._replace(audience=audience).decide()
    return weigh(decision, audience, compiled(audience.spec.allow), facts(case, use).read, explain=explain)


def with_spec(**changes: Any) -> Case:
    case = active()
    assert case.grant is not None
    spec = msgspec.structs.replace(case.grant.spec, **changes)
    return case._replace(grant=msgspec.structs.replace(case.grant, spec=spec))


def test_without_rules_the_grant_decides() -> None:
    decision = active().decide()
    assert weighed().reason == "Active"
    assert weigh(decision, cases.audience(), compiled(()), facts(active()).read, explain=False) is decision


def test_one_true_rule_admits_and_is_named() -> None:
    decision = weighed("request.method == 'POST'", "request.method == 'GET'")
    assert (decision.active, decision.reason) == (True, "Active")
    assert decision.message == "every condition holds, by allow rule r1"
    assert decision.members is not None


def test_no_true_rule_is_a_refusal_without_members() -> None:
    decision = weighed("request.method == 'POST'", "grant.profile == 'Agent'")
    assert (decision.active, decision.reason, decision.members) == (False, "NotAllowed", None)


def test_a_refusal_that_is_explained_says_what_each_rule_came_upon_and_is_for() -> None:
    decision = weighed(
        "request.method == 'POST'", "grant.profile == 'Agent'", explain=True, messages={"r0": "only writers"}
    )
    assert decision.message == (
        'no allow rule of ProtectedAudience ledger admits this use: r0 (only writers): request.method = "GET"; '
        "r1: grant.profile is not known"
    )


def test_an_explanation_has_a_bound() -> None:
    messages = {f"r{number}": "m" * 256 for number in range(16)}
    decision = weighed(*["request.path == ''"] * 16, explain=True, messages=messages)
    assert len(decision.message) < MAX_TOLD_LENGTH + 100
    assert decision.message.endswith("; and 14 more")


def test_one_rule_that_cannot_be_read_shuts_the_audience_and_says_so() -> None:
    decision = weighed("true", "pod.labels['a'] == 'b'")
    assert (decision.active, decision.reason, decision.members) == (False, "AudienceNotAccepted", None)
    assert "allow rule r1: pod.labels: the pod's author writes them" in decision.message


@pytest.mark.parametrize(
    "expression",
    [
        "token.audience == 'ledger.example.com' && token.subject == 'system:serviceaccount:payments:api'",
        "token.ageSeconds == 60 && token.lifetimeSeconds == 600 && token.expiresAt > token.issuedAt && token.jti != ''",
        "pod.namespace == 'payments' && pod.name == 'api-7d9c' && pod.uid == 'pod-uid' && pod.node == 'n1'",
        "pod.serviceAccount == 'api' && pod.phase == 'Running' && pod.ageSeconds == 300",
        "grant.owner == 'payments@example.com' && !has(grant.requester) && !has(grant.profile)",
        "!has(grant.controller.kind) && !has(grant.ageSeconds) && size(grant.exceptions) == 0",
        "grant.policies.exists_one(p, p.kind == 'ClusterTrustPolicy' && p.name == 'payments' && p.namespace == '')",
        "grant.evidence.all(e, e.policyKind == 'ClusterTrustPolicy' && e.policyName == 'payments' && e.rule == 'app')",
        "grant.evidence[0].keyFingerprint.startsWith('sha256:cd') && grant.evidence[0].container == 'api'",
        "request.relyingParty.namespace == 'ledger' && request.relyingParty.name == 'api'",
        "request.time == timestamp('2026-03-01T12:00:00Z') && request.sourceAddress == '10.1.2.3'",
        "request.method == 'GET' && request.path == '/v1/accounts' && request.scopes == ['read', 'write']",
    ],
)
def test_the_variables_are_those_of_the_use(expression: str) -> None:
    assert weighed(expression, explain=True).reason == "Active"


def test_the_grant_tells_controller_requester_profile_and_exceptions() -> None:
    case = with_spec(
        controller=GrantController(api_group="batch", kind="CronJob", name="nightly", uid="u"),
        requester="system:serviceaccount:kube-system:job-controller",
        policies=(
            GrantPolicy(kind="ClusterTrustPolicy", name="base", uid="base", generation=1, profile="Service"),
            GrantPolicy(
                kind="TrustPolicy", namespace="payments", name="own", uid="policy-uid", generation=1, profile="Agent"
            ),
        ),
    )
    grant, _ = cases.resting()
    assert case.grant is not None
    meta = msgspec.structs.replace(case.grant.metadata, creation_timestamp=format_time(NOW - timedelta(seconds=90)))
    case = case._replace(grant=msgspec.structs.replace(case.grant, status=grant.status, metadata=meta))
    read = facts(case).read
    assert [read(f"grant.controller.{one}") for one in ("apiGroup", "kind", "name")] == ["batch", "CronJob", "nightly"]
    assert read("grant.requester") == "system:serviceaccount:kube-system:job-controller"
    assert read("grant.profile") == "Agent"  # of the policy that gives the token
    assert read("grant.ageSeconds") == 90
    assert [one["name"] for one in read("grant.exceptions")] == ["legacy"]


def test_what_is_not_told_is_not_known_and_does_not_admit() -> None:
    for expression in (
        "request.sourceAddress != '10.0.0.1'",
        "!request.path.startsWith('/admin')",
        "request.method != 'POST'",
        "request.scopes.all(s, s != 'admin')",
        "!('admin' in request.scopes)",
    ):
        assert weighed(expression).active
        assert weighed(expression, use=UNTOLD).reason == "NotAllowed"


def test_what_is_too_long_is_not_known() -> None:
    assert use_of(path="/" + "a" * 2048).path == ""
    assert use_of(method="G" * 33).method == ""
    assert use_of(scope=" ".join(f"s{number}" for number in range(65))).scopes == ()
    assert use_of(scope="x" * 2049).scopes == ()
    harmless = use_of(scope=" ".join(["read"] * 64 + ["admin"]))
    assert weighed("request.scopes.all(s, s == 'read')", use=harmless).reason == "NotAllowed"


@pytest.mark.parametrize(
    "path",
    ["", "v1", "*", "https://ledger/v1", "//v1", "/v1//x", "/v1/../admin", "/v1/..", "/./v1", "/v1/.", "/v1\\admin",
     "/v1/%2e%2e/admin", "/v1/%2E./admin", "/v1%2fadmin", "/v1%2Fadmin", "/v1%5cadmin", "/v1;x/admin", "/v1/..;/admin",
     "/v1%3bx", "/v1%00", "/v1%0a", "/v1%7f", "/v1%", "/v1%zz", "/v1%2", "/v1%252e", "/v1#x", "/v1 x", "/v1\nx",
     "/v1%3Fx", "/v1%23"],
)  # fmt: skip
def test_a_path_that_can_be_read_in_two_ways_is_not_known(path: str) -> None:
    assert one_reading(path) == ""
    assert weighed("request.path != '/nothing'", use=Use(path=path)).reason == "NotAllowed"


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/", "/"), ("/v1", "/v1"), ("/v1/", "/v1/"), ("/.well-known/x.json", "/.well-known/x.json"),
        ("/a..b/...", "/a..b/..."),
        ("/%61dmin", "/admin"), ("/%7euser", "/~user"), ("/a%20b", "/a%20b"), ("/%c3%a9", "/%C3%A9"), ("/é", "/%C3%A9"),
        ("/v1/users:lookup@x,y=(1)!$&'*+", "/v1/users:lookup@x,y=(1)!$&'*+"),
    ],
)  # fmt: skip
def test_a_path_has_one_form(path: str, read: str) -> None:
    assert one_reading(path) == read
    assert one_reading(read) == read


def test_more_evidence_than_is_looked_through_is_not_known() -> None:
    one = GrantEvidence(policy_uid="policy-uid", rule="app", authority="release")
    images = tuple(
        GrantImage(container=f"c{number}", image="r", digest=cases.DIGEST, evidence=(one,) * 43) for number in range(3)
    )
    assert sum(len(image.evidence) for image in images) == MAX_EVIDENCE + 1
    case = with_spec(images=images)
    assert weighed("grant.evidence.all(e, e.authority == 'release')", case=case).reason == "NotAllowed"
    assert weighed("grant.owner != ''", case=case).active
    fewer = with_spec(images=images[:2])
    assert weighed("grant.evidence.all(e, e.authority == 'release')", case=fewer).active


def test_evidence_by_a_policy_that_the_grant_does_not_name_tells_no_policy() -> None:
    case = with_spec(policies=())
    read = facts(case).read
    assert read("grant.evidence")[0]["policyName"] is None


def test_a_value_is_read_once_and_only_when_a_rule_comes_to_it() -> None:
    known = facts(active())
    audience = ruled("request.method == 'GET' || grant.evidence.size() > 0")
    weigh(active().decide(), audience, compiled(audience.spec.allow), known.read, explain=False)
    assert list(known._known) == ["request.method"]
