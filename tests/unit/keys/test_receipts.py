"""Receipts: what is signed is read back, and nothing else is believed."""

import base64
import hmac
import json
from datetime import UTC, datetime

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countersign.keys.errors import (
    BadReceiptSignatureError,
    KeysError,
    MalformedReceiptError,
    ReceiptError,
    ReceiptTooLargeError,
    RevokedReceiptKeyError,
    UnknownReceiptKeyError,
)
from countersign.keys.receipt_keys import ReceiptKey, ReceiptKeys, plan_receipt_keys, revoke_receipt_key
from countersign.keys.receipts import MAX_RECEIPT_BYTES, ReceiptSigner, ReceiptVerifier

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def keys() -> ReceiptKeys:
    planned = plan_receipt_keys(None, NOW)
    assert planned
    return planned


KEYS = keys()
RECEIPT = ReceiptSigner(KEYS, lambda: NOW).sign(b'{"pod":"a"}')


@given(st.binary(max_size=2000))
def test_a_signed_payload_is_read_back(payload: bytes) -> None:
    receipt = ReceiptSigner(KEYS, lambda: NOW).sign(payload)
    assert ReceiptVerifier(KEYS).verify(receipt) == (payload, KEYS.keys[0].id)


def test_a_receipt_is_a_jws_that_another_library_reads() -> None:
    read = jwt.PyJWS(algorithms=["HS256"]).decode_complete(RECEIPT, KEYS.keys[0].secret, algorithms=["HS256"])
    assert read["payload"] == b'{"pod":"a"}'
    assert read["header"] == {"alg": "HS256", "kid": KEYS.keys[0].id, "typ": "countersign-receipt+jws"}


@settings(max_examples=500)
@given(st.integers(0, len(RECEIPT) - 1), st.characters())
def test_any_character_changed_is_refused(position: int, character: str) -> None:
    changed = RECEIPT[:position] + character + RECEIPT[position + 1 :]
    if changed == RECEIPT:
        return
    with pytest.raises(ReceiptError):
        ReceiptVerifier(KEYS).verify(changed)


def test_every_other_last_character_is_refused_though_it_may_decode_to_the_same_signature() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for character in set(alphabet) - {RECEIPT[-1]}:
        with pytest.raises(BadReceiptSignatureError):
            ReceiptVerifier(KEYS).verify(RECEIPT[:-1] + character)


@given(st.text(max_size=300))
def test_any_text_gets_a_receipt_error_and_nothing_else(text: str) -> None:
    with pytest.raises(ReceiptError):
        ReceiptVerifier(KEYS).verify(text)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": KEYS.keys[0].id, "typ": "countersign-receipt+jws"},
        {"alg": "HS512", "kid": KEYS.keys[0].id, "typ": "countersign-receipt+jws"},
        {"alg": "HS256", "kid": KEYS.keys[0].id, "typ": "JWT"},
        {"kid": KEYS.keys[0].id, "alg": "HS256", "typ": "countersign-receipt+jws"},
        {"alg": "HS256", "kid": KEYS.keys[0].id, "typ": "countersign-receipt+jws", "crit": ["x"], "x": 1},
    ],
)
def test_another_header_is_refused_though_signed_with_our_key(header: dict[str, object]) -> None:
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(header).encode(), b"{}"))
    signature = hmac.digest(KEYS.keys[0].secret, signed, "sha256")
    foreign = (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
    with pytest.raises(MalformedReceiptError):
        ReceiptVerifier(KEYS).verify(foreign)


def test_a_receipt_of_an_unknown_key_is_named_as_such() -> None:
    with pytest.raises(UnknownReceiptKeyError, match=KEYS.keys[0].id):
        ReceiptVerifier(keys()).verify(RECEIPT)


def test_a_revoked_key_is_refused_at_once_and_a_fresh_one_signs() -> None:
    revoked = revoke_receipt_key(KEYS, KEYS.keys[0].id, NOW)
    verifier = ReceiptVerifier(KEYS)
    verifier.keys = revoked
    with pytest.raises(RevokedReceiptKeyError):
        verifier.verify(RECEIPT)
    assert verifier.verify(ReceiptSigner(revoked, lambda: NOW).sign(b"x"))[1] != KEYS.keys[0].id


def test_the_same_id_with_another_secret_is_a_bad_signature() -> None:
    stranger = ReceiptKeys((ReceiptKey(KEYS.keys[0].id, b"\0" * 32, NOW),))
    with pytest.raises(BadReceiptSignatureError):
        ReceiptVerifier(stranger).verify(RECEIPT)


def test_sizes_are_bounded_both_ways() -> None:
    with pytest.raises(ReceiptTooLargeError):
        ReceiptSigner(KEYS, lambda: NOW).sign(b"x" * MAX_RECEIPT_BYTES)
    with pytest.raises(ReceiptTooLargeError):
        ReceiptVerifier(KEYS).verify("a" * (MAX_RECEIPT_BYTES + 1))


def test_nothing_is_signed_when_every_key_is_revoked() -> None:
    dead = ReceiptKeys(KEYS.keys, frozenset({KEYS.keys[0].id}))
    with pytest.raises(KeysError, match="revoked"):
        ReceiptSigner(dead, lambda: NOW).sign(b"x")


def test_a_key_never_shows_its_secret() -> None:
    assert "secret" not in repr(KEYS)
    assert KEYS.keys[0].secret.hex() not in repr(KEYS)
