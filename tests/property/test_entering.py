"""Whoever goes into a pod: no set of policies leaves a way in without its price."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from countersign.api.policy import Binding, ModeOverride, ServiceAccountBinding, TokenSpec
from countersign.api.responses import Responses
from countersign.controller.webhooks.coverage import NAME_LABEL, entered
from countersign.trust.policies.entering import entering
from countersign.trust.policies.policy import NamespaceFacts, Policy
from countersign.trust.policies.scope import governing
from tests.unit.trust import build

NAMESPACES = ("team-a", "team-b", "kube-system")
LABELS = st.dictionaries(st.sampled_from(["team", "zone"]), st.sampled_from(["x", "y"]), max_size=2)
EXEC = st.sampled_from(["Allow", "Revoke", "Deny", None])
MODES = st.sampled_from(["Audit", "Warn", "Enforce"])
STRICTNESS = ("Allow", "Revoke", "Deny")


@st.composite
def policies(draw: Any) -> tuple[Policy, ...]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        tokens = (TokenSpec(name="ledger", audience=build.AUDIENCE),) if draw(st.booleans()) else ()
        more: dict[str, Any] = {"tokens": tokens, "responses": Responses(exec=draw(EXEC)), "mode": draw(MODES)}
        if draw(st.booleans()):
            accounts = draw(st.lists(st.sampled_from(NAMESPACES), max_size=1))
            bound = tuple(ServiceAccountBinding(namespace=one, name="api") for one in accounts)
            overridden = draw(st.lists(st.sampled_from(NAMESPACES), max_size=1))
            overrides = tuple(ModeOverride(namespace=one, mode=draw(MODES)) for one in overridden)
            binding = Binding(service_accounts=bound)
            found.append(
                build.cluster_policy(
                    f"p{number}", namespaces=draw(LABELS), binding=binding, mode_overrides=overrides, **more
                )
            )
        else:
            found.append(build.trust_policy(f"p{number}", namespace=draw(st.sampled_from(NAMESPACES)), **more))
    return tuple(found)


@given(policies(), st.sampled_from(NAMESPACES), LABELS, st.sampled_from(["api", "other"]), st.booleans())
def test_wherever_a_token_can_be_lost_no_absent_gate_lets_anybody_in(
    given_: tuple[Policy, ...], namespace: str, labels: dict[str, str], account: str, known: bool
) -> None:
    facts = NamespaceFacts(namespace, {**labels, NAME_LABEL: namespace})
    subject = build.subject(build.pod(serviceAccountName=account))
    subject = type(subject)(pod=subject.pod, namespace=facts, requester=subject.requester)
    snapshot = build.snapshot(*given_, audiences=())
    found = governing(snapshot, subject)
    entries = entered(snapshot, {namespace: labels} if known else {})
    covering = [one.closed for one in entries if one.selector.matches(facts.labels)]
    response = entering(found, namespace).response
    if any(policy.spec.tokens for policy in found) and response != "Allow":
        assert any(covering)
    if response == "Deny":
        assert any(covering)
    if namespace == "kube-system":
        assert not covering


@given(policies(), policies(), st.sampled_from(NAMESPACES))
def test_one_policy_more_never_makes_it_cheaper(
    some: tuple[Policy, ...], more: tuple[Policy, ...], namespace: str
) -> None:
    before, after = entering(some, namespace), entering((*some, *more), namespace)
    assert STRICTNESS.index(after.response) >= STRICTNESS.index(before.response)
    assert (after.response == "Allow") is (after.policy is None)
