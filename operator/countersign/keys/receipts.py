"""Admission receipts on the wire: compact JWS over bytes (RFC 7515), HMAC-SHA256, key named by id.

HMAC on purpose: the gate signs, gate and controller verify, and both hold the key; nobody else has a use for a
receipt, and a symmetric signature costs a fraction of an asymmetric one on the admission path.

The JWS is assembled here rather than by PyJWT, which looks at each character in Python: a receipt of 2.8 kB took it
42 us to sign and 155 us to verify, against 11 and 16 us below. Any JWS library reads the result (the
tests use PyJWT). Only the one spelling that `sign` produces is accepted: known header bytes, canonical base64url.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from countersign.keys.errors import (
    BadReceiptSignatureError,
    KeysError,
    MalformedReceiptError,
    ReceiptError,
    ReceiptTooLargeError,
    RevokedReceiptKeyError,
    UnknownReceiptKeyError,
)
from countersign.keys.receipt_keys import MAX_KEYS, ReceiptKey, ReceiptKeys

ALGORITHM: Final = "HS256"
TYPE: Final = "countersign-receipt+jws"
"""`typ` (RFC 7515 section 4.1.9): keeps receipts apart from anything else that might be signed with these keys."""
MAX_RECEIPT_BYTES: Final = 128 * 1024
"""Half of what all annotations of an object may take together (apimachinery, TotalAnnotationSizeLimitB)."""


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str
    typ: str


class ReceiptSigner:
    """Signs with the key that is due. `keys` may be replaced by a newer set at any time."""

    def __init__(self, keys: ReceiptKeys, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.keys = keys
        self._clock = clock

    def sign(self, payload: bytes) -> str:
        """`payload` as a receipt. Raises ReceiptTooLargeError, or KeysError when no key may sign."""
        key = self.keys.signing_key(self._clock())
        if key is None:
            raise KeysError("every receipt key is revoked: the controller makes a new one within a minute")
        signed = _header_of(key.id) + b"." + _encode(payload)
        text = signed + b"." + _mac(key, signed)
        if len(text) > MAX_RECEIPT_BYTES:
            raise ReceiptTooLargeError(f"the receipt would be {len(text)} bytes, the limit is {MAX_RECEIPT_BYTES}")
        return text.decode()


class ReceiptVerifier:
    """Verifies by the key that the receipt names."""

    def __init__(self, keys: ReceiptKeys) -> None:
        self.keys = keys

    @property
    def keys(self) -> ReceiptKeys:
        """The keys believed in; may be replaced by a newer set at any time."""
        return self._keys

    @keys.setter
    def keys(self, keys: ReceiptKeys) -> None:
        self._keys = keys
        self._by_header = {_header_of(key.id): key for key in keys.keys}

    def verify(self, text: str) -> tuple[bytes, str]:
        """The signed payload and the id of its key. Raises a ReceiptError; one byte of difference is enough for it."""
        if len(text) > MAX_RECEIPT_BYTES:
            raise ReceiptTooLargeError(f"the receipt is {len(text)} characters, the limit is {MAX_RECEIPT_BYTES}")
        try:
            signed, dot, signature = text.encode("ascii").rpartition(b".")
        except UnicodeEncodeError as error:
            raise MalformedReceiptError("not a compact JWS: characters outside ASCII") from error
        header, second_dot, payload = signed.partition(b".")
        if not dot or not second_dot:
            raise MalformedReceiptError("not a compact JWS: it has three parts, divided by dots")
        key = self._by_header.get(header)
        if key is None:
            raise _unknown_header(header, self._keys)
        if key.id in self._keys.revoked:
            raise RevokedReceiptKeyError(f"signed by the revoked receipt key {key.id!r}")
        # Text against text: a signature that only decodes to the same bytes is refused as well.
        if not hmac.compare_digest(signature, _mac(key, signed)):
            raise BadReceiptSignatureError(f"the signature is not that of receipt key {key.id!r}")
        return _decode(payload), key.id


def receipt_hash(text: str) -> str:
    """`sha256:<hex>` of a receipt's text, as its grant remembers it."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def key_id_of(text: str) -> str:
    """The id of the key that a receipt names, unverified; empty where it names none."""
    try:
        return msgspec.json.decode(_decode(text.partition(".")[0].encode("ascii")), type=_Header).kid
    except (msgspec.MsgspecError, ValueError, MalformedReceiptError):
        return ""


def resting_key(recorded: str, spent_hash: str, annotation: str) -> str:
    """The id of the key that a grant rests on; empty if that is not known.

    `recorded` is the grant's own record; older grants have none, and then the receipt on the pod tells, if its hash is
    the one that was verified when the grant was made (`spent_hash`).
    """
    if recorded or not spent_hash or receipt_hash(annotation) != spent_hash:
        return recorded
    return key_id_of(annotation)


@lru_cache(MAX_KEYS)
def _header_of(key_id: str) -> bytes:
    return _encode(msgspec.json.encode(_Header(ALGORITHM, key_id, TYPE)))


def _unknown_header(header: bytes, keys: ReceiptKeys) -> ReceiptError:
    try:
        read = msgspec.json.decode(_decode(header), type=_Header)
    except (msgspec.MsgspecError, ValueError, MalformedReceiptError):
        return MalformedReceiptError("not a compact JWS: the header cannot be read")
    if read.alg != ALGORITHM or read.typ != TYPE or keys.find(read.kid):
        return MalformedReceiptError(f"not a receipt: its header must say alg={ALGORITHM}, kid, typ={TYPE}, no more")
    if read.kid in keys.revoked:
        return RevokedReceiptKeyError(f"signed by the revoked receipt key {read.kid!r}")
    return UnknownReceiptKeyError(f"signed by the receipt key {read.kid!r}, which is not known (any more)")


def _mac(key: ReceiptKey, signed: bytes) -> bytes:
    return _encode(hmac.digest(key.secret, signed, "sha256"))


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _decode(segment: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise MalformedReceiptError("not a compact JWS: a part is not base64url") from error
