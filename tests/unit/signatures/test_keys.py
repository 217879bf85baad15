"""Which public keys are accepted, what they are called, and what they verify."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from countersign.signatures.keys import BadPublicKey, fingerprint, parse_public_key
from tests.fakes.signing import PrivateKey, make_key, pem_of, sign

MESSAGE = b"what was signed"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
        (ec.generate_private_key(ec.SECP521R1()), hashes.SHA256()),
        (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
    ids=["p256", "p384-sha384", "p384-sha256", "p521-sha512", "p521-sha256", "rsa", "ed25519"],
)
def test_each_kind_of_key_verifies_its_own_signatures_and_no_others(
    key: PrivateKey, algorithm: hashes.HashAlgorithm | None
) -> None:
    public = parse_public_key(pem_of(key))
    signature = base64.b64decode(sign(key, MESSAGE, algorithm))
    assert public.verify(signature, MESSAGE)
    assert not public.verify(signature, MESSAGE + b"!")
    assert not public.verify(signature[:-1], MESSAGE)
    assert not public.verify(b"", MESSAGE)
    assert not parse_public_key(pem_of(make_key())).verify(signature, MESSAGE)


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA384()])  # noqa: S303 - the point is that it is refused
def test_an_rsa_signature_over_another_hash_is_not_accepted(algorithm: hashes.HashAlgorithm) -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert not parse_public_key(pem_of(key)).verify(base64.b64decode(sign(key, MESSAGE, algorithm)), MESSAGE)


def test_the_fingerprint_is_the_sha256_of_the_subject_public_key_info() -> None:
    key = make_key()
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert fingerprint(pem_of(key)) == "sha256:" + hashlib.sha256(der).hexdigest()
    assert fingerprint("\n" + pem_of(key).replace("\n", "\r\n")) == fingerprint(pem_of(key))
    assert parse_public_key(pem_of(key)) == parse_public_key(pem_of(key) + "\n")
    assert parse_public_key(pem_of(key)) != parse_public_key(pem_of(make_key()))


def _public(key: dsa.DSAPrivateKey | ed448.Ed448PrivateKey | PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "starts with"),
        ("ssh-ed25519 AAAA me@example.com", "starts with"),
        (
            make_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "put the public half here",
        ),
        ("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAA==\n-----END", "leaked"),
        ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", "openssl x509"),
        ("-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----", "copy cosign.pub whole"),
        ("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----", "copy cosign.pub whole"),
        (pem_of(make_key()) + pem_of(make_key()), "an entry of its own"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "too weak"),  # noqa: S505 - the point is that it is refused
        (pem_of(ec.generate_private_key(ec.SECP256K1())), "curve secp256k1"),
        (_public(ed448.Ed448PrivateKey.generate()), "kind that cosign does not sign with"),
        ("-----BEGIN PUBLIC KEY-----" + "A" * 5000, "longer than"),
        ("-----BEGIN PUBLIC KEY-----\n\u00e9\n-----END PUBLIC KEY-----", "copy cosign.pub whole"),
    ],
)
def test_what_is_no_usable_public_key_is_refused_with_the_way_out(text: str, says: str) -> None:
    with pytest.raises(BadPublicKey, match=says):
        parse_public_key(text)
