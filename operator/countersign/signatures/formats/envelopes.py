"""DSSE envelopes: a payload with its type, and the signatures over both.

Source: DSSE protocol.md and envelope.md (secure-systems-lab/dsse, v1.0). The same JSON stands alone in a classic `.att`
layer and inside a Sigstore bundle.
"""

import base64
import binascii

import msgspec

from countersign.signatures.errors import SignatureError


class EnvelopeSignature(msgspec.Struct):
    """One signature, in base64."""

    sig: str


class Envelope(msgspec.Struct, rename="camel"):
    """An envelope as it stands in JSON."""

    payload: str
    payload_type: str
    signatures: tuple[EnvelopeSignature, ...]

    def decoded_payload(self) -> bytes:
        """The payload's bytes. Raises SignatureError."""
        try:
            return base64.b64decode(self.payload, validate=True)
        except (binascii.Error, ValueError):
            raise SignatureError("Malformed", "the envelope's payload is not base64") from None


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature covers (DSSE protocol.md, "Signature Definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
