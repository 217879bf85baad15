"""The bare signature in either format: base64 text."""

import base64
import binascii
from typing import Final

from countersign.signatures.errors import SignatureError

MAX_SIGNATURE_LENGTH: Final = 2048
"""As base64 text; RSA of 8192 bits takes 1,368 characters."""


def decode_signature(text: str) -> bytes:
    """Strict base64 (RFC 4648, section 4), bounded. Raises SignatureError."""
    if len(text) > MAX_SIGNATURE_LENGTH:
        raise SignatureError("Malformed", f"the signature is longer than {MAX_SIGNATURE_LENGTH} characters")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("Malformed", "the signature is not base64") from None
