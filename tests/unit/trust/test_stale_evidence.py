"""Evidence that a registry cannot confirm just now counts as long as the policy says, and is told."""

from __future__ import annotations

from typing import Any

import pytest

from countersign.trust.verdicts.denial import audit_annotations, warnings
from tests.unit.trust.build import (
    AUDIENCE,
    DIGEST,
    PINNED,
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
    unsigned,
)


def policy(seconds: int = 600, **members: Any) -> Any:
    return cluster_policy(stale_evidence_seconds=seconds, **members)


def test_stale_evidence_within_the_policys_bound_admits_and_gives_identity_and_is_told() -> None:
    verdict = judged(snapshot(policy(tokens=(token(),))), found=facts(stale_seconds=600))
    assert codes(verdict) == ["EvidenceStale"]
    assert denied(verdict) == []
    assert audiences_of(verdict) == [AUDIENCE]
    assert verdict.qualifies
    (line,) = warnings(verdict)
    assert "600 s ago" in line
    assert audit_annotations(verdict)["findings"] == "Enforce:EvidenceStale container api (ClusterTrustPolicy payments)"


def test_older_evidence_counts_for_nothing_until_the_registry_answers() -> None:
    verdict = judged(snapshot(policy()), found=facts(stale_seconds=601))
    assert denied(verdict) == ["ImageUnverifiable"]
    assert verdict.retry
    assert "601 s ago" in verdict.denials[0].found


def test_a_policy_that_takes_no_stale_evidence_has_none() -> None:
    assert denied(judged(snapshot(policy(0)), found=facts(stale_seconds=1))) == ["ImageUnverifiable"]
    assert codes(judged(snapshot(policy(0)), found=facts())) == []


def test_each_policy_decides_for_itself() -> None:
    strict = cluster_policy("strict", stale_evidence_seconds=10)
    verdict = judged(snapshot(policy(), strict), found=facts(stale_seconds=60))
    assert denied(verdict) == ["ImageUnverifiable"]
    assert {finding.policy.name for finding in verdict.denials if finding.policy} == {"strict"}


@pytest.mark.parametrize("mode", ["Audit", "Warn", "Enforce"])
def test_it_is_told_in_every_mode(mode: str) -> None:
    verdict = judged(snapshot(policy(mode=mode)), found=facts(stale_seconds=60))
    assert f"{mode}:EvidenceStale" in audit_annotations(verdict)["findings"]
    assert denied(verdict) == []


def test_a_listed_digest_rests_on_no_registry() -> None:
    given = snapshot(policy(images=(rule(digests=(DIGEST,)),)))
    of = pod(container(image=PINNED))
    assert codes(judged(given, of, unsigned(stale_seconds=9999))) == []


def test_stale_evidence_of_no_signature_is_no_signature() -> None:
    assert denied(judged(snapshot(policy()), found=unsigned(stale_seconds=60))) == ["ImageUnsigned"]
