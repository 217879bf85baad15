"""Countersign's own CA: which authorities exist, which of them signs, and when a serving certificate is renewed.

All plans are pure in `now` and their input (fresh keys apart): the controller stores what they return. Certificates
follow RFC 5280. Several authorities live side by side during a roll-over:

    created ── OVERLAP ──► signs ────────────► successor signs ── LEAF_LIFETIME + OVERLAP ──► dropped
    (trusted from the start)                   (still trusted: leaves it signed are about)

so whoever trusts the bundle of today can verify the certificate served tomorrow, and the one served yesterday.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from countersign.keys.errors import UnreadableKeysError

AUTHORITY_LIFETIME: Final = timedelta(days=365)
LEAF_LIFETIME: Final = timedelta(days=30)
RENEW_AT: Final = 2 / 3
"""Share of its life after which a certificate is replaced (what cert-manager and the kubelet do)."""
OVERLAP: Final = timedelta(days=1)
"""How long a new authority is trusted before it signs: copies of the bundle must reach every client first."""
BACKDATE: Final = timedelta(minutes=5)
"""How far `notBefore` lies in the past, for clients whose clock is behind."""
MAX_AUTHORITIES: Final = 4
"""Never reached in the ordinary life of a CA (at most two are alive); bounds what is read from the Secret."""


@dataclass(frozen=True)
class Authority:
    """One CA: PEM certificate, PEM private key (PKCS #8, unencrypted), and when it entered the trust bundle."""

    certificate: bytes
    private_key: bytes
    created_at: datetime

    @cached_property
    def parsed(self) -> x509.Certificate:
        """The certificate. Raises UnreadableKeysError."""
        return parse_certificate(self.certificate)


@dataclass(frozen=True)
class AuthoritySet:
    """Every authority that is still trusted, oldest first. Never empty."""

    authorities: tuple[Authority, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.authorities) <= MAX_AUTHORITIES:
            raise UnreadableKeysError(f"a CA needs 1 to {MAX_AUTHORITIES} authorities, found {len(self.authorities)}")

    def trust_bundle(self) -> bytes:
        """What clients trust: the PEM certificates of all of them (a webhook's `caBundle`, a Secret's `ca.crt`)."""
        return b"".join(authority.certificate for authority in self.authorities)

    def issuer(self, now: datetime) -> Authority:
        """The authority that signs now: the newest that has been trusted for OVERLAP, else the oldest valid one."""
        valid = [authority for authority in self.authorities if _is_valid(authority.parsed, now)] or self.authorities
        established = [authority for authority in valid if authority.created_at + OVERLAP <= now]
        return established[-1] if established else valid[0]


@dataclass(frozen=True)
class ServingCertificate:
    """What a server presents and what its clients trust: contents of a `kubernetes.io/tls` Secret, all PEM."""

    certificate: bytes
    private_key: bytes
    trust_bundle: bytes


def plan_authorities(current: AuthoritySet | None, now: datetime) -> AuthoritySet | None:
    """The set of authorities that should exist at `now`, or None when `current` is right as it is.

    Adds a successor at two thirds of the newest one's life; drops an authority when the last leaf it can have signed
    is over, or when it has expired itself. With no authority left that is valid, starts a new one that signs at once.
    """
    if current is None:
        return AuthoritySet((new_authority(now),))
    kept = [authority for authority in current.authorities if now < authority.parsed.not_valid_after_utc]
    if not kept or _past_renewal(kept[-1].parsed, now):
        kept.append(new_authority(now))
    for index in reversed(range(len(kept) - 1)):
        signed_until = kept[index + 1].created_at + OVERLAP
        if now >= signed_until + LEAF_LIFETIME + OVERLAP:
            del kept[: index + 1]
            break
    planned = AuthoritySet(tuple(kept))
    return None if planned == current else planned


def plan_serving(
    current: ServingCertificate | None, authorities: AuthoritySet, names: Sequence[str], now: datetime
) -> ServingCertificate | None:
    """The serving certificate for `names` (DNS names or IP addresses) at `now`, or None when `current` will do.

    A leaf is replaced at two thirds of its life, when another authority signs by now, when its names differ, or when
    it cannot be read. A change of the trust bundle alone keeps leaf and key.
    """
    bundle = authorities.trust_bundle()
    issuer = authorities.issuer(now)
    if current is None or not _serves(current, issuer, names, now):
        certificate, private_key = issue(issuer, names, now)
        return ServingCertificate(certificate, private_key, bundle)
    if current.trust_bundle != bundle:
        return ServingCertificate(current.certificate, current.private_key, bundle)
    return None


def new_authority(now: datetime) -> Authority:
    """A fresh self-signed CA on ECDSA P-256 that may sign leaves only (path length 0)."""
    now = now.replace(microsecond=0)  # what X.509 and the Secret can hold
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # The serial in the name keeps successive authorities apart for clients that look issuers up by name.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"countersign-ca-{serial:x}"[:64])])
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key), now)


def issue(authority: Authority, names: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
    """A serving certificate for `names` and its key, both PEM. It never outlives the authority.

    Raises UnreadableKeysError if the authority's key is not its certificate's, ValueError without names.
    """
    if not names:
        raise ValueError("a serving certificate needs at least one DNS name or IP address")
    signer = _private_key(authority.private_key)
    parent = authority.parsed
    if signer.public_key() != parent.public_key():
        raise UnreadableKeysError(
            "the CA's private key is not that of its certificate: delete the Secret to start anew"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(parent.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATE, parent.not_valid_before_utc))
        .not_valid_after(min(now + LEAF_LIFETIME, parent.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key)


def parse_certificate(pem: bytes) -> x509.Certificate:
    """The first certificate in `pem`. Raises UnreadableKeysError."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise UnreadableKeysError(f"not a PEM certificate: {error}") from error


def _serves(current: ServingCertificate, issuer: Authority, names: Sequence[str], now: datetime) -> bool:
    try:
        leaf = parse_certificate(current.certificate)
        key = _private_key(current.private_key)
        leaf.verify_directly_issued_by(issuer.parsed)
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (UnreadableKeysError, x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return (
        key.public_key() == leaf.public_key()
        and set(alternatives) == {_general_name(name) for name in names}
        and _is_valid(leaf, now)
        and not _past_renewal(leaf, now)
    )


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _past_renewal(certificate: x509.Certificate, now: datetime) -> bool:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= start + (end - start) * RENEW_AT


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise UnreadableKeysError(f"not an unencrypted PEM private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UnreadableKeysError("the private key is not an elliptic-curve key, which is all that Countersign makes")
    return key
