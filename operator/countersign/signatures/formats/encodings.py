"""Values as the JSON of protocol buffers has them: bytes as base64, whole numbers as numbers or as text."""

import base64
import binascii
import re
from typing import Final

from countersign.signatures.errors import SignatureError

_DECIMAL: Final = re.compile(r"[0-9]{1,19}")


def decode(text: str, what: str) -> bytes:
    """Strict base64 (RFC 4648, section 4). Raises SignatureError (Malformed)."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("Malformed", f"{what} is not base64") from None


def whole(value: int | str, what: str) -> int:
    """A number from 0 to 2^63-1 (protocol buffers, ProtoJSON: int64 is a string). Raises SignatureError (Malformed)."""
    number = int(value) if isinstance(value, int) or _DECIMAL.fullmatch(value) else -1
    if not 0 <= number < 1 << 63:
        raise SignatureError("Malformed", f"{what} is no whole number that can be")
    return number
