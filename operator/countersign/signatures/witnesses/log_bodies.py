"""What a transparency log's entry is about: it must be this signature, by this key or certificate, over this message.

Without that an entry of somebody else's would lend its time to any signature (CVE-2022-36056). Sources: the entry
types of sigstore/rekor pkg/types (hashedrekord 0.0.1, dsse 0.0.1, intoto 0.0.1 and 0.0.2) and of sigstore/rekor-tiles
api/proto/rekor/v2 (hashedrekord 0.0.2, dsse 0.0.2).
"""

import base64
import hashlib
from typing import Final, NamedTuple

import msgspec

from countersign.signatures.errors import SignatureError
from countersign.signatures.formats.encodings import decode
from countersign.trust.strict_json import BadJSON, parse_as

_HASHES: Final = {
    "SHA2_256": "sha256",
    "SHA2_384": "sha384",
    "SHA2_512": "sha512",
    "sha256": "sha256",
    "sha384": "sha384",
    "sha512": "sha512",
}
_PEM_LABELS: Final = ("CERTIFICATE", "PUBLIC KEY")


class Signed(NamedTuple):
    """A signature, and what it covers."""

    message: bytes
    """What the signer signed: a payload, or a DSSE envelope's pre-authentication encoding."""
    signature: bytes
    payload: bytes | None = None
    """The payload, if the message is a DSSE envelope's."""
    document: bytes | None = None
    """The whole envelope as it is stored, where it is (a classic `.att`)."""
    verifier: bytes = b""
    """What it was verified by: the certificate, or the key's SubjectPublicKeyInfo, in DER."""

    @property
    def stampable(self) -> tuple[bytes, ...]:
        """What a timestamp may be over: the signature, or the stored envelope, which has the signature in it.

        cosign 3 stamps the former (cmd/cosign/cli/attest/attest.go) and expects the latter (pkg/cosign/verify.go).
        """
        return (self.signature,) if self.document is None else (self.signature, self.document)


class _Content(msgspec.Struct):
    content: str = ""


class _Hash(msgspec.Struct):
    algorithm: str = ""
    value: str = ""


class _HashedData(msgspec.Struct):
    hash: _Hash


class _Signature1(msgspec.Struct, rename="camel"):
    content: str
    public_key: _Content


class _HashedRekord1(msgspec.Struct):
    data: _HashedData
    signature: _Signature1


class _DsseSignature1(msgspec.Struct):
    signature: str
    verifier: str


class _Dsse1(msgspec.Struct, rename="camel"):
    payload_hash: _Hash
    signatures: tuple[_DsseSignature1, ...]


class _IntotoSignature(msgspec.Struct, rename="camel"):
    sig: str
    public_key: str


class _IntotoEnvelope(msgspec.Struct):
    signatures: tuple[_IntotoSignature, ...]


class _IntotoContent(msgspec.Struct, rename="camel"):
    payload_hash: _Hash = msgspec.field(default_factory=_Hash)
    hash: _Hash = msgspec.field(default_factory=_Hash)
    envelope: _IntotoEnvelope | None = None


class _Intoto(msgspec.Struct, rename="camel"):
    content: _IntotoContent
    public_key: str = ""


class _Raw(msgspec.Struct, rename="camel"):
    raw_bytes: str


class _Verifier2(msgspec.Struct, rename="camel"):
    x509_certificate: _Raw | None = msgspec.field(name="x509Certificate", default=None)
    public_key: _Raw | None = None


class _Signature2(msgspec.Struct):
    content: str
    verifier: _Verifier2


class _Digest2(msgspec.Struct):
    algorithm: str
    digest: str


class _HashedRekord2(msgspec.Struct):
    data: _Digest2
    signature: _Signature2


class _Dsse2(msgspec.Struct, rename="camel"):
    payload_hash: _Digest2
    signatures: tuple[_Signature2, ...]


class _Spec2(msgspec.Struct):
    hashed_rekord: _HashedRekord2 | None = msgspec.field(name="hashedRekordV002", default=None)
    dsse: _Dsse2 | None = msgspec.field(name="dsseV002", default=None)


class _Body(msgspec.Struct, rename="camel"):
    kind: str
    api_version: str
    spec: msgspec.Raw | dict[str, object]


