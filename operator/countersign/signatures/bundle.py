"""A Sigstore bundle (v0.3) by key: a DSSE envelope with an in-toto statement that says "this image is signed".

Sources: sigstore/protobuf-specs sigstore_bundle.proto; DSSE protocol.md (PAE); in-toto attestation Statement v1;
cosign 3 (cmd/cosign/cli/sign/sign.go) for the predicate type. Certificates, log entries and timestamps in the bundle
are not read: a signature by a key that the policy names needs none of them.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from countersign.signatures.errors import SignatureError
from countersign.signatures.keys import PublicKey
from countersign.signatures.raw import decode_signature, signing_key
from countersign.trust.evidence.facts import Vouch
from countersign.trust.strict_json import BadJSON, parse_as

BUNDLE_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
BUNDLE_MEDIA_TYPE_PREFIX: Final = "application/vnd.dev.sigstore.bundle"
"""What a referrer's layer must start with to be worth fetching; the bundle's own media type then decides."""
PREDICATE_TYPE_ANNOTATION: Final = "dev.sigstore.bundle.predicateType"
SIGN_PREDICATE_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"

_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"


class _PublicKeyHint(msgspec.Struct):
    hint: str = ""


class _Material(msgspec.Struct, rename="camel"):
    public_key: _PublicKeyHint | None = None


class _Signature(msgspec.Struct):
    sig: str


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    dsse_envelope: _Envelope | None = None
    verification_material: _Material = msgspec.field(default_factory=_Material)


class _Subject(msgspec.Struct):
    digest: dict[str, str] = {}


class _Statement(msgspec.Struct):
    type: str = msgspec.field(name="_type")
    predicate_type: str = msgspec.field(name="predicateType")
    subject: tuple[_Subject, ...] = ()
    predicate: Any = None


def verify_bundle(bundle: bytes, digest: str, keys: Sequence[PublicKey]) -> Vouch:
    """Judge one bundle for the image with this digest. Costs about 10 ms for 1 MiB. Raises SignatureError.

    The envelope's signature is checked before anything of the statement is read. The hint in the verification material
    only decides which key is tried first.
    """
    envelope, hint = _envelope(bundle)
    if envelope.payload_type != _PAYLOAD_TYPE:
        raise SignatureError("OtherType", f"the envelope holds {envelope.payload_type[:80]!r}, no in-toto statement")
    if len(envelope.signatures) != 1:
        raise SignatureError("Malformed", "a bundle's envelope has exactly one signature")
    try:
        payload = base64.b64decode(envelope.payload, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("Malformed", "the envelope's payload is not base64") from None
    signature = decode_signature(envelope.signatures[0].sig)
    message = pre_authentication_encoding(envelope.payload_type, payload)
    key = signing_key(signature, message, _hinted_first(keys, hint))
    _judge_statement(payload, digest)
    return Vouch(key_fingerprint=key.fingerprint, format="bundle", reference="")


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature covers (DSSE protocol.md, "Signature Definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _envelope(data: bytes) -> tuple[_Envelope, str]:
    try:
        bundle = parse_as(data, _Bundle)
    except BadJSON as error:
        raise SignatureError("Malformed", f"not a Sigstore bundle: {error}") from None
    if bundle.media_type != BUNDLE_MEDIA_TYPE:
        raise SignatureError("Malformed", f"the bundle's media type is {bundle.media_type[:80]!r}, not v0.3")
    if bundle.dsse_envelope is None:
        raise SignatureError("OtherType", "the bundle has no DSSE envelope: it signs a blob, not an image")
    material = bundle.verification_material.public_key
    return bundle.dsse_envelope, material.hint if material else ""


def _hinted_first(keys: Sequence[PublicKey], hint: str) -> Sequence[PublicKey]:
    # cosign's hint is the base64 of the SHA-256 over the SubjectPublicKeyInfo, which is what our fingerprint is in hex.
    try:
        hinted = "sha256:" + base64.b64decode(hint, validate=True).hex()
    except (binascii.Error, ValueError):
        return keys
    return sorted(keys, key=lambda key: key.fingerprint != hinted)


def _judge_statement(payload: bytes, digest: str) -> None:
    try:
        statement = parse_as(payload, _Statement)
    except BadJSON as error:
        raise SignatureError("Malformed", f"the envelope holds no in-toto statement: {error}") from None
    if statement.type != _STATEMENT_TYPE:
        raise SignatureError("OtherType", f"the statement is of type {statement.type[:80]!r}, not {_STATEMENT_TYPE!r}")
    if statement.predicate_type != SIGN_PREDICATE_TYPE:
        raise SignatureError(
            "OtherType",
            f"the statement's predicate is {statement.predicate_type[:120]!r}: an attestation is not a signature",
        )
    algorithm, _, encoded = digest.partition(":")
    if not any(subject.digest.get(algorithm) == encoded for subject in statement.subject):
        raise SignatureError("OtherDigest", "the statement is about another image")
