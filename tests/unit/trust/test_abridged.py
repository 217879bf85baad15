"""What a receipt keeps of images that many have signed."""

from __future__ import annotations

import msgspec

from countersign.api.image_rule import KeylessIdentity
from countersign.keys.receipts import MAX_RECEIPT_BYTES
from countersign.trust.evidence.abridged import MAX_EACH, MAX_WHOLE, abridged
from countersign.trust.evidence.facts import ImageFacts, Vouch
from countersign.trust.evidence.needs import covers, evidence_needs
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.receipt import encode, make
from tests.unit.trust.build import (
    DIGEST,
    ISSUER,
    NAMESPACE,
    NOW,
    PINNED,
    REPOSITORY,
    ROOT_HASH,
    SCAN,
    WORKFLOW,
    attestation,
    certified,
    cluster_policy,
    config,
    container,
    denied,
    facts,
    judged,
    keyed,
    keyless,
    pod,
    rule_by,
    snapshot,
    subject,
    token,
    vouch,
    wants,
)

EXTENSIONS = {f"extension{number:02}": "https://github.com/acme/" + "x" * 80 for number in range(20)}
RULE = rule_by(keyless(), attestors=(keyed("scanner", 2),), attestations=(wants(),))
GIVEN = snapshot(cluster_policy(images=(RULE,), tokens=(token(),)))


def strangers(count: int) -> list[Vouch]:
    return [certified(f"{number}@evil.example", extensions=EXTENSIONS) for number in range(count)]


def crowded(count: int = 50) -> ImageFacts:
    """Signed and scanned as the policy asks, and by many others besides."""
    return facts(
        vouches=[*strangers(count), certified(extensions=EXTENSIONS)],
        attestations=(*[attestation(one) for one in strangers(count)], attestation()),
        checked_roots=(ROOT_HASH,),
        checked_predicates=(SCAN,),
    )


def kept(found: ImageFacts, given: PolicySnapshot = GIVEN) -> ImageFacts:
    return abridged(given, NAMESPACE, given.policies, {PINNED: found}, NOW.timestamp())[PINNED]


def test_a_few_signatures_are_kept_whoever_made_them() -> None:
    few = facts(vouches=[vouch(), *strangers(MAX_WHOLE - 1)])
    assert kept(few) is few


def test_of_many_those_are_kept_that_the_policies_go_by_and_one_other_of_each() -> None:
    found = kept(crowded())
    assert [one.identity.subject for one in found.vouches if one.identity] == [
        "0@evil.example",
        WORKFLOW,
    ]
    assert [one.vouch.key_fingerprint for one in found.attestations] == ["", vouch(2).key_fingerprint]
    assert found.left_out == 98
    of = pod(container(image=PINNED))
    assert denied(judged(GIVEN, of, found)) == denied(judged(GIVEN, of, crowded())) == []


def test_several_signers_are_kept_so_that_one_may_be_revoked() -> None:
    anybody = snapshot(cluster_policy(images=(rule_by(keyed("release", 1, 2, 3, 4, 5)),)))
    found = facts(vouches=[*[vouch(number) for number in (1, 2, 3, 4, 5)], *strangers(9)])
    assert [one.key_fingerprint for one in kept(found, anybody).vouches][:MAX_EACH] == [
        vouch(number).key_fingerprint for number in (1, 2, 3)
    ]


def test_nobody_calls_an_image_unsigned_by_what_a_receipt_left_out() -> None:
    other = snapshot(cluster_policy(images=(rule_by(keyless("ci", identity("7@evil.example"))),)))
    of = pod(container(image=PINNED))
    (finding,) = judged(other, of, kept(crowded()), stage="live").findings
    assert finding.code == "ImageUnverifiable"
    assert denied(judged(other, of, crowded())) == []


def test_what_a_receipt_left_out_is_asked_for_again() -> None:
    (need,) = evidence_needs(GIVEN.policies, pod(container(image=PINNED)), GIVEN.roots)
    assert covers(crowded(), need)
    assert not covers(kept(crowded()), need)


def test_extensions_that_a_policy_asks_about_are_kept() -> None:
    by_extension = snapshot(cluster_policy(images=(rule_by(keyless("ci", identity(WORKFLOW, "extension07"))),)))
    found = kept(crowded(), by_extension)
    assert {name for one in found.vouches if one.identity for name, _ in one.identity.extensions} == {"extension07"}
    assert denied(judged(by_extension, pod(container(image=PINNED)), found)) == []


def test_a_pod_of_twenty_images_that_each_are_signed_by_fifty_strangers_gets_a_receipt() -> None:
    names = [f"{REPOSITORY}-{number}" for number in range(20)]
    of = pod(*[container(f"c{number}", f"{name}@{DIGEST}") for number, name in enumerate(names)])
    wide = [config(platform=f"linux/p{number}", digest=f"sha256:{number:064}") for number in range(4)]
    found = {f"{name}@{DIGEST}": msgspec.structs.replace(crowded(), image=name, configs=tuple(wide)) for name in names}
    images = abridged(GIVEN, NAMESPACE, GIVEN.policies, found, NOW.timestamp())
    receipt = make(subject(of), GIVEN.policies, images, now=NOW, nonce="n" * 32)
    assert len(encode(receipt)) * 4 / 3 < MAX_RECEIPT_BYTES - 256


def identity(who: str, *extensions: str) -> KeylessIdentity:
    asked = {name: EXTENSIONS[name] for name in extensions}
    return KeylessIdentity(issuer=ISSUER, subject=who, extensions=asked)