def judge_body(body: bytes, kind: str, version: str, signed: Signed) -> None:
    """Raises SignatureError unless the entry is about the signature.

    `kind` and `version`, if given, must be its own.
    """
    try:
        entry = parse_as(body, _Body)
        if (kind or entry.kind, version or entry.api_version) != (entry.kind, entry.api_version):
            raise SignatureError("Untrusted", "the log entry is of another kind than is said of it")
        about = _is_about(entry, signed)
    except (BadJSON, msgspec.ValidationError) as error:
        raise SignatureError("Malformed", f"the log entry cannot be read: {str(error)[:120]}") from None
    if not about:
        raise SignatureError("Untrusted", "the log entry is about another signature")


def is_v2(body: bytes) -> bool:
    """Whether the entry is of a log of the second generation, which knows no time and promises nothing."""
    try:
        entry = parse_as(body, _Body)
    except BadJSON:
        return False
    return (entry.kind, entry.api_version) in {("hashedrekord", "0.0.2"), ("dsse", "0.0.2")}


def _is_about(entry: _Body, signed: Signed) -> bool:
    spec = entry.spec
    match entry.kind, entry.api_version:
        case "hashedrekord", "0.0.1" if signed.payload is None:
            record = msgspec.convert(spec, _HashedRekord1)
            verifier = _pem(decode(record.signature.public_key.content, "the log entry's key"))
            return (
                _is_hex_digest(record.data.hash, signed.message)
                and decode(record.signature.content, "the log entry's signature") == signed.signature
                and verifier == signed.verifier
            )
        case "dsse", "0.0.1" if signed.payload is not None:
            envelope = msgspec.convert(spec, _Dsse1)
            return _is_hex_digest(envelope.payload_hash, signed.payload) and any(
                decode(one.signature, "the log entry's signature") == signed.signature
                and _pem(decode(one.verifier, "the log entry's key")) == signed.verifier
                for one in envelope.signatures
            )
        case "intoto", ("0.0.1" | "0.0.2") if signed.payload is not None:
            return _intoto_is_about(msgspec.convert(spec, _Intoto), signed, signed.payload)
        case "hashedrekord", "0.0.2":
            record2 = msgspec.convert(spec, _Spec2).hashed_rekord
            return (
                record2 is not None
                and _is_digest(record2.data, signed.message)
                and _is_signature(record2.signature, signed)
            )
        case "dsse", "0.0.2" if signed.payload is not None:
            envelope2 = msgspec.convert(spec, _Spec2).dsse
            return (
                envelope2 is not None
                and _is_digest(envelope2.payload_hash, signed.payload)
                and any(_is_signature(one, signed) for one in envelope2.signatures)
            )
    return False


def _intoto_is_about(intoto: _Intoto, signed: Signed, payload: bytes) -> bool:
    content = intoto.content
    if not _is_hex_digest(content.payload_hash, payload):
        return False
    if content.envelope is not None:
        return any(
            # The signature's base64 is encoded once more (rekor, types/intoto/v0.0.2).
            decode(decode(one.sig, "the log entry's signature").decode("ascii", "replace"), "the log entry's signature")
            == signed.signature
            and _pem(decode(one.public_key, "the log entry's key")) == signed.verifier
            for one in content.envelope.signatures
        )
    # 0.0.1 names the envelope by its hash, which says the signature only to whoever has the envelope's very bytes.
    return (
        signed.document is not None
        and _is_hex_digest(content.hash, signed.document)
        and _pem(decode(intoto.public_key, "the log entry's key")) == signed.verifier
    )


def _is_signature(signature: _Signature2, signed: Signed) -> bool:
    verifier = signature.verifier.x509_certificate or signature.verifier.public_key
    return (
        verifier is not None
        and decode(signature.content, "the log entry's signature") == signed.signature
        and decode(verifier.raw_bytes, "the log entry's key") == signed.verifier
    )


def _is_hex_digest(digest: _Hash, message: bytes) -> bool:
    name = _HASHES.get(digest.algorithm)
    return name is not None and hashlib.new(name, message).hexdigest() == digest.value


def _is_digest(digest: _Digest2, message: bytes) -> bool:
    name = _HASHES.get(digest.algorithm)
    return name is not None and hashlib.new(name, message).digest() == decode(digest.digest, "the log entry's digest")


def _pem(pem: bytes) -> bytes | None:
    """The DER of one PEM block; None: it is none that a signature could be held against."""
    text = pem.decode("ascii", "replace").strip()
    for label in _PEM_LABELS:
        begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
        if text.startswith(begin) and text.endswith(end):
            try:
                return base64.b64decode("".join(text[len(begin) : -len(end)].split()), validate=True)
            except ValueError:
                return None
    return None
