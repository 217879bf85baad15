"""Accounts, controllers and requesters that a policy binds."""

from __future__ import annotations

from typing import Any

import pytest

from countersign.api.admission import UserInfo
from countersign.api.policy import Binding, ControllerBinding, Requester, ServiceAccountBinding
from countersign.trust.pods.subject import ControllerLink
from countersign.trust.verdicts.verdict import Verdict
from tests.unit.trust.build import NAMESPACE, cluster_policy, denied, judged, pod, snapshot, trust_policy

DEPLOYMENT = ControllerLink(api_group="apps", kind="Deployment", name="api", uid="u")


def run(binding: Binding, **members: Any) -> Verdict:
    return judged(snapshot(cluster_policy(binding=binding)), **members)


def account(name: str, namespace: str = NAMESPACE) -> Binding:
    return Binding(service_accounts=(ServiceAccountBinding(namespace=namespace, name=name),))


def test_a_governed_pod_runs_under_a_bound_account() -> None:
    assert denied(run(account("api"), of=pod(serviceAccountName="api"))) == []
    assert denied(run(account("api"), of=pod(serviceAccountName="web"))) == ["ServiceAccountNotBound"]


def test_the_account_of_another_namespace_is_another_account() -> None:
    assert denied(run(account("api", "other"), of=pod(serviceAccountName="api"))) == ["ServiceAccountNotBound"]


def test_a_trust_policy_that_names_foreign_accounts_binds_none() -> None:
    given = snapshot(trust_policy(binding=account("api", "other")))
    assert denied(judged(given, pod(serviceAccountName="api"))) == ["ServiceAccountNotBound"]


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        (ControllerBinding(api_group="apps", kind="Deployment", name="api"), True),
        (ControllerBinding(api_group="apps", kind="Deployment"), True),
        (ControllerBinding(api_group="apps", kind="Deployment", name="web"), False),
        (ControllerBinding(kind="Deployment", name="api"), False),
        (ControllerBinding(api_group="apps", kind="ReplicaSet", name="api"), False),
    ],
)
def test_the_top_level_controller_must_be_bound(wanted: ControllerBinding, allowed: bool) -> None:
    verdict = run(Binding(controllers=(wanted,)), controller=DEPLOYMENT, controller_known=True)
    assert denied(verdict) == ([] if allowed else ["ControllerNotBound"])


def test_a_chain_that_nobody_vouches_for_is_not_bound() -> None:
    binding = Binding(controllers=(ControllerBinding(api_group="apps", kind="Deployment"),))
    assert denied(run(binding, controller=DEPLOYMENT, controller_known=False)) == ["ControllerNotBound"]
    assert denied(run(binding, controller=None, controller_known=True)) == ["ControllerNotBound"]


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        (Requester(kind="User", name="jane"), True),
        (Requester(kind="User", name="joe"), False),
        (Requester(kind="Group", name="deployers"), True),
        (Requester(kind="Group", name="admins"), False),
        (Requester(kind="ServiceAccount", namespace="ci", name="deployer"), False),
    ],
)
def test_the_requester_must_be_bound(wanted: Requester, allowed: bool) -> None:
    user = UserInfo(username="jane", groups=("deployers",))
    assert denied(run(Binding(requesters=(wanted,)), requester=user)) == ([] if allowed else ["RequesterNotBound"])


def test_a_service_account_requester_is_known_by_its_full_name() -> None:
    binding = Binding(requesters=(Requester(kind="ServiceAccount", namespace="ci", name="deployer"),))
    assert denied(run(binding, requester=UserInfo(username="system:serviceaccount:ci:deployer"))) == []
    assert denied(run(binding, requester=UserInfo(username="deployer"))) == ["RequesterNotBound"]


@pytest.mark.parametrize("user", [None, UserInfo()])
def test_an_unknown_requester_is_bound_by_nothing(user: UserInfo | None) -> None:
    for kind in ("User", "Group"):
        assert denied(run(Binding(requesters=(Requester(kind=kind, name="jane"),)), requester=user)) == [
            "RequesterNotBound"
        ]
