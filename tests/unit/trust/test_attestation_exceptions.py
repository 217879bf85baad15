"""Exceptions about attestations and certified signers: each waives its own check and type, and nobody revoked."""

from __future__ import annotations

import pytest

from countersign.api.exception import TrustException
from countersign.trust.evidence.facts import Attestation, ImageFacts, Vouch
from countersign.trust.policies.policy import PolicySnapshot
from tests.unit.trust.build import (
    ISSUER,
    ROOT_HASH,
    SCAN,
    WORKFLOW,
    attestation,
    certified,
    cluster_policy,
    denied,
    exception,
    facts,
    fingerprint,
    judged,
    keyed,
    keyless,
    revocation,
    rule_by,
    snapshot,
    vouch,
    wants,
)

BY_SCANNER = revocation(key_fingerprint=fingerprint(2))
BY_WORKFLOW = revocation(signer={"issuer": ISSUER, "subject": WORKFLOW})


def asking(*exceptions: TrustException, **members: object) -> PolicySnapshot:
    """A signature by key 1, and a scan by key 2."""
    rule = rule_by(keyed("release", 1), attestors=(keyed("scanner", 2),), attestations=(wants(),))
    return snapshot(cluster_policy(images=(rule,)), exceptions=exceptions, **members)  # type: ignore[arg-type]


def found(*attestations: Attestation, vouches: tuple[Vouch, ...] = (vouch(),)) -> ImageFacts:
    return facts(attestations=attestations, vouches=vouches, checked_predicates=(SCAN,), checked_roots=(ROOT_HASH,))


@pytest.mark.parametrize(
    ("waives", "left"),
    [
        ("AttestationMissing", []),
        (f"AttestationMissing={SCAN}", []),
        ("AttestationMissing=https://spdx.dev/Document", ["AttestationMissing"]),
        ("AttestationFailed", ["AttestationMissing"]),
        ("ImageUnsigned", ["AttestationMissing"]),
    ],
)
def test_a_missing_attestation_is_waived_by_its_check_and_type(waives: str, left: list[str]) -> None:
    assert denied(judged(asking(exception("legacy", waives)), found=found())) == left


def test_whoever_waives_the_signature_waives_no_attestation() -> None:
    neither = found(vouches=())
    assert denied(judged(asking(), found=neither)) == ["ImageUnsigned", "AttestationMissing"]
    assert denied(judged(asking(exception("legacy", "ImageUnsigned")), found=neither)) == ["AttestationMissing"]


def test_an_attestation_by_somebody_revoked_is_missing_and_not_waived() -> None:
    made = found(attestation())
    assert denied(judged(asking(revocations=(BY_SCANNER,)), found=made)) == ["AttestationMissing"]
    for waives in ("AttestationMissing", "ImageUnsigned"):
        given = asking(exception("legacy", waives), revocations=(BY_SCANNER,))
        assert denied(judged(given, found=made)) == ["AttestationMissing"]


def test_whom_an_order_names_takes_nothing_from_an_exception_for_another_type() -> None:
    given = asking(exception("legacy", "AttestationMissing"), revocations=(BY_SCANNER,))
    other = found(attestation(predicate_type="https://spdx.dev/Document"))
    assert denied(judged(given, found=other)) == []


def test_a_signature_by_a_revoked_signer_is_not_waived_as_a_missing_one() -> None:
    policy = cluster_policy(images=(rule_by(keyless("ci")),))
    signed = found(vouches=(certified(),))
    waiver = exception("legacy", "ImageUnsigned", tokens="Issue")
    assert denied(judged(snapshot(policy, exceptions=(waiver,)), found=signed)) == []
    given = snapshot(policy, exceptions=(waiver,), revocations=(BY_WORKFLOW,))
    assert denied(judged(given, found=signed)) == ["ImageUnsigned"]
    stranger = found(vouches=(certified("nobody@example.com"),))
    assert denied(judged(given, found=stranger)) == []
