"""The patch and the pod that is said to result from it are one and the same, and a second patch is empty."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonpatch
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from countersign.api.pod import Pod
from countersign.injection.patch import Injection, inject, with_receipt
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.images.extraction import extract
from countersign.trust.images.pins import facts_by_image, pins
from countersign.trust.pods.spec_hash import spec_hash
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.verdict import Verdict, judge
from tests.property.trust_strategies import audience_sets, evidence, pod_members, policy_sets
from tests.unit.trust.build import NOW, subject

Evidence = dict[str, ImageFacts | Unverifiable]


class Case:
    """A pod object, its evidence and the policies."""

    def __init__(self, members: dict[str, Any], found: Evidence, snapshot: PolicySnapshot) -> None:
        self.members = members
        self.found = found
        self.snapshot = snapshot

    def injected(self) -> tuple[Injection, Verdict]:
        return mutate(self.snapshot, self.members, self.found)

    def __repr__(self) -> str:
        return f"Case({self.members!r}, {self.found!r}, {self.snapshot!r})"


def mutate(snapshot: PolicySnapshot, members: dict[str, Any], found: Evidence) -> tuple[Injection, Verdict]:
    of = msgspec.convert(members, Pod)
    verdict = judge(snapshot, subject(of), found, stage="mutate", now=NOW)
    receipt = "signed" if verdict.governed else None
    return with_receipt(inject(of, verdict, pins(extract(of), found)), receipt), verdict


def applied(injection: Injection, members: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = jsonpatch.apply_patch(copy.deepcopy(members), json.loads(injection.patch))
    return result


@st.composite
def cases(draw: st.DrawFn) -> Case:
    members = draw(pod_members())
    found = draw(evidence(msgspec.convert(members, Pod)))
    snapshot = PolicySnapshot(policies=tuple(draw(policy_sets())), audiences=tuple(draw(audience_sets())))
    return Case(members, found, snapshot)


@given(cases())
def test_the_operations_lead_to_the_pod_that_is_said_to_result(case: Case) -> None:
    injection, _ = case.injected()
    result = msgspec.convert(applied(injection, case.members), Pod)
    assert result == injection.pod
    assert spec_hash(result) == spec_hash(injection.pod)


@given(cases())
def test_applying_twice_changes_nothing(case: Case) -> None:
    injection, _ = case.injected()
    once = applied(injection, case.members)
    after = facts_by_image(injection.pod, msgspec.convert(case.members, Pod), case.found)
    again, _ = mutate(case.snapshot, once, {**case.found, **after})
    assert again.operations == ()
    assert again.pod == injection.pod


@given(cases())
def test_what_the_author_wrote_and_no_rule_speaks_of_stays(case: Case) -> None:
    result = applied(case.injected()[0], case.members)
    for old, new in zip(case.members["spec"]["containers"], result["spec"]["containers"], strict=True):
        assert new.get("env", [])[: len(old.get("env", []))] == old.get("env", [])
        assert new.get("command") == old.get("command")
        own = [mount for mount in old.get("volumeMounts", []) if mount["name"] == "data"]
        assert [mount for mount in new.get("volumeMounts", []) if mount["name"] == "data"] == own
    names = [volume["name"] for volume in result["spec"].get("volumes", [])]
    for volume in case.members["spec"].get("volumes", []):
        assert volume["name"] in names or volume["name"].startswith("kube-api-access-")


@given(cases())
def test_an_admitted_pod_passes_validation_with_the_same_tokens(case: Case) -> None:
    """What /mutate decides and writes, /validate finds decided and written."""
    injection, verdict = case.injected()
    after = facts_by_image(injection.pod, msgspec.convert(case.members, Pod), case.found)
    final = judge(case.snapshot, subject(injection.pod), {**case.found, **after}, stage="validate", now=NOW)
    if not verdict.denials:
        assert final.denials == ()
        assert final.tokens == verdict.tokens
        live = judge(case.snapshot, subject(injection.pod), {**case.found, **after}, stage="live", now=NOW)
        assert live.tokens == verdict.tokens
        # An audience may be declared after its token's volume was written: what lives then loses that audience alone.
        exposed = any(finding.code == "TokenExposed" for finding in live.findings)
        assert live.qualifies is verdict.qualifies or (exposed and live.qualifies and not live.hands_out)
