"""Sigstore bundles, read: JSON of several versions into one shape.

Source: sigstore/protobuf-specs protos/sigstore_bundle.proto.
"""

import base64
import binascii
from typing import Final

import msgspec

from countersign.signatures.envelopes import Envelope
from countersign.signatures.errors import SignatureError
from countersign.trust.strict_json import BadJSON, parse_as

BUNDLE_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
BUNDLE_MEDIA_TYPE_PREFIX: Final = "application/vnd.dev.sigstore.bundle"
"""What a referrer's layer must start with to be worth fetching; the bundle's own media type then decides."""


class _PublicKeyHint(msgspec.Struct):
    hint: str = ""


class _Material(msgspec.Struct, rename="camel"):
    public_key: _PublicKeyHint | None = None


class Bundle(msgspec.Struct, rename="camel"):
    """A bundle as it stands in JSON."""

    media_type: str
    dsse_envelope: Envelope | None = None
    verification_material: _Material = msgspec.field(default_factory=_Material)

    @property
    def hinted_fingerprint(self) -> str:
        """Fingerprint of the key that the bundle says made it, if it says so; nothing may rest on it."""
        # cosign's hint is the base64 of the SHA-256 over the SubjectPublicKeyInfo: our fingerprint is the same in hex.
        hint = self.verification_material.public_key
        try:
            return "sha256:" + base64.b64decode(hint.hint, validate=True).hex() if hint else ""
        except (binascii.Error, ValueError):
            return ""


def read_bundle(data: bytes) -> Bundle:
    """Costs about 10 ms for 1 MiB. Raises SignatureError."""
    try:
        bundle = parse_as(data, Bundle)
    except BadJSON as error:
        raise SignatureError("Malformed", f"not a Sigstore bundle: {error}") from None
    if bundle.media_type != BUNDLE_MEDIA_TYPE:
        raise SignatureError("Malformed", f"the bundle's media type is {bundle.media_type[:80]!r}, not v0.3")
    return bundle
