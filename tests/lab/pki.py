"""The lab's certificate authority: one root for the control plane, the registries and every identity."""

from __future__ import annotations

import datetime
import ipaddress
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALIDITY = datetime.timedelta(days=30)
_CLOCK_SKEW = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class KeyPairFiles:
    """A certificate and its private key, as PEM files."""

    cert: Path
    key: Path


class CertificateAuthority:
    """Issues ECDSA P-256 certificates into `folder`. The same name and groups give the same files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._issued: dict[tuple[str, ...], KeyPairFiles] = {}
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "countersign-lab-ca")])
        certificate = (
            certificate_builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.files = _write(folder, "ca", certificate, self._key)

    @property
    def cert_file(self) -> Path:
        return self.files.cert

    def server(self, name: str, hosts: Sequence[str] = ("127.0.0.1", "localhost")) -> KeyPairFiles:
        """A certificate for a server reachable under these DNS names and IP addresses. It serves as a client's, too."""
        return self._issue(("server", name), name, (), hosts)

    def client(self, user: str, groups: Sequence[str] = ()) -> KeyPairFiles:
        """A client certificate that the API server reads as this user in these groups (CN and O)."""
        return self._issue(("client", user, *groups), user, groups, ())

    def _issue(self, key: tuple[str, ...], name: str, groups: Sequence[str], hosts: Sequence[str]) -> KeyPairFiles:
        with self._lock:
            if key not in self._issued:
                self._issued[key] = self._sign(f"{key[0]}-{len(self._issued)}", name, groups, hosts)
            return self._issued[key]

    def _sign(self, file_name: str, name: str, groups: Sequence[str], hosts: Sequence[str]) -> KeyPairFiles:
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = certificate_builder(subject, self._name, private.public_key())
        if hosts:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _write(self._folder, file_name, certificate, private)


def write_signing_key(path: Path) -> Path:
    """An RSA key, as kubeadm makes it, with which the API server signs service-account tokens (RS256)."""
    return write_private(path, rsa.generate_private_key(public_exponent=65537, key_size=2048))


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """A certificate of 30 days, valid from a little before now, without extensions."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALIDITY)
    )


def key_usage(*, ca: bool) -> x509.KeyUsage:
    """To sign; an authority: certificates, too."""
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPairFiles:
    files = KeyPairFiles(folder / f"{name}.crt", folder / f"{name}.key")
    files.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    write_private(files.key, key)
    return files


def write_private(path: Path, key: PrivateKeyTypes) -> Path:
    """Write the key as PKCS 8 PEM without a password, for its owner only."""
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
