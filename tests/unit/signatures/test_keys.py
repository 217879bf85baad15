"""Which public keys are accepted, what they are called, and what they verify."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
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


def test_rsa_signatures_with_pss_are_accepted_over_sha256_only() -> None:
    key = rsa.generate_private_key(65537, 2048)
    public = parse_public_key(pem_of(key))
    for salt in (padding.PSS.DIGEST_LENGTH, padding.PSS.MAX_LENGTH):
        assert public.verify(
            key.sign(MESSAGE, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256()), MESSAGE
        )
    other = key.sign(MESSAGE, padding.PSS(padding.MGF1(hashes.SHA512()), padding.PSS.MAX_LENGTH), hashes.SHA512())
    assert not public.verify(other, MESSAGE)


def test_an_ed25519_signature_may_be_pre_hashed() -> None:
    """The vector of RFC 8032, section 7.3."""
    raw = bytes.fromhex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf")
    signature = bytes.fromhex(
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"
        "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
    )
    key = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    public = parse_public_key(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())
    assert public.verify(signature, b"abc")
    assert not public.verify(signature, b"abd")
    assert not public.verify(signature[:-1] + b"\x07", b"abc")


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
