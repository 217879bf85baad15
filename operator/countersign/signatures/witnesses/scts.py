"""Signed certificate timestamps: a certificate log's promise that it has the certificate.

Sources: RFC 6962, sections 3.2 (what is signed) and 3.3 (embedded in the certificate).
"""

import struct
from datetime import UTC
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.certificate_transparency import LogEntryType, SignedCertificateTimestamp

from countersign.signatures.roots.trust_root import Log, TrustRoot

MAX_SCTS: Final = 8
"""Of one certificate; Fulcio embeds one."""


def vouching_log(certificate: x509.Certificate, issuer: x509.Certificate, root: TrustRoot) -> Log | None:
    """The certificate log of the root that has signed for this certificate of this issuer; None: none has."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
        timestamps = list(extension.value)[:MAX_SCTS]
        issuer_key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        entry = _precertificate(certificate, issuer_key)
    except (x509.ExtensionNotFound, ValueError, UnsupportedAlgorithm):
        return None
    for timestamp in timestamps:
        log = root.certificate_logs.get(timestamp.log_id)
        try:
            if log is not None and _holds(timestamp, entry, log):
                return log
        except (ValueError, OverflowError, UnsupportedAlgorithm):
            continue
    return None


def _precertificate(certificate: x509.Certificate, issuer_key: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(issuer_key)
    body = certificate.tbs_precertificate_bytes
    return digest.finalize() + len(body).to_bytes(3, "big") + body


def _holds(timestamp: SignedCertificateTimestamp, entry: bytes, log: Log) -> bool:
    time = timestamp.timestamp.replace(tzinfo=UTC)
    if (
        timestamp.entry_type is not LogEntryType.PRE_CERTIFICATE
        or not isinstance(timestamp.signature_hash_algorithm, hashes.SHA256)
        or not log.window.holds(time)
    ):
        return False
    # The library gives the time as a datetime: whole milliseconds come back exactly from its parts, not from a float.
    milliseconds = int(time.replace(microsecond=0).timestamp()) * 1000 + time.microsecond // 1000
    extensions = timestamp.extension_bytes
    signed = (
        struct.pack("!BBQH", timestamp.version.value, 0, milliseconds, timestamp.entry_type.value)
        + entry
        + struct.pack("!H", len(extensions))
        + extensions
    )
    return log.key.verify(timestamp.signature, signed)
