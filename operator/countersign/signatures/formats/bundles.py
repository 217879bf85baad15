"""Sigstore bundles, read: JSON of several versions into one shape.

Source: sigstore/protobuf-specs protos/sigstore_bundle.proto and sigstore_rekor.proto. Versions 0.1 to 0.3 differ in
what they must bring: a log entry has an inclusion proof since 0.2, a promise is all that 0.1 needs.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import msgspec

from countersign.signatures.errors import SignatureError
from countersign.signatures.formats.encodings import decode, whole
from countersign.signatures.formats.envelopes import Envelope
from countersign.signatures.witnesses.certificates import SigningCertificate, read_certificate
from countersign.signatures.witnesses.inclusion import InclusionProof
from countersign.signatures.witnesses.log_entries import MAX_LOG_ENTRIES, LogEntry
from countersign.signatures.witnesses.proofs import Material
from countersign.signatures.witnesses.timestamps import MAX_TIMESTAMPS
from countersign.trust.strict_json import BadJSON, parse_as

BUNDLE_MEDIA_TYPE_PREFIX: Final = "application/vnd.dev.sigstore.bundle"
"""What a referrer's layer must start with to be worth fetching; the bundle's own media type then decides."""
MAX_CHAIN_LENGTH: Final = 8

_P = TypeVar("_P")
_R = TypeVar("_R")
_MEDIA_TYPE: Final = re.compile(r"application/vnd\.dev\.sigstore\.bundle(?:\+json;version=0\.([123])|\.v0\.(3)\+json)")


class _PublicKeyHint(msgspec.Struct):
    hint: str = ""


class _Bytes(msgspec.Struct, rename="camel"):
    raw_bytes: str = ""


class _Chain(msgspec.Struct):
    certificates: tuple[_Bytes, ...] = ()


class _KeyId(msgspec.Struct, rename="camel"):
    key_id: str = ""


class _KindVersion(msgspec.Struct):
    kind: str = ""
    version: str = ""


class _Promise(msgspec.Struct, rename="camel"):
    signed_entry_timestamp: str = ""


class _Checkpoint(msgspec.Struct):
    envelope: str = ""


class _InclusionProof(msgspec.Struct, rename="camel"):
    log_index: int | str = 0
    root_hash: str = ""
    tree_size: int | str = 0
    hashes: tuple[str, ...] = ()
    checkpoint: _Checkpoint = msgspec.field(default_factory=_Checkpoint)


class _LogEntry(msgspec.Struct, rename="camel"):
    log_id: _KeyId = msgspec.field(default_factory=_KeyId)
    log_index: int | str = 0
    kind_version: _KindVersion = msgspec.field(default_factory=_KindVersion)
    integrated_time: int | str | None = None
    inclusion_promise: _Promise | None = None
    inclusion_proof: _InclusionProof | None = None
    canonicalized_body: str = ""


class _Timestamp(msgspec.Struct, rename="camel"):
    signed_timestamp: str = ""


class _Timestamps(msgspec.Struct):
    rfc3161_timestamps: tuple[Any, ...] = msgspec.field(name="rfc3161Timestamps", default=())


class _Material(msgspec.Struct, rename="camel"):
    public_key: _PublicKeyHint | None = None
    certificate: _Bytes | None = None
    x509_certificate_chain: _Chain | None = msgspec.field(name="x509CertificateChain", default=None)
    tlog_entries: tuple[Any, ...] | None = None
    timestamp_verification_data: _Timestamps | None = None


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    dsse_envelope: Envelope | None = None
    verification_material: Any = None


class Bundle(msgspec.Struct):
    """A bundle that was read: nothing of it is verified."""

    envelope: Envelope | None
    """None: it signs a blob."""
    material: Material
    hinted_fingerprint: str
    """Fingerprint of the key that the bundle says made it, if it says so; nothing may rest on it."""


def read_bundle(data: bytes) -> Bundle:
    """Costs about 10 ms for 1 MiB. Raises SignatureError (Malformed)."""
    try:
        bundle = parse_as(data, _Bundle)
    except BadJSON as error:
        raise SignatureError("Malformed", f"not a Sigstore bundle: {error}") from None
    version = _MEDIA_TYPE.fullmatch(bundle.media_type)
    if version is None:
        raise SignatureError("Malformed", f"the bundle's media type is {bundle.media_type[:80]!r}, not v0.1 to v0.3")
    hint, material = _material(bundle.verification_material, proof_needed=version[1] != "1")
    return Bundle(envelope=bundle.dsse_envelope, material=material, hinted_fingerprint=_hinted(hint))


def _material(value: Any, *, proof_needed: bool) -> tuple[str, Material]:
    """What can be read of it. None of it is signed by the bundle's maker, so what is damaged is left out, and told."""
    try:
        material = msgspec.convert(value, _Material) if value is not None else _Material()
    except msgspec.ValidationError as error:
        return "", Material(problems=(f"the verification material cannot be read: {str(error)[:120]}",))
    stamps = material.timestamp_verification_data.rfc3161_timestamps if material.timestamp_verification_data else ()
    problems: list[str] = []
    entries = material.tlog_entries or ()
    if len(entries) > MAX_LOG_ENTRIES or len(stamps) > MAX_TIMESTAMPS:
        problems.append("the bundle has more log entries or timestamps than are looked at")
    certificates = _readable((material,), _certificate, problems)
    return material.public_key.hint if material.public_key else "", Material(
        certificate=certificates[0] if certificates else None,
        entries=_readable(entries[:MAX_LOG_ENTRIES], _entry, problems),
        timestamps=_readable(stamps[:MAX_TIMESTAMPS], _timestamp, problems),
        proof_needed=proof_needed,
        problems=tuple(problems),
    )


