"""Whose certificate vouches: an identity of the policy, on material of its evidence root, at a trusted time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from countersign.api.image_rule import Authority, KeylessIdentity
from countersign.trust.evidence.facts import Vouch
from countersign.trust.evidence.image_evidence import RuleEvidence
from countersign.trust.evidence.signers import Weights, objection
from countersign.trust.orders.standing import Standing
from countersign.trust.policies.authorities import AuthorityIndex, CompiledAuthority
from countersign.trust.policies.policy import DEFAULT_ROOT, PolicySnapshot, RootFacts
from countersign.trust.verdicts.denial import message
from countersign.trust.verdicts.findings import Finding
from tests.unit.trust.build import (
    ANCHORS,
    ISSUER,
    REPOSITORY,
    ROOT_HASH,
    SIGNED_AT,
    TAGGED,
    WORKFLOW,
    certified,
    cluster_policy,
    facts,
    fingerprint,
    judged,
    keyed,
    keyless,
    proof,
    revocation,
    root,
    rule_by,
    snapshot,
    vouch,
)

OTHER_HASH = "sha256:" + "2" * 64


def by(*authorities: Authority, **members: Any) -> PolicySnapshot:
    return snapshot(cluster_policy(images=(rule_by(*authorities),)), **members)


def findings(given: PolicySnapshot, *vouches: Vouch, checked: tuple[str, ...] = (ROOT_HASH,)) -> tuple[Finding, ...]:
    return judged(given, found=facts(vouches=vouches, checked_roots=checked)).findings


def passes(authority: Authority, *vouches: Vouch, **members: Any) -> bool:
    return findings(by(authority, **members), *vouches) == ()


def refused(given: PolicySnapshot, *vouches: Vouch, checked: tuple[str, ...] = (ROOT_HASH,)) -> Finding:
    (finding,) = findings(given, *vouches, checked=checked)
    assert finding.is_denial
    assert finding.blocks_identity
    return finding


def identity(**members: Any) -> Authority:
    return keyless("ci", KeylessIdentity(**members))


def test_the_identity_of_the_policy_vouches_and_the_evidence_names_it() -> None:
    verdict = judged(by(keyless()), found=facts(vouches=[certified()], checked_roots=(ROOT_HASH,)))
    assert verdict.findings == ()
    (used,) = verdict.evidence_used
    assert used.evidence == (RuleEvidence("uid-payments", "payments", "ci", "", False, ISSUER, WORKFLOW),)


@pytest.mark.parametrize(
    ("authority", "fits"),
    [
        (identity(issuer=ISSUER, subject=WORKFLOW), True),
        (identity(issuer=ISSUER, subject=WORKFLOW + "x"), False),
        (identity(issuer="https://evil.example", subject=WORKFLOW), False),
        (identity(issuer=ISSUER, subject_reg_exp=r"https://github\.com/acme/.*"), True),
        (identity(issuer=ISSUER, subject_reg_exp=r"acme/.*"), False),
        (identity(issuer_reg_exp=r"https://token\..*", subject=WORKFLOW), True),
        (identity(issuer_reg_exp=r"https://.*\.example", subject=WORKFLOW), False),
        (identity(issuer=ISSUER, subject_reg_exp="("), False),
        (identity(issuer=ISSUER), False),
        (identity(subject=WORKFLOW), False),
        (identity(), False),
        (identity(issuer=ISSUER, subject=WORKFLOW, subject_reg_exp="other"), False),
    ],
)
def test_issuer_and_subject_must_fit_exactly_or_by_an_expression_over_all_of_them(
    authority: Authority, fits: bool
) -> None:
    assert passes(authority, certified()) is fits


@pytest.mark.parametrize(
    ("members", "fits"),
    [
        ({"extensions": {"sourceRepositoryRef": "refs/heads/main"}}, True),
        ({"extensions": {"sourceRepositoryRef": "refs/heads/evil"}}, False),
        ({"extensions": {"runnerEnvironment": "github-hosted"}}, False),
        ({"extensions": {"sourceRepositoryRef": ""}}, False),
        ({"extensions_reg_exp": {"sourceRepositoryRef": "refs/heads/.*"}}, True),
        ({"extensions_reg_exp": {"sourceRepositoryRef": "refs"}}, False),
        ({"extensions_reg_exp": {"runnerEnvironment": ".*"}}, False),
        ({"extensions_reg_exp": {"sourceRepositoryRef": "("}}, False),
        (
            {
                "extensions": {"sourceRepositoryURI": "https://github.com/acme/api"},
                "extensions_reg_exp": {"sourceRepositoryRef": "refs/tags/.*"},
            },
            False,
        ),
    ],
)
def test_every_extension_that_the_policy_names_must_be_there_and_fit(members: dict[str, Any], fits: bool) -> None:
    extensions = {"sourceRepositoryRef": "refs/heads/main", "sourceRepositoryURI": "https://github.com/acme/api"}
    authority = identity(issuer=ISSUER, subject=WORKFLOW, **members)
    assert passes(authority, certified(extensions=extensions)) is fits


def test_the_extension_that_keeps_a_signer_out_is_told_with_what_it_is_and_what_it_should_be() -> None:
    on_main = identity(issuer=ISSUER, subject=WORKFLOW, extensions={"sourceRepositoryRef": "refs/heads/main"})
    found = refused(by(on_main), certified(extensions={"sourceRepositoryRef": "refs/heads/evil"})).found
    assert found.endswith(", whose sourceRepositoryRef is refs/heads/evil, not refs/heads/main")
    assert refused(by(on_main), certified()).found.endswith(", whose certificate has no sourceRepositoryRef")
    hosted = identity(issuer=ISSUER, subject=WORKFLOW, extensions_reg_exp={"runnerEnvironment": "github-.*"})
    found = refused(by(hosted), certified(extensions={"runnerEnvironment": "self-hosted"})).found
    assert found.endswith(", whose runnerEnvironment is self-hosted, not github-.*")


def test_one_identity_of_several_is_enough() -> None:
    other = KeylessIdentity(issuer=ISSUER, subject="somebody@example.com")
    assert passes(keyless("ci", other, KeylessIdentity(issuer=ISSUER, subject=WORKFLOW)), certified())


def test_a_stranger_is_named_with_whom_the_policy_expects() -> None:
    given = by(keyless())
    text = message(judged(given, found=facts(vouches=[certified("evil@example.com")], checked_roots=(ROOT_HASH,))))
    assert text.startswith(f"ImageUnsigned: container api ({TAGGED}): ClusterTrustPolicy payments expects a signature")
    assert "by ci (https://github.com/acme/" in text
    assert f"found signed by evil@example.com of issuer {ISSUER}, whom no authority of the rule names" in text
    assert "Way out: sign the image (cosign sign, as one of those)" in text


def test_an_image_that_nobody_signed_is_told_apart_from_a_strangers() -> None:
    assert refused(by(keyless())).found == "none by its signers"


def test_what_rests_on_material_that_the_root_no_longer_has_does_not_count() -> None:
    shrunk = {"public-good": root(OTHER_HASH, anchors=ANCHORS[:1])}
    assert not passes(keyless(), certified(), roots=shrunk)
    finding = refused(by(keyless(), roots=shrunk), certified(), checked=(ROOT_HASH, OTHER_HASH))
    assert finding.code == "ImageUnsigned"
    assert "EvidenceRoot public-good lacks" in finding.found


def test_a_refreshed_root_that_still_has_the_material_takes_nothing_away() -> None:
    refreshed = {"public-good": root(OTHER_HASH, anchors=(*ANCHORS, "ca:new"))}
    assert passes(keyless(), certified(), roots=refreshed)


@pytest.mark.parametrize(
    ("spans", "counts"),
    [
        ({"ca:acme": (SIGNED_AT, None), "tsa:acme": (SIGNED_AT + 9, SIGNED_AT)}, True),
        ({"ca:acme": (0, SIGNED_AT - 1)}, False),
        ({"ca:acme": (SIGNED_AT + 1, None)}, False),
        ({"tsa:acme": (0, SIGNED_AT - 1)}, False),
        ({"log:acme": (0, SIGNED_AT - 1), "ca:other": (0, 1)}, True),
    ],
)
def test_what_a_root_no_longer_believes_for_that_time_does_not_count(spans: Any, counts: bool) -> None:
    """A root that ends the interval of an authority that was taken over, or another root that never had it so wide."""
    narrow = root(OTHER_HASH)._replace(spans=spans)
    assert passes(keyless(), certified(), roots={"public-good": narrow}) is counts
    assert passes(keyless("ci", root="narrow"), certified(), roots={"public-good": root(), "narrow": narrow}) is counts
    if not counts:
        found = refused(by(keyless(), roots={"public-good": narrow}), certified(), checked=(ROOT_HASH, OTHER_HASH))
        assert "EvidenceRoot public-good lacks" in found.found


def test_without_a_time_what_has_ended_does_not_count() -> None:
    logged = keyed("release", 1, root="public-good", require=("TransparencyLog",))
    timeless = msgspec.structs.replace(vouch(1), proof=proof("log", signed_at=None, anchors=("log:acme",)))
    for end, counts in ((None, True), (SIGNED_AT, False)):
        given = root()._replace(spans={"log:acme": (0, end)})
        assert passes(logged, timeless, roots={"public-good": given}) is counts


def test_a_signature_that_rests_on_nothing_rests_on_no_root() -> None:
    assert not passes(keyless(), certified(by=proof(anchors=())))
    assert not passes(keyless(), msgspec.structs.replace(certified(), proof=None))


def test_the_evidence_of_one_root_does_not_count_for_an_authority_of_another() -> None:
    roots = {"public-good": root(), "acme": root(OTHER_HASH, anchors=("ca:private", "tsa:private"))}
    private = certified(by=proof(anchors=("ca:private", "tsa:private")))
    assert not passes(keyless(), private, roots=roots)
    assert passes(keyless("ci", root="acme"), private, roots=roots)
    assert not passes(keyless("ci", root="acme"), certified(), roots=roots)


def test_a_root_that_does_not_exist_is_never_a_pass_and_says_what_to_do() -> None:
    finding = refused(by(keyless("ci", root="acme")), certified())
    assert finding.code == "EvidenceRootMissing"
    assert "EvidenceRoot acme" in finding.found
    assert "evidenceRootRef" in finding.remedy
    assert refused(by(keyless(), roots={}), certified()).code == "EvidenceRootMissing"


def test_a_root_that_cannot_be_used_now_is_never_a_pass_and_says_why() -> None:
    broken = {"public-good": root(problem="its ConfigMap is gone")}
    finding = refused(by(keyless(), roots=broken), certified())
    assert finding.code == "EvidenceRootUnusable"
    assert "its ConfigMap is gone" in finding.found


def test_another_authority_vouches_while_the_root_of_one_is_missing() -> None:
    assert findings(by(keyless("ci", root="acme"), keyed()), vouch(1)) == ()


def test_evidence_from_before_the_root_was_what_it_is_is_no_definite_no() -> None:
    finding = refused(by(keyless()), checked=(OTHER_HASH,))
    assert finding.code == "ImageUnverifiable"
    assert "public-good" in finding.found


def test_without_a_trusted_time_a_certificate_of_minutes_says_nothing() -> None:
    finding = refused(by(keyless()), certified(by=proof(signed_at=None)))
    assert (finding.code, "without a trusted time" in finding.found) == ("ImageUnsigned", True)


def test_every_proof_that_the_policy_requires_must_be_there() -> None:
    both = keyless("ci", require=("Timestamp", "SCT"))
    assert passes(both, certified())
    logged = keyless("ci", require=("TransparencyLog", "Timestamp"))
    assert not passes(logged, certified())
    assert "without TransparencyLog" in refused(by(logged), certified()).found
    assert passes(logged, certified(by=proof("log", "timestamp")))


def test_one_signature_of_several_that_brings_every_proof_is_enough() -> None:
    logged = keyless("ci", require=("TransparencyLog",))
    assert passes(logged, certified(), certified(by=proof("log")), certified("evil@example.com"))


def test_a_key_of_a_root_may_be_required_to_bring_proofs() -> None:
    logged = keyed("release", 1, root="public-good", require=("TransparencyLog",))
    assert not passes(logged, vouch(1))
    in_the_log = msgspec.structs.replace(vouch(1), proof=proof("log", anchors=("log:acme",)))
    assert passes(logged, in_the_log)
    assert not passes(logged, in_the_log, roots={"public-good": root(anchors=("log:other",))})
    assert not passes(logged, in_the_log, roots={})


def test_a_key_that_requires_no_proof_vouches_whatever_its_root() -> None:
    assert passes(keyed("release", 1, root="public-good"), vouch(1), roots={})


def test_a_key_is_not_taken_for_an_identity_nor_an_identity_for_a_key() -> None:
    mixed = msgspec.structs.replace(certified(), key_fingerprint=fingerprint(1))
    assert not passes(keyless(), mixed)
    assert not passes(keyed(), mixed)
    assert not passes(keyless(), vouch(1))
    assert not passes(keyed(), certified())


@pytest.mark.parametrize(("namespace", "reaches"), [("countersign-system", True), ("payments", True), ("other", False)])
def test_a_revoked_signer_no_longer_vouches(namespace: str, reaches: bool) -> None:
    order = revocation(namespace, signer={"issuer": ISSUER, "subject": WORKFLOW})
    given = by(keyless(), revocations=[order])
    assert (findings(given, certified()) != ()) is reaches
    if reaches:
        assert "only signatures by a revoked signer" in refused(given, certified()).found


def test_a_revoked_signer_is_that_issuers_that_subject_and_nobody_else() -> None:
    anybody = keyless("ci", KeylessIdentity(issuer_reg_exp=".*", subject_reg_exp=".*"))
    order = revocation(signer={"issuer": ISSUER, "subject": WORKFLOW})
    assert passes(anybody, certified("other@example.com"), revocations=[order])
    assert passes(anybody, certified(issuer="https://other.example"), revocations=[order])
    assert not passes(anybody, certified(), revocations=[order])


def test_facts_without_an_anchored_root_count_for_nobody() -> None:
    empty = {"public-good": RootFacts("", frozenset())}
    assert not passes(keyless(), certified(), roots=empty)


def test_an_index_leaves_nobody_out_whom_an_authority_may_mean() -> None:
    authorities = [
        CompiledAuthority(one)
        for one in (
            keyed("old", 1, 2),
            keyless("exact"),
            keyless("pattern", KeylessIdentity(issuer=ISSUER, subject_reg_exp=".*release.*")),
            keyless(
                "both", KeylessIdentity(issuer=ISSUER, subject="x"), KeylessIdentity(issuer_reg_exp=".*", subject="x")
            ),
            keyed("new", 2),
        )
    ]
    index = AuthorityIndex(authorities)
    weights = Weights(Standing(), {DEFAULT_ROOT: root()}, 0.0)
    for one in (vouch(1), vouch(2), vouch(3), certified(), certified("x"), certified("x", "https://other.example.com")):
        named = list(index.naming(one))
        meant = [each for each in authorities if objection(each, one, REPOSITORY, weights) != "Stranger"]
        assert [each for each in named if each in meant] == meant, "in their order, too"
