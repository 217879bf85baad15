"""What one pod may cost everybody else."""

from __future__ import annotations

import time

import pytest

from countersign.api.pod import Pod
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.pods.size import MAX_COMPARISONS, MAX_IMAGES
from countersign.trust.policies.composition import accept
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.problem import Stage
from tests.unit.trust.build import (
    cluster_policy,
    codes,
    container,
    denied,
    judged,
    pod,
    rule,
    snapshot,
    token,
    trust_policy,
)

COSTLY = tuple(rule(f"r{i}", [f"registry.example.com/*a*b*c*/{i}-{j}*x*" for j in range(32)]) for i in range(32))


def crowd(number: int) -> Pod:
    return pod(*(container(f"c{i}", f"registry.example.com/payments/a{i}:1") for i in range(number)))


def small(mode: str = "Enforce") -> PolicySnapshot:
    return snapshot(cluster_policy(mode=mode, tokens=(token(),)))


@pytest.mark.parametrize("stage", ["mutate", "validate", "live"])
def test_a_pod_of_too_many_images_is_refused_without_a_look_at_them(stage: Stage) -> None:
    verdict = judged(small(), crowd(MAX_IMAGES + 1), stage=stage)
    assert (denied(verdict), verdict.tokens, verdict.qualifies) == (["PodTooLarge"], (), False)
    assert evidence_needs(small().policies, crowd(MAX_IMAGES + 1), {}) == ()


def test_as_many_as_may_be_are_judged() -> None:
    verdict = judged(small(), crowd(MAX_IMAGES))
    assert (codes(verdict), len(verdict.tokens)) == ([], 1)
    assert len(evidence_needs(small().policies, crowd(MAX_IMAGES), {})) == MAX_IMAGES


def test_audit_admits_a_pod_that_is_too_large_without_identity() -> None:
    verdict = judged(small("Audit"), crowd(MAX_IMAGES + 1))
    assert (denied(verdict), verdict.tokens, verdict.qualifies) == ([], (), False)


def test_full_lists_of_a_namespaces_policies_take_no_time() -> None:
    given = snapshot(*(trust_policy(f"p{i}", images=COSTLY) for i in range(MAX_COMPARISONS // 1024 + 1)))
    started = time.process_time()
    assert denied(judged(given, crowd(MAX_IMAGES))) == ["PodTooLarge"]
    assert denied(judged(given)) == ["PodTooLarge"]
    assert time.process_time() - started < 1


def test_many_tokens_for_many_images_are_too_much_as_well() -> None:
    tokens = tuple(token(f"t{i}", f"{i}.example.com") for i in range(16))
    given = snapshot(*(trust_policy(f"p{i}", tokens=tokens) for i in range(50)))
    assert denied(judged(given, crowd(20))) == ["PodTooLarge"]


def test_a_namespace_of_many_policies_keeps_the_controller_no_longer_than_a_moment() -> None:
    given = snapshot(*(trust_policy(f"p{i}", pods={"app": f"a{i}"}, tokens=(token(),)) for i in range(1000)))
    started = time.process_time()
    assert all(one.accepted for one in accept(given).policies)
    assert time.process_time() - started < 4
