"""The attacker's table of image trust, signatures and what hangs on them: each test is a row of the threat model."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.attack.image_trust import SCAN, Target
from tests.fakes.signing import bundle, make_key, statement
from tests.lab.cosign import Form


def test_what_is_in_order_is_admitted(target: Target) -> None:
    """The other half of every row below."""
    keyed, keyless, logged, scanned = (target.push(kind) for kind in ("keyed", "keyless", "logged", "scanned"))
    target.sign(keyed)
    target.sign(scanned)
    target.attest(scanned, target.scanner)
    target.sign_keyless(keyless, form=Form.CLASSIC)
    target.sign_keyless(logged)
    for image in (keyed, keyless, logged, scanned):
        assert target.admitted(image).endswith(image.digest)


@pytest.mark.parametrize("form", list(Form))
def test_a_signature_replayed_for_another_image_vouches_for_neither(target: Target, form: Form) -> None:
    signed, victim = target.push("keyed"), target.push("keyed")
    target.sign(signed, form=form)
    repository = target.repository("keyed")
    if form is Form.BUNDLE:
        target.attach(victim, json.dumps(target.bundle_of(signed)).encode())
    else:
        tag = f"sha256-{signed.digest.removeprefix('sha256:')}.sig"
        stolen = repository.get_manifest(tag)
        kind = json.loads(stolen)["mediaType"]
        repository.push_manifest(tag.replace(signed.digest[7:], victim.digest[7:]), stolen, kind)
    target.refused(victim)
    target.admitted(signed)


def test_fifty_signatures_of_strangers_neither_vouch_nor_hide_the_right_one(target: Target) -> None:
    image = target.push("keyed")
    for _ in range(50):
        target.attach(image, bundle(make_key(), statement(image.digest)))
    target.refused(image)
    target.sign(image)
    target.countersign.lab.wait_for(lambda: target.create(image.by_tag).status == 201, what="its absence is forgotten")


def test_an_attestation_about_another_image_counts_for_nothing(target: Target) -> None:
    scanned, image = target.push("scanned"), target.push("scanned")
    target.attest(scanned, target.scanner)
    target.sign(image)
    target.attach(image, json.dumps(target.bundle_of(scanned)).encode())
    target.refused(image, "AttestationMissing")


def test_a_release_key_does_not_sign_its_own_scan(target: Target) -> None:
    image = target.push("scanned")
    target.sign(image)
    target.attest(image, target.release)
    target.refused(image, "AttestationMissing")


def test_who_may_only_attest_does_not_vouch_for_the_image(target: Target) -> None:
    image = target.push("scanned")
    target.sign(image, target.scanner)
    target.attest(image, target.scanner)
    target.refused(image)


def test_an_attestation_of_another_type_counts_for_nothing(target: Target) -> None:
    image = target.push("scanned")
    target.sign(image)
    for kind in (
        SCAN + "/",
        SCAN + "1",
        SCAN.upper(),
        "https://example.com/scan",
        "https://sigstore.dev/cosign/sign/v1",
    ):
        target.attest(image, target.scanner, kind)
    target.refused(image, "AttestationMissing")


def test_an_attestation_is_no_signature_whatever_type_it_gives_itself(target: Target) -> None:
    image = target.push("keyed")
    target.attest(image, target.release, "https://sigstore.dev/cosign/sign/v2")
    target.attest(image, target.release)
    target.refused(image)


def test_what_is_large_or_nested_deep_counts_for_nothing_and_holds_nobody_up(target: Target) -> None:
    image, other = target.push("keyed"), target.push("keyed")
    target.sign(other)
    for junk in (
        b'{"verificationMaterial":' + b"[" * 200_000,
        b'{"verificationMaterial":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"verificationMaterial": {}, "x": "' + b"x" * 5_000_000 + b'"}',
        b'{"verificationMaterial": {}, "x": ' + b"9" * 900_000 + b"}",
    ):
        target.attach(image, junk)
    target.refused(image)
    target.admitted(other)
    target.sign(image)
    target.lab.wait_for(lambda: target.create(image.by_tag).status == 201, what="its absence is forgotten")


def test_nothing_that_is_compressed_is_unpacked(target: Target) -> None:
    elsewhere = target.push("elsewhere", "compressed")
    target.sign(elsewhere)
    good = json.dumps(target.bundle_of(elsewhere)).encode()
    image = target.push("keyed", "compressed")
    bomb = gzip.compress(b"\0" * 50_000_000)
    for data, kind in (
        (gzip.compress(good), "application/vnd.dev.sigstore.bundle.v0.3+json+gzip"),
        (gzip.compress(good), "application/vnd.dev.sigstore.bundle.v0.3+json"),
        (bomb, "application/vnd.dev.sigstore.bundle.v0.3+json"),
    ):
        target.attach(image, data, media_type=kind)
    target.refused(image)


def test_an_image_at_the_metadata_service_is_not_asked_for(target: Target) -> None:
    assert "is not contacted" in target.refused("169.254.169.254/latest/meta-data:v1", "ImageUnverifiable")
