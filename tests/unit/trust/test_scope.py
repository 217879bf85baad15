"""Which policies govern a pod."""

from __future__ import annotations

import pytest

from countersign.api.names import MIRROR_ANNOTATION
from countersign.api.policy import Binding, ServiceAccountBinding
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import Policy, PolicySnapshot
from countersign.trust.policies.scope import governing
from tests.unit.trust.build import NAMESPACE, cluster_policy, pod, snapshot, subject, trust_policy


def names(given: PolicySnapshot, of: Subject) -> list[str]:
    return [policy.ref.name for policy in governing(given, of)]


def bound(*accounts: tuple[str, str]) -> Binding:
    return Binding(service_accounts=tuple(ServiceAccountBinding(namespace=ns, name=name) for ns, name in accounts))


def test_both_selectors_must_match() -> None:
    given = snapshot(
        cluster_policy("both", pods={"app": "api"}, namespaces={"team": "payments"}),
        cluster_policy("other-pods", pods={"app": "web"}, namespaces={"team": "payments"}),
        cluster_policy("other-namespaces", pods={"app": "api"}, namespaces={"team": "web"}),
    )
    assert names(given, subject()) == ["both"]


def test_empty_selectors_govern_every_pod() -> None:
    assert names(snapshot(cluster_policy()), subject(namespace="anything")) == ["payments"]


def test_a_trust_policy_governs_its_own_namespace_only() -> None:
    given = snapshot(trust_policy("own"), trust_policy("foreign", namespace="other"))
    assert names(given, subject()) == ["own"]


def test_a_trust_policy_without_a_namespace_governs_nothing() -> None:
    assert names(snapshot(trust_policy("nowhere", namespace="")), subject(namespace="")) == []


def test_a_bound_service_account_is_governed_even_where_the_selectors_miss() -> None:
    policy = cluster_policy(pods={"app": "web"}, namespaces={"team": "web"}, binding=bound((NAMESPACE, "api")))
    assert names(snapshot(policy), subject(pod(serviceAccountName="api"))) == ["payments"]
    assert names(snapshot(policy), subject(pod(serviceAccountName="web"))) == []


def test_a_pod_that_names_no_account_runs_under_default() -> None:
    policy = cluster_policy(pods={"app": "web"}, binding=bound((NAMESPACE, "default")))
    assert names(snapshot(policy), subject()) == ["payments"]


@pytest.mark.parametrize("namespace", ["", NAMESPACE])
def test_a_trust_policy_binds_accounts_of_its_own_namespace(namespace: str) -> None:
    policy = trust_policy(pods={"app": "web"}, binding=bound((namespace, "api")))
    assert names(snapshot(policy), subject(pod(serviceAccountName="api"))) == ["own"]


def test_a_trust_policy_cannot_reach_for_accounts_of_another_namespace() -> None:
    policy = trust_policy(namespace="other", binding=bound((NAMESPACE, "api")))
    assert names(snapshot(policy), subject(pod(serviceAccountName="api"))) == []


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "kube-node-lease", "countersign-system"])
def test_the_clusters_own_namespaces_and_ours_are_exempt(namespace: str) -> None:
    given = snapshot(cluster_policy(), trust_policy(namespace=namespace))
    assert names(given, subject(namespace=namespace)) == []


def test_mirror_pods_are_exempt() -> None:
    assert names(snapshot(cluster_policy()), subject(pod(metadata={"annotations": {MIRROR_ANNOTATION: "x"}}))) == []


def test_the_clusters_come_first_then_the_older_and_the_uncreated_last() -> None:
    def made(name: str, created: str) -> Policy:
        return cluster_policy(name, created=created)

    given = snapshot(
        trust_policy("own", created="2025-01-01T00:00:00Z"),
        made("draft", ""),
        made("new", "2026-05-01T00:00:00Z"),
        made("old", "2026-01-01T00:00:00Z"),
        made("a-twin", "2026-05-01T00:00:00Z"),
    )
    assert names(given, subject()) == ["old", "a-twin", "new", "draft", "own"]
