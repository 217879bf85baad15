"""The name of a public key: SHA-256 over its SubjectPublicKeyInfo, which a `PUBLIC KEY` PEM block holds (RFC 7468)."""

import base64
import binascii
import hashlib
from typing import Final

_BEGIN: Final = "-----BEGIN PUBLIC KEY-----"
_END: Final = "-----END PUBLIC KEY-----"


def pem_fingerprint(pem: str) -> str | None:
    """`sha256:<hex>`, or None if the text is not one PEM block: such a key vouches for nothing.

    Whoever verifies signatures names a key by the canonical encoding. Where a block holds another encoding of the key
    the two names differ, and the key vouches for nothing either.
    """
    text = pem.strip()
    if not text.startswith(_BEGIN) or not text.endswith(_END):
        return None
    try:
        der = base64.b64decode("".join(text[len(_BEGIN) : -len(_END)].split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return f"sha256:{hashlib.sha256(der).hexdigest()}" if der else None