def _readable(parts: Iterable[_P], read: Callable[[_P], _R], problems: list[str]) -> tuple[_R, ...]:
    readable = []
    for part in parts:
        try:
            readable.append(read(part))
        except (SignatureError, msgspec.ValidationError) as error:
            problems.append(str(error)[:160])
    return tuple(readable)


def _timestamp(value: Any) -> bytes:
    return decode(msgspec.convert(value, _Timestamp).signed_timestamp, "a timestamp")


def _certificate(material: _Material) -> SigningCertificate | None:
    leaf = _leaf(material)
    return read_certificate(leaf) if leaf is not None else None


def _leaf(material: _Material) -> bytes | None:
    if material.certificate is not None:
        return decode(material.certificate.raw_bytes, "the certificate")
    if material.x509_certificate_chain is None:
        return None
    certificates = material.x509_certificate_chain.certificates
    if not 1 <= len(certificates) <= MAX_CHAIN_LENGTH:
        raise SignatureError("Malformed", f"the certificate chain has {len(certificates)} certificates")
    # What follows the leaf is not read: the evidence root alone says who issues.
    return decode(certificates[0].raw_bytes, "the certificate")


def _entry(value: Any) -> LogEntry:
    entry = msgspec.convert(value, _LogEntry)
    proof = entry.inclusion_proof
    promise = entry.inclusion_promise
    return LogEntry(
        log_id=decode(entry.log_id.key_id, "a log's ID"),
        log_index=whole(entry.log_index, "a log index"),
        body=decode(entry.canonicalized_body, "a log entry"),
        integrated_time=whole(entry.integrated_time or 0, "a log entry's time"),
        promise=decode(promise.signed_entry_timestamp, "a log entry's promise") if promise is not None else None,
        proof=InclusionProof(
            leaf_index=whole(proof.log_index, "a log index"),
            size=whole(proof.tree_size, "a log's size"),
            root=decode(proof.root_hash, "an inclusion proof's root hash"),
            hashes=tuple(decode(one, "a hash of an inclusion proof") for one in proof.hashes),
            checkpoint=proof.checkpoint.envelope,
        )
        if proof is not None
        else None,
        kind=entry.kind_version.kind,
        version=entry.kind_version.version,
    )


def _hinted(hint: str) -> str:
    # cosign's hint is the base64 of the SHA-256 over the SubjectPublicKeyInfo: our fingerprint is the same in hex.
    try:
        return "sha256:" + base64.b64decode(hint, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""
