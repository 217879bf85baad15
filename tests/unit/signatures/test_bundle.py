"""Sigstore bundles by key: only a "this image is signed" statement about this very digest vouches."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from countersign.signatures.formats.envelopes import pre_authentication_encoding
from countersign.signatures.keys import parse_public_key
from countersign.signatures.signers import open_envelope
from tests.fakes.examined import RefusedError, vouch_of_bundle
from tests.fakes.signing import bundle, make_key, pem_of, sign, statement

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
KEY = make_key()
PEMS = (pem_of(make_key()), pem_of(KEY))
KEYS = tuple(map(parse_public_key, PEMS))


def test_a_sign_statement_about_this_digest_by_one_of_the_keys_vouches() -> None:
    vouch = vouch_of_bundle(bundle(KEY, statement(DIGEST)), DIGEST, PEMS)
    assert vouch.key_fingerprint == KEYS[1].fingerprint
    assert (vouch.format, vouch.reference) == ("bundle", "")


def test_a_sha512_digest_is_looked_up_under_its_own_algorithm() -> None:
    digest = "sha512:" + "ab" * 64
    assert vouch_of_bundle(bundle(KEY, statement(digest)), digest, PEMS).format == "bundle"
    with pytest.raises(RefusedError):
        vouch_of_bundle(bundle(KEY, statement("sha256:" + "ab" * 64)), digest, PEMS)


@pytest.mark.parametrize("hint", ["", "!!", "é", base64.b64encode(b"someone else").decode()])
def test_a_wrong_hint_changes_nothing(hint: str) -> None:
    data = bundle(KEY, statement(DIGEST), verificationMaterial={"publicKey": {"hint": hint}})
    assert vouch_of_bundle(data, DIGEST, PEMS).key_fingerprint == KEYS[1].fingerprint


def test_a_right_hint_with_a_foreign_signature_does_not_vouch() -> None:
    material = json.loads(bundle(KEY, b""))["verificationMaterial"]
    _refused(bundle(make_key(), statement(DIGEST), verificationMaterial=material), "NoKeyMatches")


def test_one_subject_of_several_is_enough() -> None:
    subjects = [{"name": "nothing"}, {"digest": {"sha256": "cd" * 32}}, {"digest": {"sha256": "ab" * 32}}]
    assert vouch_of_bundle(bundle(KEY, statement(DIGEST, subject=subjects)), DIGEST, PEMS).format == "bundle"


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (statement(OTHER), "OtherDigest"),
        (statement(DIGEST, subject=[]), "OtherDigest"),
        (statement(DIGEST, subject=[{"digest": {"sha512": "ab" * 32}}]), "OtherDigest"),
        (statement(DIGEST, "https://slsa.dev/provenance/v1"), "OtherType"),
        (statement(DIGEST, "https://sigstore.dev/cosign/sign/v1/"), "OtherType"),
        (statement(DIGEST, _type="https://in-toto.io/Statement/v0.1"), "OtherType"),
        (statement(DIGEST, subject="x"), "Malformed"),
        (statement(DIGEST).replace(b'"predicateType":', b'"predicateType": "other", "predicateType":'), "Malformed"),
        (b"", "Malformed"),
        (b"null", "Malformed"),
        (b"[" * 100_000, "Malformed"),
    ],
)
def test_a_genuine_envelope_that_says_something_else_does_not_vouch(payload: bytes, problem: str) -> None:
    _refused(bundle(KEY, payload), problem)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.4"}, "Malformed"),
        ({"mediaType": 3}, "Malformed"),
        ({"dsseEnvelope": None, "messageSignature": {}}, "OtherType"),
        ({"dsseEnvelope": {}}, "Malformed"),
    ],
)
def test_a_bundle_of_another_shape_does_not_vouch(members: dict[str, Any], problem: str) -> None:
    _refused(bundle(KEY, statement(DIGEST), **members), problem)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"payloadType": "text/plain"}, "NoKeyMatches"),
        ({"signatures": []}, "Malformed"),
        ({"payload": "?"}, "Malformed"),
        ({"payload": base64.b64encode(statement(DIGEST) + b" ").decode()}, "NoKeyMatches"),
    ],
)
def test_an_envelope_that_was_tampered_with_does_not_vouch(change: dict[str, Any], problem: str) -> None:
    envelope = json.loads(bundle(KEY, statement(DIGEST)))["dsseEnvelope"] | change
    _refused(bundle(KEY, statement(DIGEST), dsseEnvelope=envelope), problem)


def test_two_signatures_in_one_envelope_are_refused() -> None:
    envelope = json.loads(bundle(KEY, statement(DIGEST)))["dsseEnvelope"]
    _refused(bundle(KEY, b"", dsseEnvelope=envelope | {"signatures": envelope["signatures"] * 2}), "Malformed")


def test_a_member_given_twice_is_refused() -> None:
    data = bundle(KEY, statement(DIGEST))
    _refused(data[:-1] + b', "dsseEnvelope": null}', "Malformed")


def test_a_signature_over_the_bare_payload_without_its_type_does_not_vouch() -> None:
    envelope = json.loads(bundle(KEY, statement(DIGEST)))["dsseEnvelope"]
    envelope["signatures"] = [{"sig": sign(KEY, statement(DIGEST))}]
    _refused(bundle(KEY, b"", dsseEnvelope=envelope), "NoKeyMatches")


def test_the_encoding_is_the_one_in_the_dsse_specification() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_the_specifications_own_envelope_opens_by_its_key() -> None:
    """DSSE protocol.md, "Test Vectors". Its signature is the bare pair of numbers; cosign writes the pair in DER."""
    x = 46950820868899156662930047687818585632848591499744589407958293238635476079160
    y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    pair = base64.b64decode("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
    signature = encode_dss_signature(int.from_bytes(pair[:32], "big"), int.from_bytes(pair[32:], "big"))
    envelope = {
        "payload": "aGVsbG8gd29ybGQ=",
        "payloadType": "http://example.com/HelloWorld",
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    opened = open_envelope(json.dumps(envelope).encode(), {}, (parse_public_key(pem),), ())
    assert (opened.payload_type, opened.payload) == ("http://example.com/HelloWorld", b"hello world")


def _refused(data: bytes, problem: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        vouch_of_bundle(data, DIGEST, PEMS)
    assert refusal.value.problem == problem
