"""What one pod may cost everybody else."""

from __future__ import annotations

import time

import msgspec
import pytest

from countersign.api.image_rule import KeylessIdentity
from countersign.api.pod import Pod
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.pods.size import MAX_COMPARISONS, MAX_IMAGES
from countersign.trust.policies.compiled import MAX_EXPRESSIONS
from countersign.trust.policies.composition import accept
from countersign.trust.policies.patterns import _compile
from countersign.trust.policies.policy import Policy, PolicySnapshot
from countersign.trust.verdicts.problem import Stage
from tests.unit.trust.build import (
    cluster_policy,
    codes,
    container,
    denied,
    judged,
    keyless,
    pod,
    rule,
    rule_by,
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


def _identities(number: int) -> tuple[KeylessIdentity, ...]:
    return tuple(
        KeylessIdentity(issuer_reg_exp=rf"[^a]{{40}}{i}", subject_reg_exp=rf"[^b]{{40}}{i}") for i in range(number)
    )


def _policy_of(expressions: int) -> Policy:
    """A namespace's own, within every bound of the CRD, with so many expressions for signers."""
    several = _identities(expressions // 2)
    authorities = [keyless(f"a{i}", *several[i : i + 16]) for i in range(0, len(several), 16)]
    rules = [
        msgspec.structs.replace(rule_by(*authorities[i : i + 16]), name=f"r{i}") for i in range(0, len(authorities), 16)
    ]
    return trust_policy("own", images=tuple(rules))


def test_a_policy_of_thousands_of_expressions_is_refused_and_its_pods_too_without_reading_them() -> None:
    """Each may take milliseconds to read, in a process that answers for the whole cluster."""
    given = snapshot(_policy_of(6000))
    before = _compile.cache_info().misses
    assert denied(judged(given)) == ["PodTooLarge"]
    assert evidence_needs(given.policies, pod(), {}) == ()
    (judgement,) = accept(given).policies
    assert (judgement.accepted, judgement.accepted_reason) == (False, "Invalid")
    assert "expressions" in judgement.accepted_message
    assert _compile.cache_info().misses == before


def test_as_many_expressions_as_may_be_are_read() -> None:
    given = snapshot(_policy_of(MAX_EXPRESSIONS))
    assert denied(judged(given)) != ["PodTooLarge"]
    assert accept(given).policies[0].accepted
    both = snapshot(_policy_of(MAX_EXPRESSIONS), cluster_policy(images=(rule_by(keyless("ci", *_identities(1))),)))
    assert denied(judged(both)) == ["PodTooLarge"]
