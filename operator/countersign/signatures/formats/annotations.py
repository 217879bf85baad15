"""What cosign's classic form keeps in the annotations of a layer: signature, certificate, log entry, timestamp.

Source: sigstore/cosign pkg/oci/static/signature.go (names), pkg/cosign/bundle/rekor.go and tsa.go (their JSON).
"""

import base64
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from countersign.signatures.errors import SignatureError
from countersign.signatures.formats.encodings import decode
from countersign.signatures.witnesses.certificates import MAX_CERTIFICATE_BYTES, SigningCertificate, read_certificate
from countersign.signatures.witnesses.log_entries import LogEntry
from countersign.signatures.witnesses.proofs import Material
from countersign.trust.strict_json import BadJSON, parse_as

SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"
CERTIFICATE_ANNOTATION: Final = "dev.sigstore.cosign/certificate"
BUNDLE_ANNOTATION: Final = "dev.sigstore.cosign/bundle"
TIMESTAMP_ANNOTATION: Final = "dev.sigstore.cosign/rfc3161timestamp"
# `dev.sigstore.cosign/chain` is not read: the evidence root alone says who issues.

_R = TypeVar("_R")
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


class _Payload(msgspec.Struct, rename="camel"):
    body: str
    integrated_time: int
    log_index: int
    log_id: str = msgspec.field(name="logID")


class _RekorBundle(msgspec.Struct, rename="pascal"):
    signed_entry_timestamp: str
    payload: _Payload


class _Timestamp(msgspec.Struct):
    signed: str = msgspec.field(name="SignedRFC3161Timestamp")


def read_annotations(annotations: Mapping[str, str]) -> Material:
    """What can be read of it: nobody has signed the annotations, so what is damaged is left out, and told."""
    problems: list[str] = []
    certificate = _read(annotations, CERTIFICATE_ANNOTATION, _certificate, problems)
    entry = _read(annotations, BUNDLE_ANNOTATION, _entry, problems)
    timestamp = _read(annotations, TIMESTAMP_ANNOTATION, _timestamp, problems)
    return Material(
        certificate=certificate,
        entries=(entry,) if entry is not None else (),
        timestamps=(timestamp,) if timestamp is not None else (),
        problems=tuple(problems),
    )


def _read(annotations: Mapping[str, str], name: str, read: Callable[[str], _R], problems: list[str]) -> _R | None:
    text = annotations.get(name, "")
    try:
        return read(text) if text else None
    except SignatureError as error:
        problems.append(str(error))
        return None


def _certificate(text: str) -> SigningCertificate:
    pem = text.strip()
    if len(pem) > 2 * MAX_CERTIFICATE_BYTES or not (pem.startswith(_BEGIN) and pem.endswith(_END)):
        raise SignatureError("Malformed", "the certificate is no PEM block")
    return read_certificate(decode("".join(pem[len(_BEGIN) : -len(_END)].split()), "the certificate"))


def _entry(text: str) -> LogEntry:
    try:
        bundle = parse_as(text.encode("utf-8", "surrogatepass"), _RekorBundle)
        log_id = bytes.fromhex(bundle.payload.log_id)
    except (BadJSON, ValueError) as error:
        raise SignatureError("Malformed", f"the log entry cannot be read: {str(error)[:120]}") from None
    payload = bundle.payload
    if payload.log_index < 0 or payload.integrated_time < 0:
        raise SignatureError("Malformed", "the log entry has a negative index or time")
    return LogEntry(
        log_id=log_id,
        log_index=payload.log_index,
        body=decode(payload.body, "a log entry"),
        integrated_time=payload.integrated_time,
        promise=decode(bundle.signed_entry_timestamp, "a log entry's promise"),
        proof=None,
    )


def _timestamp(text: str) -> bytes:
    try:
        return base64.b64decode(parse_as(text.encode("utf-8", "surrogatepass"), _Timestamp).signed, validate=True)
    except (BadJSON, ValueError) as error:
        raise SignatureError("Malformed", f"the timestamp cannot be read: {str(error)[:120]}") from None
