"""The Secrets that hold Countersign's keys: their shape, written and read strictly.

    countersign-ca            authorities.json   every authority with its private key; read by the controller alone
    countersign-gate-tls      tls.crt tls.key ca.crt   (type kubernetes.io/tls)
    countersign-verifier-tls  the same
    countersign-receipt-keys  keys.json          every receipt key and the revoked ids; read by gate and controller

Files hold what a mounted Secret shows: plain bytes. `to_secret_data` and `from_secret_data` convert to and from the
base64 of `Secret.data`.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeVar

import msgspec

from countersign.keys.authority import MAX_AUTHORITIES, Authority, AuthoritySet, ServingCertificate
from countersign.keys.errors import UnreadableKeysError
from countersign.keys.receipt_keys import MAX_KEYS, MAX_REVOKED, SECRET_BYTES, ReceiptKey, ReceiptKeys

T = TypeVar("T", bound="_Stored")

Files = Mapping[str, bytes]
"""Contents of a Secret by key, decoded."""

AUTHORITIES_FILE: Final = "authorities.json"
RECEIPT_KEYS_FILE: Final = "keys.json"
CERTIFICATE_FILE: Final = "tls.crt"
PRIVATE_KEY_FILE: Final = "tls.key"
TRUST_BUNDLE_FILE: Final = "ca.crt"

MAX_FILE_BYTES: Final = 1024 * 1024
"""The API server's own limit on a Secret (k8s.io/api core/v1, MaxSecretSize)."""


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of what is stored: an unknown field means that a newer version wrote it, so it is not touched."""


class _StoredAuthority(_Stored, frozen=True):
    certificate: str
    private_key: str
    created_at: datetime


class _StoredAuthorities(_Stored, frozen=True):
    authorities: tuple[_StoredAuthority, ...]


class _StoredReceiptKey(_Stored, frozen=True):
    id: str
    secret: bytes  # base64 in JSON
    created_at: datetime


class _StoredReceiptKeys(_Stored, frozen=True):
    keys: tuple[_StoredReceiptKey, ...]
    revoked: tuple[str, ...] = ()


def encode_authorities(authorities: AuthoritySet) -> dict[str, bytes]:
    """The files of the Secret `countersign-ca`."""
    stored = _StoredAuthorities(
        tuple(
            _StoredAuthority(one.certificate.decode(), one.private_key.decode(), one.created_at)
            for one in authorities.authorities
        )
    )
    return {AUTHORITIES_FILE: msgspec.json.encode(stored)}


def decode_authorities(files: Files) -> AuthoritySet:
    """The authorities in the Secret `countersign-ca`. Raises UnreadableKeysError."""
    stored = _decode(files, AUTHORITIES_FILE, _StoredAuthorities)
    if len(stored.authorities) > MAX_AUTHORITIES:
        raise UnreadableKeysError(f"{AUTHORITIES_FILE}: more than {MAX_AUTHORITIES} authorities")
    found = AuthoritySet(
        tuple(
            Authority(one.certificate.encode(), one.private_key.encode(), _aware(one.created_at, AUTHORITIES_FILE))
            for one in stored.authorities
        )
    )
    if any(later.created_at < earlier.created_at for earlier, later in pairwise(found.authorities)):
        raise UnreadableKeysError(f"{AUTHORITIES_FILE}: authorities must stand oldest first")
    for authority in found.authorities:
        _ = authority.parsed  # refuse here what would fail at first use
    return found


def encode_serving(serving: ServingCertificate) -> dict[str, bytes]:
    """The files of a `kubernetes.io/tls` Secret, and beside them the bundle that its clients trust."""
    return {
        CERTIFICATE_FILE: serving.certificate,
        PRIVATE_KEY_FILE: serving.private_key,
        TRUST_BUNDLE_FILE: serving.trust_bundle,
    }


def decode_serving(files: Files) -> ServingCertificate:
    """The serving certificate in a `kubernetes.io/tls` Secret. Raises UnreadableKeysError when a file is missing."""
    return ServingCertificate(
        _file(files, CERTIFICATE_FILE), _file(files, PRIVATE_KEY_FILE), _file(files, TRUST_BUNDLE_FILE)
    )


def encode_receipt_keys(keys: ReceiptKeys) -> dict[str, bytes]:
    """The files of the Secret `countersign-receipt-keys`."""
    stored = _StoredReceiptKeys(
        tuple(_StoredReceiptKey(key.id, key.secret, key.created_at) for key in keys.keys), tuple(sorted(keys.revoked))
    )
    return {RECEIPT_KEYS_FILE: msgspec.json.encode(stored)}


def decode_receipt_keys(files: Files) -> ReceiptKeys:
    """The keys in the Secret `countersign-receipt-keys`. Raises UnreadableKeysError."""
    stored = _decode(files, RECEIPT_KEYS_FILE, _StoredReceiptKeys)
    if len(stored.keys) > MAX_KEYS or len(stored.revoked) > MAX_REVOKED:
        raise UnreadableKeysError(f"{RECEIPT_KEYS_FILE}: more than {MAX_KEYS} keys or {MAX_REVOKED} revoked ids")
    if len({key.id for key in stored.keys}) != len(stored.keys):
        raise UnreadableKeysError(f"{RECEIPT_KEYS_FILE}: two keys share an id")
    if any(not key.id or len(key.secret) != SECRET_BYTES for key in stored.keys):
        raise UnreadableKeysError(f"{RECEIPT_KEYS_FILE}: each key needs an id and a secret of {SECRET_BYTES} bytes")
    keys = tuple(ReceiptKey(key.id, key.secret, _aware(key.created_at, RECEIPT_KEYS_FILE)) for key in stored.keys)
    if any(later.created_at < earlier.created_at for earlier, later in pairwise(keys)):
        raise UnreadableKeysError(f"{RECEIPT_KEYS_FILE}: keys must stand oldest first")
    return ReceiptKeys(keys, frozenset(stored.revoked))


def to_secret_data(files: Files) -> dict[str, str]:
    """`Secret.data`: each file as standard base64."""
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def from_secret_data(data: Mapping[str, str] | None) -> dict[str, bytes]:
    """The files in `Secret.data`. Raises UnreadableKeysError on anything that is not base64."""
    try:
        return {name: base64.b64decode(text, validate=True) for name, text in (data or {}).items()}
    except (binascii.Error, ValueError) as error:
        raise UnreadableKeysError(f"Secret.data is not base64: {error}") from error


def _file(files: Files, name: str) -> bytes:
    content = files.get(name)
    if not content:
        raise UnreadableKeysError(
            f"{name} is missing or empty: the controller writes it; delete the Secret to renew it"
        )
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableKeysError(f"{name} is larger than {MAX_FILE_BYTES} bytes")
    return content


def _decode(files: Files, name: str, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(_file(files, name), type=shape)
    except msgspec.MsgspecError as error:
        # The decoder's text names the field, never its value.
        raise UnreadableKeysError(
            f"{name} is not what Countersign writes ({error}): restore it, or delete the Secret"
        ) from error


def _aware(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is None:
        raise UnreadableKeysError(f"{name}: createdAt needs a time zone")
    return moment
