"""`signatureOn`: what must bear signature and attestations where an image is an index of platforms."""

from __future__ import annotations

from typing import Any

import pytest

from countersign.api.image_rule import Authority
from countersign.trust.evidence.facts import ImageFacts, Vouch
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.findings import Finding
from tests.unit.trust.build import (
    DIGEST,
    SCAN,
    attestation,
    cluster_policy,
    config,
    facts,
    fingerprint,
    judged,
    keyed,
    revocation,
    rule_by,
    snapshot,
    vouch,
    wants,
)

AMD, ARM = "sha256:" + "d" * 64, "sha256:" + "e" * 64
PLATFORMS = (config(platform="linux/amd64", digest=AMD), config(platform="linux/arm64", digest=ARM))


def on(digest: str, number: int = 1) -> Vouch:
    return Vouch(key_fingerprint=fingerprint(number), format="bundle", reference="", digest=digest)


def asking(place: Any, *authorities: Authority, **members: Any) -> PolicySnapshot:
    orders = members.pop("revocations", ())
    rule = rule_by(*(authorities or (keyed(),)), signature_on=place, **members)
    return snapshot(cluster_policy(images=(rule,)), revocations=orders)


def index(*vouches: Vouch, **members: Any) -> ImageFacts:
    members.setdefault("configs", PLATFORMS)
    members.setdefault("platforms_checked", True)
    return facts(vouches=vouches, checked_predicates=(SCAN,), **members)


def refused(given: PolicySnapshot, found: ImageFacts) -> Finding:
    (finding,) = judged(given, found=found).findings
    assert finding.is_denial
    return finding


@pytest.mark.parametrize(
    ("vouches", "holds"),
    [
        ((vouch(),), {"Digest", "Either"}),
        ((on(DIGEST),), {"Digest", "Either"}),
        ((on(AMD), on(ARM)), {"Platforms", "Either"}),
        ((on(AMD),), set()),
        ((vouch(), on(AMD)), {"Digest", "Either"}),
        ((vouch(), on(AMD), on(ARM)), {"Digest", "Platforms", "Either"}),
        ((on("sha256:" + "9" * 64),), set()),
        ((on(AMD, 2), on(ARM)), set()),
        ((), set()),
    ],
)
@pytest.mark.parametrize("place", ["Digest", "Platforms", "Either"])
def test_who_must_have_signed_what(place: str, vouches: tuple[Vouch, ...], holds: set[str]) -> None:
    assert (judged(asking(place), found=index(*vouches)).findings == ()) is (place in holds)


def test_each_platform_may_be_signed_by_another_of_the_authorities() -> None:
    given = asking("Platforms", keyed("a", 1), keyed("b", 2))
    assert judged(given, found=index(on(AMD, 1), on(ARM, 2))).findings == ()


def test_the_platform_that_bears_no_signature_is_named() -> None:
    finding = refused(asking("Platforms"), index(on(AMD)))
    assert finding.code == "ImageUnsigned"
    assert "on the manifest of each platform" in finding.expected
    assert finding.found == "on linux/arm64: none by its keys"


@pytest.mark.parametrize("place", ["Digest", "Platforms", "Either"])
def test_an_image_that_is_no_index_is_its_own_platform(place: str) -> None:
    assert judged(asking(place), found=facts()).findings == ()
    assert judged(asking(place), found=facts(vouches=())).findings != ()


def test_platforms_that_nobody_has_looked_up_are_no_platforms() -> None:
    finding = refused(asking("Platforms"), index(vouch(), configs=()))
    assert finding.code == "ImageUnverifiable"
    assert judged(asking("Either"), found=index(vouch(), configs=())).findings == ()


def test_platforms_on_which_nobody_has_looked_for_signatures_are_no_definite_no() -> None:
    assert refused(asking("Platforms"), index(platforms_checked=False)).code == "ImageUnverifiable"
    assert refused(asking("Either"), index(platforms_checked=False)).code == "ImageUnverifiable"


def test_attestations_must_be_where_signatures_must_be() -> None:
    given = asking("Platforms", keyed(), keyed("scanner", 2), attestations=(wants(),))
    on_both = (attestation(on(AMD, 2)), attestation(on(ARM, 2), statement="2"))
    assert judged(given, found=index(on(AMD), on(ARM), attestations=on_both)).findings == ()
    finding = refused(given, index(on(AMD), on(ARM), attestations=on_both[:1]))
    assert finding.code == "AttestationMissing"
    assert finding.found.startswith("on linux/arm64: ")
    own = attestation(vouch(2))
    assert judged(given, found=index(on(AMD), on(ARM), attestations=(own,))).findings != ()


def test_either_may_be_the_index_for_the_signature_and_the_platforms_for_the_attestation() -> None:
    given = asking("Either", keyed(), keyed("scanner", 2), attestations=(wants(),))
    on_both = (attestation(on(AMD, 2)), attestation(on(ARM, 2), statement="2"))
    assert judged(given, found=index(vouch(), attestations=on_both)).findings == ()


def test_what_was_signed_is_recorded_where_it_is_not_the_image_itself() -> None:
    (used,) = judged(asking("Platforms"), found=index(on(AMD), on(ARM))).evidence_used
    assert [one.signed_digest for one in used.evidence] == [AMD, ARM]
    (used,) = judged(asking("Digest"), found=index(on(DIGEST))).evidence_used
    assert [one.signed_digest for one in used.evidence] == [""]


def test_a_revoked_key_takes_the_platform_away_that_only_it_signed() -> None:
    given = asking("Platforms", keyed("a", 1, 2), revocations=[revocation(key_fingerprint=fingerprint(2))])
    assert refused(given, index(on(AMD, 1), on(ARM, 2))).found == "on linux/arm64: only signatures by a revoked key"
    assert judged(given, found=index(on(AMD, 1), on(ARM, 1), on(ARM, 2))).findings == ()
