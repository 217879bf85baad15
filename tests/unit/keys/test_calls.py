"""Calls to a gate: those of our controller are believed, and nobody else's."""

from datetime import UTC, datetime, timedelta

import pytest

from countersign.keys.calls import MAX_AGE_SECONDS, MAX_HEADER, CallVerifier, sign_call
from countersign.keys.errors import KeysError
from countersign.keys.receipt_keys import ReceiptKeys, plan_receipt_keys, revoke_receipt_key
from countersign.keys.receipts import ReceiptSigner

NOW = datetime(2026, 11, 22, tzinfo=UTC)
KEYS = plan_receipt_keys(None, NOW - timedelta(days=1)) or ReceiptKeys(())
OTHERS = plan_receipt_keys(None, NOW - timedelta(days=1)) or ReceiptKeys(())
PATH, BODY = "/internal/outlook", b'{"namespace":"a"}'
HEADER = sign_call(KEYS, PATH, BODY, NOW)


def verifier(keys: ReceiptKeys = KEYS, *, now: datetime = NOW) -> CallVerifier:
    return CallVerifier(lambda: keys, lambda: now)


def test_a_call_of_ours_is_believed() -> None:
    assert verifier().claims(HEADER)
    assert verifier().verify(HEADER, PATH, BODY)


@pytest.mark.parametrize(("path", "body"), [("/internal/tallies", BODY), (PATH, b""), (PATH, BODY + b" ")])
def test_it_counts_for_its_path_and_body_only(path: str, body: bytes) -> None:
    assert not verifier().verify(HEADER, path, body)


@pytest.mark.parametrize("seconds", [-MAX_AGE_SECONDS - 1, MAX_AGE_SECONDS + 1])
def test_it_counts_for_a_minute(seconds: float) -> None:
    late = verifier(now=NOW + timedelta(seconds=seconds))
    assert not late.claims(HEADER)
    assert not late.verify(HEADER, PATH, BODY)


def test_the_time_cannot_be_changed() -> None:
    key, at, mac = HEADER.removeprefix("Countersign ").split(".")
    assert not verifier().verify(f"Countersign {key}.{int(at) + 1}.{mac}", PATH, BODY)


def test_a_key_of_others_does_not_count() -> None:
    assert not verifier(OTHERS).verify(HEADER, PATH, BODY)


def test_a_revoked_key_does_not_count_and_does_not_sign() -> None:
    revoked = revoke_receipt_key(KEYS, KEYS.keys[0].id, NOW)
    assert not verifier(revoked).claims(HEADER)
    assert verifier(revoked).verify(sign_call(revoked, PATH, BODY, NOW), PATH, BODY)
    with pytest.raises(KeysError):
        sign_call(ReceiptKeys(KEYS.keys, frozenset(key.id for key in KEYS.keys)), PATH, BODY, NOW)


def test_a_receipt_is_no_call() -> None:
    receipt = ReceiptSigner(KEYS, lambda: NOW).sign(BODY)
    signature = receipt.rpartition(".")[2]
    assert not verifier().verify(f"Countersign {KEYS.keys[0].id}.{int(NOW.timestamp())}.{signature}", PATH, BODY)


@pytest.mark.parametrize(
    "header",
    ["", "Countersign", "Countersign ", "Countersign ..", "Bearer x.y.z", "Countersign é.1.x", "Countersign a.²0.x",
     pytest.param(f"Countersign {KEYS.keys[0].id}.1e9.x", id="no whole seconds"), "Countersign " + "a" * MAX_HEADER],
)  # fmt: skip
def test_anything_else_is_no_call(header: str) -> None:
    assert not verifier().claims(header)
    assert not verifier().verify(header, PATH, BODY)
