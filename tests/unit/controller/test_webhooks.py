from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from countersign.api.audience import ProtectedAudience
from countersign.api.meta import LabelSelector
from countersign.api.policy import Binding, ModeOverride, ServiceAccountBinding, TokenSpec
from countersign.api.responses import Responses
from countersign.controller.webhooks.coverage import MAX_ENTRIES, NAME_LABEL, coverage, entered
from countersign.controller.webhooks.webhooks import AUDIENCES_PER_ENTRY, GateEndpoint, enforces, webhook_configurations
from countersign.trust.policies.policy import Policy, PolicySnapshot
from tests.unit.trust.build import audience, cluster_policy, snapshot, trust_policy

GATE = GateEndpoint("countersign-system", "countersign-gate")
CA = b"-----BEGIN CERTIFICATE-----\n"
EXEMPT = ("kube-system", "kube-public", "kube-node-lease", "countersign-system")


def written(
    given: PolicySnapshot,
    *,
    fail_closed: bool = True,
    paused: bool = False,
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Every entry of both configurations by name."""
    configurations = webhook_configurations(given, namespaces or {}, GATE, CA, fail_closed=fail_closed, paused=paused)
    return {
        entry["name"].removesuffix(".countersign.dev"): entry for one in configurations for entry in one["webhooks"]
    }


def covers(given: PolicySnapshot, name: str, labels: Mapping[str, str] | None = None) -> list[bool]:
    """For each entry that covers the namespace: whether it fails closed."""
    known = {**(labels or {}), NAME_LABEL: name}
    return [one.closed for one in coverage(given, {}) if one.selector.matches(known)]


def guards(given: PolicySnapshot, name: str, labels: Mapping[str, str] | None = None) -> list[bool]:
    """For each entry about exec that covers the namespace: whether it fails closed."""
    known = {**(labels or {}), NAME_LABEL: name}
    return [one.closed for one in entered(given, {}) if one.selector.matches(known)]


def protected(text: str, *, mode: str = "Enforce", outage: str = "Allow") -> ProtectedAudience:
    made = audience(text, name=text, mode=mode)
    spec = msgspec.structs.replace(made.spec, on_gate_outage=outage)
    return msgspec.structs.replace(made, spec=spec)


def only(*policies: Policy) -> PolicySnapshot:
    return snapshot(*policies, audiences=())


def test_without_policies_and_audiences_nothing_is_asked() -> None:
    assert written(only()) == {}


def test_the_selector_of_a_policy_is_passed_through() -> None:
    entry = written(only(cluster_policy(namespaces={"team": "payments"})))["pods-0.mutate"]
    assert entry["namespaceSelector"]["matchLabels"] == {"team": "payments"}


@pytest.mark.parametrize("namespace", EXEMPT)
def test_the_clusters_own_namespaces_and_ours_are_never_asked_about(namespace: str) -> None:
    bound = Binding(service_accounts=(ServiceAccountBinding(namespace=namespace, name="x"),))
    assert covers(only(cluster_policy(binding=bound), trust_policy(namespace=namespace)), namespace) == []


@pytest.mark.parametrize(("mode", "policy"), [("Enforce", "Fail"), ("Warn", "Ignore"), ("Audit", "Ignore")])
def test_only_where_a_policy_enforces_does_an_entry_fail_closed(mode: str, policy: str) -> None:
    entries = written(only(cluster_policy(mode=mode)))
    assert entries["pods-0.mutate"]["failurePolicy"] == entries["pods-0.validate"]["failurePolicy"] == policy
    assert entries["templates-0.validate"]["failurePolicy"] == "Ignore"


def test_nothing_fails_closed_before_the_gate_has_answered() -> None:
    given = snapshot(cluster_policy(), audiences=[protected("a", outage="Refuse")])
    assert {entry["failurePolicy"] for entry in written(given, fail_closed=False).values()} == {"Ignore"}
    assert enforces(given)
    assert not enforces(snapshot(cluster_policy(mode="Audit"), audiences=[protected("a")]))


def test_equal_selectors_share_an_entry_which_is_as_strict_as_the_strictest() -> None:
    given = only(
        cluster_policy("a", mode="Audit", namespaces={"team": "x"}), cluster_policy("b", namespaces={"team": "x"})
    )
    assert covers(given, "some", {"team": "x"}) == [True]


def test_mode_overrides_split_an_entry() -> None:
    strict = only(cluster_policy(mode_overrides=(ModeOverride(namespace="trial", mode="Audit"),)))
    assert (covers(strict, "trial"), covers(strict, "other")) == ([False], [True])
    lenient = only(cluster_policy(mode="Audit", mode_overrides=(ModeOverride(namespace="pilot", mode="Enforce"),)))
    assert (covers(lenient, "pilot"), covers(lenient, "other")) == ([True], [False])


def test_a_trust_policy_covers_its_own_namespace_only() -> None:
    given = only(trust_policy(namespace="team-a"))
    assert (covers(given, "team-a"), covers(given, "team-b")) == ([True], [])


def test_a_bound_account_is_covered_where_the_selector_misses_its_namespace() -> None:
    bound = Binding(service_accounts=(ServiceAccountBinding(namespace="ledger", name="api"),))
    given = only(cluster_policy(namespaces={"team": "payments"}, binding=bound))
    assert covers(given, "ledger") == [True]


def test_a_namespace_that_a_selector_covers_already_is_asked_about_once() -> None:
    bound = Binding(service_accounts=(ServiceAccountBinding(namespace="ledger", name="api"),))
    given = only(cluster_policy(namespaces={"team": "payments"}, binding=bound))
    assert len(coverage(given, {"ledger": {"team": "payments"}})) == 1
    assert len(coverage(given, {"ledger": {"team": "other"}})) == 2


def test_a_lenient_selector_does_not_stand_in_for_a_strict_name() -> None:
    given = only(cluster_policy(mode="Audit"), trust_policy(namespace="team-a"))
    assert len(coverage(given, {"team-a": {}})) == 2


def test_too_many_selectors_become_one_entry_for_all_namespaces() -> None:
    given = only(*(cluster_policy(f"p{n}", namespaces={"team": f"t{n}"}) for n in range(MAX_ENTRIES + 1)))
    (entry,) = coverage(given, {})
    assert entry.closed
    assert entry.selector.match_labels == LabelSelector().match_labels
    assert not entry.selector.matches({NAME_LABEL: "kube-system"})


# Token requests


def test_audiences_stand_in_two_entries_by_what_an_outage_means() -> None:
    entries = written(snapshot(audiences=[protected("a"), protected("r", outage="Refuse")]))
    assert entries["tokens-allow-0.validate"]["failurePolicy"] == "Ignore"
    assert entries["tokens-refuse-0.validate"]["failurePolicy"] == "Fail"
    assert '["a"]' in entries["tokens-allow-0.validate"]["matchConditions"][0]["expression"]
    assert '["r"]' in entries["tokens-refuse-0.validate"]["matchConditions"][0]["expression"]
    assert entries["tokens-allow-0.validate"]["rules"][0]["resources"] == ["serviceaccounts/token"]


def test_an_audited_audience_never_fails_closed() -> None:
    assert set(written(snapshot(audiences=[protected("a", mode="Audit", outage="Refuse")]))) == {
        "tokens-allow-0.validate"
    }


def test_of_two_declarations_of_an_audience_the_stricter_counts() -> None:
    given = snapshot(audiences=[protected("a"), protected("a", outage="Refuse")])
    assert set(written(given)) == {"tokens-refuse-0.validate"}


def test_many_audiences_stand_in_several_entries() -> None:
    given = snapshot(audiences=[protected(f"a{n:04}") for n in range(AUDIENCES_PER_ENTRY + 1)])
    entries = written(given)
    assert set(entries) == {"tokens-allow-0.validate", "tokens-allow-1.validate"}
    expressions = [entry["matchConditions"][0]["expression"] for entry in entries.values()]
    assert sum(expression.count('"a') for expression in expressions) == AUDIENCES_PER_ENTRY + 1


# Exec, attach and port-forward

GIVES = (TokenSpec(name="ledger", audience="ledger.example.com"),)


@pytest.mark.parametrize("mode", ["Audit", "Warn", "Enforce"])
def test_where_tokens_are_handed_out_nobody_goes_in_past_an_absent_gate_in_any_mode(mode: str) -> None:
    given = only(cluster_policy(mode=mode, tokens=GIVES, namespaces={"team": "x"}))
    assert (guards(given, "a", {"team": "x"}), guards(given, "a", {"team": "y"})) == ([True], [])
    assert guards(only(trust_policy(mode=mode, namespace="team-a", tokens=GIVES)), "team-a") == [True]
    assert enforces(given)


def test_mode_overrides_do_not_split_what_is_closed_everywhere() -> None:
    override = (ModeOverride(namespace="trial", mode="Audit"),)
    assert [one.closed for one in entered(only(cluster_policy(tokens=GIVES, mode_overrides=override)), {})] == [True]


def test_without_a_token_to_lose_nobody_is_asked() -> None:
    assert entered(only(cluster_policy(), trust_policy()), {}) == ()


def test_where_every_policy_allows_it_nobody_is_asked() -> None:
    allow = Responses(exec="Allow")
    assert entered(only(cluster_policy(tokens=GIVES, responses=allow)), {}) == ()
    assert entered(only(trust_policy(tokens=GIVES, responses=allow), trust_policy("b", namespace="other")), {}) == ()


def test_a_stricter_policy_without_tokens_counts_where_the_tokens_are() -> None:
    lax = trust_policy(namespace="team-a", tokens=GIVES, responses=Responses(exec="Allow"))
    given = only(lax, cluster_policy("base"))
    assert (guards(given, "team-a"), guards(given, "team-b")) == ([True], [])


def test_what_allows_it_is_closed_only_where_a_stricter_policy_may_govern_as_well() -> None:
    allow = Responses(exec="Allow")
    lax = cluster_policy(tokens=GIVES, responses=allow, namespaces={"team": "x"})
    assert entered(only(lax, cluster_policy("other", namespaces={"team": "y"})), {}) == ()
    zoned = only(lax, cluster_policy("zone", namespaces={"zone": "a"}))
    assert guards(zoned, "n", {"team": "x", "zone": "a"}) == [True]
    assert guards(zoned, "n", {"team": "x", "zone": "b"}) == guards(zoned, "n", {"zone": "a"}) == []
    owned = only(lax, trust_policy(namespace="team-a"))
    assert (guards(owned, "team-a", {"team": "x"}), guards(owned, "team-b", {"team": "x"})) == ([True], [])
    bound = Binding(service_accounts=(ServiceAccountBinding(namespace="team-b", name="api"),))
    binding = only(lax, cluster_policy("base", namespaces={"team": "y"}, binding=bound))
    assert guards(binding, "team-b", {"team": "x"}) == [True]


@pytest.mark.parametrize(("mode", "closed"), [("Enforce", True), ("Warn", False), ("Audit", False)])
def test_deny_without_tokens_is_as_strict_as_its_mode(mode: str, closed: bool) -> None:
    given = only(cluster_policy(mode=mode, responses=Responses(exec="Deny")))
    assert guards(given, "any") == [closed]


@pytest.mark.parametrize("namespace", EXEMPT)
def test_the_clusters_own_namespaces_and_ours_can_always_be_gone_into(namespace: str) -> None:
    assert guards(only(cluster_policy(tokens=GIVES), trust_policy(namespace=namespace, tokens=GIVES)), namespace) == []


def test_the_entry_about_exec_leaves_a_mark_and_says_so() -> None:
    given = only(cluster_policy(tokens=GIVES))
    entry = written(given)["connect-0.validate"]
    assert entry["failurePolicy"] == "Fail"
    assert entry["sideEffects"] == "NoneOnDryRun"
    (rule,) = entry["rules"]
    assert rule["operations"] == ["CONNECT"]
    assert rule["resources"] == ["pods/exec", "pods/attach", "pods/portforward"]
    assert written(given, fail_closed=False)["connect-0.validate"]["failurePolicy"] == "Ignore"


def test_a_pause_saves_no_identity_of_a_pod_that_is_gone_into() -> None:
    assert written(only(cluster_policy(tokens=GIVES)), paused=True)["connect-0.validate"]["failurePolicy"] == "Fail"


# The shape


def test_the_gate_is_reached_by_service_or_by_url() -> None:
    assert GATE.client_config("/mutate", CA) == {
        "service": {"namespace": "countersign-system", "name": "countersign-gate", "path": "/mutate", "port": 443},
        "caBundle": base64.b64encode(CA).decode(),
    }
    by_url = GateEndpoint("x", "y", url="https://127.0.0.1:8443/").client_config("/validate", CA)
    assert by_url["url"] == "https://127.0.0.1:8443/validate"


def test_every_entry_is_complete_so_that_the_stored_one_compares_equal() -> None:
    given = snapshot(cluster_policy(), audiences=[protected("a")])
    for name, entry in written(given).items():
        assert entry["sideEffects"] == "None", name
        assert entry["matchPolicy"] == "Equivalent"
        assert entry["admissionReviewVersions"] == ["v1"]
        assert entry["objectSelector"] == {}
        assert 0 < entry["timeoutSeconds"] <= 10
        assert ("reinvocationPolicy" in entry) is name.endswith("mutate")
        assert len(entry["name"].split(".")) >= 3, "webhook names are domains"


def test_writes_that_change_nothing_of_ours_are_kept_away() -> None:
    conditions = {
        c["name"]: c["expression"] for c in written(only(cluster_policy()))["pods-0.validate"]["matchConditions"]
    }
    assert set(conditions) == {"not-being-deleted", "not-a-mirror-pod", "changes-what-counts"}
    assert "deletionTimestamp" in conditions["not-being-deleted"]


def test_a_pause_opens_the_entries_about_pods_and_no_other() -> None:
    given = snapshot(cluster_policy(), audiences=(protected("a.example.com", outage="Refuse"),))
    entries = written(given, paused=True)
    assert {name: entry["failurePolicy"] for name, entry in entries.items() if not name.startswith("templates-")} == {
        "pods-0.mutate": "Ignore",
        "pods-0.validate": "Ignore",
        "tokens-refuse-0.validate": "Fail",
    }
