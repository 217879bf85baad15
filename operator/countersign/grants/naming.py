"""Names of grants. The API server refuses a second object of a name, and so a second use of a receipt."""

import hashlib
from typing import Final

_PREFIX: Final = "wg-"
REFUSED_PREFIX: Final = "refused-"
_LENGTH: Final = 32  # hexadecimal digits: 128 bits, as many as a nonce needs to be unique


def grant_name(nonce: str) -> str:
    """The one name that a receipt with this nonce can be spent under. Any text gives a valid object name."""
    return _PREFIX + hashlib.sha256(nonce.encode()).hexdigest()[:_LENGTH]


def refused_name(pod_uid: str) -> str:
    """The name of the record of a governed pod that has no acceptable receipt."""
    return REFUSED_PREFIX + pod_uid


def is_refused(name: str) -> bool:
    """Whether the grant records a refusal: it never holds tokens."""
    return name.startswith(REFUSED_PREFIX)
