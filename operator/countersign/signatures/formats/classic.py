"""cosign's classic form: a simple-signing payload as a layer, its signature in the layer's annotation.

Source: sigstore/cosign specs/SIGNATURE_SPEC.md; the payload is containers/image's containers-signature(5).
"""

from typing import Final

import msgspec

from countersign.signatures.errors import SignatureError
from countersign.trust.strict_json import BadJSON, parse_as

PAYLOAD_TYPE: Final = "cosign container image signature"
MAX_DOCKER_REFERENCE_LENGTH: Final = 1024


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
