"""Public keys: read from PEM or DER, named by their fingerprint, and what counts as a signature by each kind.

Keys of signers, and of the logs that vouch for them. Algorithms are Sigstore's registry of default algorithms
(sigstore/sigstore, pkg/signature/algorithm_registry.go), with the SHA-256 variants of P-384 and P-521 that cosign
before version 3 wrote. The key decides the algorithm, never the message. Ed25519 has two forms (RFC 8032): pure, as
cosign wrote it before version 3, and pre-hashed (Ed25519ph), as it writes it since. They cannot be taken for each
other: the second signs under a prefix of its own.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

MIN_RSA_BITS: Final = 2048  # NIST SP 800-131A Rev. 2
MAX_RSA_BITS: Final = 8192
"""Verifying time grows with the size: larger keys serve nobody but those who want to keep us busy."""
MAX_PEM_LENGTH: Final = 4096
"""An 8192-bit RSA key takes about 1,500 characters."""

_Check = Callable[[bytes, bytes], None]
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)


class BadPublicKey(ValueError):  # noqa: N818 - the condition, as the standard library names its own
    """The text is no public key that signatures are accepted from. The message says what to put there instead."""


class PublicKey:
    """A signer's public key. Two are equal if their fingerprints are. Make it with `parse_public_key`."""

    __slots__ = ("_checks", "der", "description", "fingerprint")

    def __init__(self, der: bytes, description: str, checks: tuple[_Check, ...]) -> None:
        """`der` is the SubjectPublicKeyInfo; each check raises InvalidSignature."""
        self.der: Final = der
        self.fingerprint: Final = "sha256:" + hashlib.sha256(der).hexdigest()
        self.description: Final = description
        self._checks = checks

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether this key signed exactly these bytes. About 100 us for P-256, up to 1 ms for P-521."""
        for check in self._checks:
            try:
                check(signature, message)
            except (InvalidSignature, ValueError):
                continue
            return True
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"PublicKey({self.description}, {self.fingerprint})"


@lru_cache(maxsize=1024)
def parse_public_key(pem: str) -> PublicKey:
    """Read one PEM block of type PUBLIC KEY. Raises BadPublicKey.

    A pure function with a memory: the same policies' keys are asked for with every pod.
    """
    text = pem.strip()
    _refuse_what_is_no_public_key(text)
    try:
        key = load_pem_public_key(text.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadPublicKey(
            f"the PEM block cannot be read ({str(error)[:120]}): copy cosign.pub whole, with its BEGIN and END lines"
        ) from None
    return public_key_of(key)


def load_public_key(der: bytes) -> PublicKey:
    """Read a SubjectPublicKeyInfo in DER. Raises BadPublicKey."""
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadPublicKey(f"not a SubjectPublicKeyInfo in DER ({str(error)[:120]})") from None
    return public_key_of(key)


def public_key_of(key: object) -> PublicKey:
    """A key that cryptography has read, if it is of a kind that is accepted. Raises BadPublicKey."""
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise BadPublicKey("the key is of a kind that cosign does not sign with: use ECDSA P-256, RSA or Ed25519")
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return PublicKey(der, f"ECDSA {key.curve.name}", _ecdsa_checks(key))
    if isinstance(key, rsa.RSAPublicKey):
        return PublicKey(der, f"RSA {key.key_size}", _rsa_checks(key))
    raw = key.public_bytes_raw()
    return PublicKey(
        der, "Ed25519", (key.verify, lambda signature, message: _verify_prehashed(raw, signature, message))
    )


def fingerprint(pem: str) -> str:
    """`sha256:<hex>` over the key's SubjectPublicKeyInfo in DER. Raises BadPublicKey."""
    return parse_public_key(pem).fingerprint


def _refuse_what_is_no_public_key(text: str) -> None:
    if len(text) > MAX_PEM_LENGTH:
        raise BadPublicKey(f"longer than {MAX_PEM_LENGTH} characters: a public key is one short PEM block")
    if "PRIVATE KEY" in text:
        raise BadPublicKey(
            "this is a PRIVATE key: put the public half here (cosign public-key --key ...), "
            "and treat the private one as leaked"
        )
    if "BEGIN CERTIFICATE" in text:
        raise BadPublicKey("this is a certificate: take its public key (openssl x509 -pubkey -noout -in FILE)")
    if not text.startswith("-----BEGIN PUBLIC KEY-----"):
        raise BadPublicKey("a public key starts with -----BEGIN PUBLIC KEY----- (what cosign writes to cosign.pub)")
    if text.count("-----BEGIN") > 1:
        raise BadPublicKey("more than one PEM block: give each key an entry of its own")


def _ecdsa_checks(key: ec.EllipticCurvePublicKey) -> tuple[_Check, ...]:
    algorithms: tuple[hashes.HashAlgorithm, ...]
    match key.curve:
        case ec.SECP256R1():
            algorithms = (hashes.SHA256(),)
        case ec.SECP384R1():
            algorithms = (hashes.SHA384(), hashes.SHA256())
        case ec.SECP521R1():
            algorithms = (hashes.SHA512(), hashes.SHA256())
        case _:
            raise BadPublicKey(f"the curve {key.curve.name} is not accepted: use P-256, P-384 or P-521")
    return tuple(_ecdsa_check(key, algorithm) for algorithm in algorithms)


def _ecdsa_check(key: ec.EllipticCurvePublicKey, algorithm: hashes.HashAlgorithm) -> _Check:
    return lambda signature, message: key.verify(signature, message, ec.ECDSA(algorithm))


def _verify_prehashed(public: bytes, signature: bytes, message: bytes) -> None:
    """Ed25519ph, RFC 8032, section 5.1, with no context. cryptography has only the pure form."""
    # Loaded with the first Ed25519 signature that is not pure.
    from nacl import bindings
    from nacl.exceptions import CryptoError

    state = bindings.crypto_sign_ed25519ph_state()
    bindings.crypto_sign_ed25519ph_update(state, message)
    try:
        bindings.crypto_sign_ed25519ph_final_verify(state, signature, public)
    except CryptoError:
        raise InvalidSignature from None


def _rsa_checks(key: rsa.RSAPublicKey) -> tuple[_Check, ...]:
    if key.key_size < MIN_RSA_BITS:
        raise BadPublicKey(f"an RSA key of {key.key_size} bits is too weak: at least {MIN_RSA_BITS} are needed")
    if key.key_size > MAX_RSA_BITS:
        raise BadPublicKey(f"an RSA key of {key.key_size} bits is not accepted: at most {MAX_RSA_BITS}")
    # cosign signs with PKCS #1 v1.5; key management services that it can use sign with PSS.
    return (
        lambda signature, message: key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256()),
        lambda signature, message: key.verify(signature, message, _PSS, hashes.SHA256()),
    )
