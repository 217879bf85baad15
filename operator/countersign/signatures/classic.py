"""cosign's classic form: a simple-signing payload as a layer, its signature in the layer's annotation.

Source: sigstore/cosign specs/SIGNATURE_SPEC.md; the payload is containers/image's containers-signature(5).
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from countersign.signatures.annotations import SIGNATURE_ANNOTATION
from countersign.signatures.errors import SignatureError
from countersign.signatures.keys import PublicKey
from countersign.signatures.signers import open_payload
from countersign.trust.evidence.facts import Vouch
from countersign.trust.strict_json import BadJSON, parse_as

__all__ = ["PAYLOAD_MEDIA_TYPE", "SIGNATURE_ANNOTATION", "claimed_reference", "signature_tag", "verify_classic"]

PAYLOAD_MEDIA_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
PAYLOAD_TYPE: Final = "cosign container image signature"
MAX_DOCKER_REFERENCE_LENGTH: Final = 1024
MAX_TAGGED_HEX: Final = 116
"""A tag has at most 128 characters (distribution specification), so no SHA-512 digest fits with prefix and suffix."""


class _Identity(msgspec.Struct):
    docker_reference: str = msgspec.field(name="docker-reference", default="")


class _Image(msgspec.Struct):
    docker_manifest_digest: str = msgspec.field(name="docker-manifest-digest")


class _Critical(msgspec.Struct):
    image: _Image
    type: str
    identity: _Identity = msgspec.field(default_factory=_Identity)


class _Payload(msgspec.Struct):
    critical: _Critical


def signature_tag(digest: str) -> str | None:
    """The tag under which cosign keeps a digest's classic signatures; None where it would be too long to be a tag."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}-{encoded}.sig" if len(encoded) <= MAX_TAGGED_HEX else None


def verify_classic(payload: bytes, signature: str, digest: str, keys: Sequence[PublicKey]) -> Vouch:
    """Judge one payload with one signature (base64, from the annotation) for the image with this digest.

    The signature is checked before anything of the payload is read. Raises SignatureError.
    """
    (vouch,) = open_payload(payload, {SIGNATURE_ANNOTATION: signature}, keys, ())
    return msgspec.structs.replace(vouch, reference=claimed_reference(payload, digest))


def claimed_reference(payload: bytes, digest: str) -> str:
    """The docker-reference of a payload whose signature holds, if it is about this digest. Raises SignatureError."""
    try:
        critical = parse_as(payload, _Payload).critical
    except BadJSON as error:
        raise SignatureError("Malformed", f"the payload is not simple signing: {error}") from None
    if critical.type != PAYLOAD_TYPE:
        raise SignatureError("OtherType", f"the payload's type is {critical.type[:80]!r}, not {PAYLOAD_TYPE!r}")
    if critical.image.docker_manifest_digest != digest:
        raise SignatureError(
            "OtherDigest", f"the signature is for {critical.image.docker_manifest_digest[:140]!r}, not for this image"
        )
    reference = critical.identity.docker_reference
    if len(reference) > MAX_DOCKER_REFERENCE_LENGTH or not (reference.isascii() and reference.isprintable()):
        raise SignatureError("Malformed", "the payload's docker-reference is no image reference")
    return reference
