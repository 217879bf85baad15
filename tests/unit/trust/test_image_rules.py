"""What an image must show: every rule that matches holds, at least one matches, and nothing revoked counts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from countersign.trust.evidence.image_evidence import RuleEvidence
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.verdict import Verdict
from tests.unit.trust.build import (
    DIGEST,
    NAMESPACE,
    OTHER_DIGEST,
    PINNED,
    REPOSITORY,
    TAGGED,
    cluster_policy,
    codes,
    config,
    container,
    denied,
    facts,
    fingerprint,
    judged,
    pod,
    revocation,
    rule,
    snapshot,
    token,
    unsigned,
    unverifiable,
    vouch,
)


def only(verdict: Verdict) -> Finding:
    assert len(verdict.findings) == 1, verdict.findings
    return verdict.findings[0]


def test_a_signed_image_passes_and_the_evidence_says_why() -> None:
    verdict = judged(snapshot(cluster_policy()))
    assert verdict.findings == ()
    (used,) = verdict.evidence_used
    assert (used.container, used.image, used.digest) == ("api", TAGGED, DIGEST)
    assert used.evidence == (RuleEvidence("uid-payments", "payments", "release", fingerprint(1), False),)


def test_an_unsigned_image_is_denied_with_the_way_out() -> None:
    finding = only(judged(snapshot(cluster_policy()), found=unsigned()))
    assert (finding.code, finding.container, finding.image) == ("ImageUnsigned", "api", TAGGED)
    assert "release" in finding.expected
    assert "cosign sign" in finding.remedy


def test_a_signature_by_a_key_that_the_rule_does_not_list_does_not_vouch() -> None:
    assert denied(judged(snapshot(cluster_policy()), found=facts(vouches=[vouch(2)]))) == ["ImageUnsigned"]


def test_any_key_of_an_authority_vouches_so_that_keys_can_be_rotated() -> None:
    policy = cluster_policy(images=(rule(keys=(1, 2)),))
    assert judged(snapshot(policy), found=facts(vouches=[vouch(2)])).findings == ()


def test_every_rule_that_matches_must_hold() -> None:
    policy = cluster_policy(images=(rule("one", keys=(1,)), rule("two", ("registry.example.com/**",), keys=(2,))))
    assert denied(judged(snapshot(policy))) == ["ImageUnsigned"]
    assert judged(snapshot(policy), found=facts(vouches=[vouch(1), vouch(2)])).findings == ()


def test_each_image_needs_at_least_one_rule() -> None:
    policy = cluster_policy(images=(rule(globs=("registry.example.com/web/**",)),))
    assert denied(judged(snapshot(policy))) == ["ImageNotCovered"]


def test_a_policy_without_rules_covers_no_image() -> None:
    assert denied(judged(snapshot(cluster_policy(images=())))) == ["ImageNotCovered"]


def test_a_policy_without_rules_and_tokens_that_allows_unmatched_images_says_nothing_of_them() -> None:
    assert judged(snapshot(cluster_policy(images=(), unmatched_images="Allow"))).findings == ()


def test_every_image_of_the_pod_is_judged() -> None:
    given = pod(
        container(),
        initContainers=[container("init", f"{REPOSITORY}-init:1")],
        ephemeralContainers=[container("debug", f"{REPOSITORY}-debug:1")],
        volumes=[{"name": "model", "image": {"reference": f"{REPOSITORY}-model:1"}}],
    )
    verdict = judged(snapshot(cluster_policy()), given, evidence={TAGGED: facts()})
    assert [finding.container for finding in verdict.findings] == ["init", "debug", "volume/model"]
    assert set(codes(verdict)) == {"ImageUnverifiable"}


def test_a_listed_digest_counts_as_vouched_for() -> None:
    policy = cluster_policy(images=(rule(keys=(), digests=(DIGEST,)),))
    assert judged(snapshot(policy), found=unsigned()).findings == ()
    assert denied(judged(snapshot(policy), found=unsigned(digest=OTHER_DIGEST))) == ["ImageUnsigned"]


def test_a_pod_that_names_a_listed_digest_needs_no_evidence() -> None:
    policy = cluster_policy(images=(rule(digests=(DIGEST,)),))
    verdict = judged(snapshot(policy), pod(container(image=PINNED)), evidence={}, stage="validate")
    assert verdict.findings == ()
    assert verdict.evidence_used[0].evidence[0].digest_listed


def test_the_digest_of_another_repository_counts_only_where_the_rule_matches() -> None:
    policy = cluster_policy(images=(rule(globs=("registry.example.com/web/**",), digests=(DIGEST,)),))
    assert denied(judged(snapshot(policy), pod(container(image=PINNED)))) == ["ImageNotCovered"]


def test_facts_about_another_image_are_not_believed() -> None:
    wrong = {TAGGED: facts("registry.example.com/payments/other")}
    assert denied(judged(snapshot(cluster_policy()), evidence=wrong)) == ["ImageUnverifiable"]
    other = {PINNED: facts(digest=OTHER_DIGEST)}
    assert denied(judged(snapshot(cluster_policy()), pod(container(image=PINNED)), evidence=other)) == [
        "ImageUnverifiable"
    ]


def test_an_image_by_tag_is_not_pinned_in_the_final_pod() -> None:
    assert denied(judged(snapshot(cluster_policy()), stage="validate")) == ["ImageNotPinned"]
    assert denied(judged(snapshot(cluster_policy()), stage="live")) == ["ImageNotPinned"]


def test_a_name_that_is_no_reference_is_malformed() -> None:
    finding = only(judged(snapshot(cluster_policy()), pod(container(image="UPPER/case")), evidence={}))
    assert finding.code == "ImageMalformed"


def test_what_could_not_be_had_in_time_is_denied_and_may_be_retried() -> None:
    verdict = judged(snapshot(cluster_policy()), found=unverifiable())
    assert denied(verdict) == ["ImageUnverifiable"]
    assert verdict.retry


def test_a_definite_denial_is_no_retry_even_beside_a_timeout() -> None:
    given = pod(container(), container("web", f"{REPOSITORY}-web:1"))
    evidence: dict[str, Any] = {TAGGED: unverifiable(), f"{REPOSITORY}-web:1": unsigned(repository=f"{REPOSITORY}-web")}
    verdict = judged(snapshot(cluster_policy()), given, evidence=evidence)
    assert denied(verdict) == ["ImageUnverifiable", "ImageUnsigned"]
    assert not verdict.retry


def test_an_image_that_the_registry_does_not_have_is_not_found() -> None:
    found = unverifiable(reason="NotFound", transient=False)
    assert denied(judged(snapshot(cluster_policy()), found=found)) == ["ImageNotFound"]


def test_a_key_that_was_never_asked_about_is_told_apart_from_one_that_did_not_sign() -> None:
    assert denied(judged(snapshot(cluster_policy()), found=unsigned(checked=()))) == ["ImageUnverifiable"]


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        (vouch(1, "classic", REPOSITORY), True),
        (vouch(1, "classic", f"{REPOSITORY}:1.2"), True),
        (vouch(1, "classic", "registry.example.com/payments/other"), False),
        (vouch(1, "classic", "not a reference"), False),
        (vouch(1, "bundle", ""), False),
    ],
)
def test_require_reference_asks_for_a_classic_payload_of_this_repository(given: object, holds: bool) -> None:
    policy = cluster_policy(images=(rule(require_reference=True),))
    verdict = judged(snapshot(policy), found=facts(vouches=[given]))  # type: ignore[list-item]
    assert denied(verdict) == ([] if holds else ["ImageUnsigned"])


def test_without_require_reference_a_mirrored_image_verifies() -> None:
    given = facts(vouches=[vouch(1, "classic", "origin.example.com/api")])
    assert judged(snapshot(cluster_policy()), found=given).findings == ()


def test_all_that_a_rule_can_go_by_is_recorded() -> None:
    policy = cluster_policy(images=(rule(keys=(1, 2), digests=(DIGEST,)),))
    (used,) = judged(snapshot(policy), found=facts(vouches=[vouch(1), vouch(2)])).evidence_used
    assert [(one.key_fingerprint, one.digest_listed) for one in used.evidence] == [
        ("", True),
        (fingerprint(1), False),
        (fingerprint(2), False),
    ]


@pytest.mark.parametrize("namespace", ["countersign-system", NAMESPACE])
def test_a_revoked_key_no_longer_vouches(namespace: str) -> None:
    order = revocation(namespace, key_fingerprint=fingerprint(1))
    finding = only(judged(snapshot(cluster_policy(), revocations=[order])))
    assert finding.code == "ImageUnsigned"
    assert "revoked" in finding.found


def test_another_key_of_the_authority_still_vouches() -> None:
    policy = cluster_policy(images=(rule(keys=(1, 2)),))
    order = revocation(key_fingerprint=fingerprint(1))
    found = facts(vouches=[vouch(1), vouch(2)])
    assert judged(snapshot(policy, revocations=[order]), found=found).findings == ()


def test_a_revoked_digest_is_refused_whatever_lists_it() -> None:
    policy = cluster_policy(images=(rule(digests=(DIGEST,)),))
    assert denied(judged(snapshot(policy, revocations=[revocation(digest=DIGEST)]))) == ["ImageRevoked"]


def test_a_revoked_platform_manifest_condemns_the_index() -> None:
    order = revocation(digest="sha256:" + "c" * 64)  # the config digest of the only platform
    assert denied(judged(snapshot(cluster_policy(), revocations=[order]))) == ["ImageRevoked"]


def test_a_revoked_digest_withholds_identity_under_audit_and_from_unmatched_images() -> None:
    policy = cluster_policy(mode="Audit", images=(), unmatched_images="Allow")
    verdict = judged(
        snapshot(policy, revocations=[revocation(digest=DIGEST)]), pod(container(image=PINNED)), evidence={}
    )
    assert codes(verdict) == ["ImageRevoked"]
    assert denied(verdict) == []
    assert not verdict.qualifies


def test_a_revocation_of_another_namespace_does_not_reach() -> None:
    order = revocation("other", digest=DIGEST)
    assert judged(snapshot(cluster_policy(), revocations=[order])).findings == ()


def test_a_key_that_cannot_be_read_vouches_for_nothing() -> None:
    policy = cluster_policy(images=(rule(),))
    broken = policy.spec.images[0].authorities[0].key
    assert broken is not None
    garbage = msgspec.structs.replace(broken, pem=("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----",))
    authority = msgspec.structs.replace(policy.spec.images[0].authorities[0], key=garbage)
    given = cluster_policy(images=(msgspec.structs.replace(policy.spec.images[0], authorities=(authority,)),))
    assert denied(judged(snapshot(given))) == ["ImageUnsigned"]


def test_ephemeral_images_of_a_live_pod_are_left_to_the_policys_response() -> None:
    given = pod(container(image=PINNED), ephemeralContainers=[container("debug", f"{REPOSITORY}-debug:1")])
    evidence = {PINNED: facts()}
    assert codes(judged(snapshot(cluster_policy()), given, evidence=evidence, stage="validate")) == ["ImageNotPinned"]
    assert codes(judged(snapshot(cluster_policy()), given, evidence=evidence, stage="live")) == []


def test_an_index_is_judged_by_every_platform() -> None:
    policy = cluster_policy(tokens=(token(),))
    other = config(entrypoint=("/bin/sh",), platform="linux/arm64")
    assert denied(judged(snapshot(policy), pod(container(command=["/usr/local/app/server"])))) == []
    verdict = judged(
        snapshot(policy), pod(container(command=["/usr/local/app/server"])), facts(configs=[config(), other])
    )
    assert denied(verdict) == ["CommandNotAllowed"]
