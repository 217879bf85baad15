"""Rotation of receipt keys: published before used, readable after, dropped in the end."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.keys.errors import UnknownReceiptKeyError
from countersign.keys.receipt_keys import (
    MAX_KEYS,
    MAX_REVOKED,
    PROPAGATION,
    RETENTION,
    ROTATE_AFTER,
    ReceiptKeys,
    plan_receipt_keys,
    revoke_receipt_key,
)
from countersign.keys.receipts import ReceiptSigner, ReceiptVerifier

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def first() -> ReceiptKeys:
    planned = plan_receipt_keys(None, NOW)
    assert planned
    return planned


def test_the_first_key_signs_at_once_and_nothing_changes_until_it_is_due() -> None:
    keys = first()
    assert keys.signing_key(NOW) == keys.keys[0]
    assert plan_receipt_keys(keys, NOW + ROTATE_AFTER - timedelta(seconds=1)) is None


def test_a_new_key_is_published_before_it_signs() -> None:
    keys = plan_receipt_keys(first(), NOW + ROTATE_AFTER)
    assert keys
    old, new = keys.keys
    assert keys.signing_key(NOW + ROTATE_AFTER) == old
    assert keys.signing_key(NOW + ROTATE_AFTER + PROPAGATION) == new


def test_a_key_is_dropped_when_the_last_receipt_it_signed_is_too_old() -> None:
    keys = plan_receipt_keys(first(), NOW + ROTATE_AFTER)
    assert keys
    gone = NOW + ROTATE_AFTER + PROPAGATION + RETENTION
    before, after = plan_receipt_keys(keys, gone - timedelta(seconds=1)), plan_receipt_keys(keys, gone)
    assert before
    assert after
    assert keys.keys[0] in before.keys
    assert keys.keys[0] not in after.keys


def test_revoking_a_key_leaves_the_others_in_use() -> None:
    keys = plan_receipt_keys(first(), NOW + ROTATE_AFTER)
    assert keys
    revoked = revoke_receipt_key(keys, keys.keys[1].id, NOW + ROTATE_AFTER)
    assert revoked.keys == keys.keys
    assert revoked.signing_key(NOW + ROTATE_AFTER + PROPAGATION) == keys.keys[0]


def test_revoked_ids_are_bounded() -> None:
    keys = ReceiptKeys(first().keys, frozenset(str(number) for number in range(MAX_REVOKED)))
    with pytest.raises(ValueError, match="delete the Secret"):
        revoke_receipt_key(keys, "one more", NOW)


@given(st.lists(st.timedeltas(timedelta(0), timedelta(days=20)), min_size=1, max_size=30), st.data())
def test_whatever_the_controllers_absences_a_receipt_is_read_by_replicas_that_are_a_little_behind(
    steps: list[timedelta], data: st.DataObject
) -> None:
    """Keys are planned at arbitrary moments; a gate signs; a replica holding the keys of PROPAGATION ago verifies."""
    history: list[tuple[datetime, ReceiptKeys]] = [(NOW, first())]
    now = NOW
    for step in steps:
        now += step
        history.append((now, plan_receipt_keys(history[-1][1], now) or history[-1][1]))
        assert len(history[-1][1].keys) <= MAX_KEYS
    signed_at = data.draw(st.datetimes(NOW.replace(tzinfo=None), now.replace(tzinfo=None))).replace(tzinfo=UTC)
    current = _as_of(history, signed_at)
    receipt = ReceiptSigner(current, lambda: signed_at).sign(b"x")
    behind = _as_of(history, max(NOW, signed_at - PROPAGATION))
    assert ReceiptVerifier(behind).verify(receipt)[0] == b"x"
    later = data.draw(st.timedeltas(timedelta(0), RETENTION - timedelta(seconds=1)))
    assert ReceiptVerifier(_as_of(history, signed_at + later)).verify(receipt)[0] == b"x"


def test_a_receipt_is_not_read_for_ever() -> None:
    keys = first()
    receipt = ReceiptSigner(keys, lambda: NOW).sign(b"x")
    now = NOW
    while now < NOW + ROTATE_AFTER + PROPAGATION + RETENTION + ROTATE_AFTER:
        now += timedelta(days=1)
        keys = plan_receipt_keys(keys, now) or keys
    with pytest.raises(UnknownReceiptKeyError):
        ReceiptVerifier(keys).verify(receipt)


def _as_of(history: list[tuple[datetime, ReceiptKeys]], moment: datetime) -> ReceiptKeys:
    return [keys for at, keys in history if at <= moment][-1]
