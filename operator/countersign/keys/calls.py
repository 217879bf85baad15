"""Calls from the controller to a gate: signed with what both hold already, the receipt keys.

    Authorization: Countersign <key id>.<seconds since 1970>.<base64url of the MAC>

The MAC (HMAC-SHA256) covers time, path and body. It is made by a key derived from the receipt key for this use alone
(HKDF-Expand, RFC 5869 section 2.3, one block), so that no receipt is ever a call and no call a receipt. TLS keeps a
call from being seen; one that was seen all the same can be repeated for MAX_AGE_SECONDS, and does nothing but count.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from countersign.keys.errors import KeysError
from countersign.keys.receipt_keys import MAX_KEYS, ReceiptKeys

SCHEME: Final = "Countersign"
MAX_AGE_SECONDS: Final = 60
"""How far the clocks of controller and gate may differ, and how long a call may take to arrive."""
MAX_HEADER: Final = 256
_INFO: Final = b"countersign.dev gate call v1"

_Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


def sign_call(keys: ReceiptKeys, path: str, body: bytes, now: datetime) -> str:
    """The Authorization header of a call. Raises KeysError when no key may sign."""
    key = keys.signing_key(now)
    if key is None:
        raise KeysError("no receipt key may sign: the controller makes a new one within a minute")
    at = str(int(now.timestamp()))
    return f"{SCHEME} {key.id}.{at}.{_mac(key.secret, at, path, body)}"


class CallVerifier:
    """Tells whether a call is our controller's. `keys` is asked each time: they may be replaced at any moment."""

    def __init__(self, keys: Callable[[], ReceiptKeys], clock: _Clock = _now) -> None:
        self._keys = keys
        self._clock = clock

    def claims(self, header: str) -> bool:
        """Whether the header may be genuine, as far as can be told without the body: known key, present time."""
        return self._parts(header) is not None

    def verify(self, header: str, path: str, body: bytes) -> bool:
        """Whether it is genuine."""
        parts = self._parts(header)
        if parts is None:
            return False
        secret, at, mac = parts
        return hmac.compare_digest(mac.encode(), _mac(secret, at, path, body).encode())

    def _parts(self, header: str) -> tuple[bytes, str, str] | None:
        scheme, _, text = header.partition(" ")
        key_id, _, rest = text.partition(".")
        at, _, mac = rest.partition(".")
        if len(header) > MAX_HEADER or scheme != SCHEME or not header.isascii() or not (at.isdigit() and mac):
            return None
        if abs(self._clock().timestamp() - int(at)) > MAX_AGE_SECONDS:
            return None
        keys = self._keys()
        key = keys.find(key_id)
        if key is None or key_id in keys.revoked:
            return None
        return key.secret, at, mac


@lru_cache(MAX_KEYS)
def _derived(secret: bytes) -> bytes:
    return hmac.digest(secret, _INFO + b"\x01", "sha256")


def _mac(secret: bytes, at: str, path: str, body: bytes) -> str:
    # Neither a time nor a path of ours has a line end, and the hash has a fixed length: no two calls read the same.
    covered = f"{at}\n{path}\n{hashlib.sha256(body).hexdigest()}".encode()
    return base64.urlsafe_b64encode(hmac.digest(_derived(secret), covered, "sha256")).rstrip(b"=").decode()
