"""Rotation of receipt keys: published before used, readable after, dropped in the end."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.keys.errors import RevokedReceiptKeyError, UnknownReceiptKeyError
from countersign.keys.receipt_keys import (
    MAX_KEYS,
    MAX_REVOKED,
    PROPAGATION,
    RETENTION,
    ROTATE_AFTER,
    ReceiptKeys,
    plan_receipt_keys,
    restore_receipt_key,
    revoke_receipt_key,
)
from countersign.keys.receipts import ReceiptSigner, ReceiptVerifier, key_id_of, receipt_hash, resting_key

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


def rotated() -> ReceiptKeys:
    keys = plan_receipt_keys(first(), NOW + ROTATE_AFTER)
    assert keys
    return keys


def test_revoking_an_old_key_leaves_the_younger_one_in_use() -> None:
    keys = rotated()
    revoked = revoke_receipt_key(keys, keys.keys[0].id, NOW + ROTATE_AFTER)
    assert revoked.keys == keys.keys
    assert revoked.signing_key(NOW + ROTATE_AFTER) == keys.keys[1], "published or not: no other may sign"


def test_no_key_older_than_a_revoked_one_signs_again_and_a_fresh_one_signs_at_once() -> None:
    keys = rotated()
    now = NOW + ROTATE_AFTER + PROPAGATION
    revoked = revoke_receipt_key(keys, keys.keys[1].id, now)
    fresh = revoked.signing_key(now)
    assert fresh is not None
    assert fresh.id not in {key.id for key in keys.keys}
    assert plan_receipt_keys(revoked, now) is None, "the controller finds nothing to add"


def test_the_mark_of_a_revoked_key_outlives_the_key() -> None:
    keys = rotated()
    rotated_id = keys.keys[0].id
    keys = revoke_receipt_key(keys, rotated_id, NOW)
    now = NOW + ROTATE_AFTER + PROPAGATION + RETENTION
    planned = plan_receipt_keys(keys, now)
    assert planned
    assert rotated_id in planned.revoked, "a pod that runs for long may rest on it still"


def test_a_restored_key_is_believed_again() -> None:
    keys = first()
    receipt = ReceiptSigner(keys, lambda: NOW).sign(b"x")
    revoked = revoke_receipt_key(keys, keys.keys[0].id, NOW)
    with pytest.raises(RevokedReceiptKeyError):
        ReceiptVerifier(revoked).verify(receipt)
    restored = restore_receipt_key(revoked, keys.keys[0].id)
    assert ReceiptVerifier(restored).verify(receipt)[0] == b"x"


@pytest.mark.parametrize("text", ["", "dry-run", "a.b.c", "e30.e30.x", "\u00e9.x.y", "." * 9])
def test_what_is_no_receipt_names_no_key(text: str) -> None:
    assert key_id_of(text) == ""


def test_a_grant_rests_on_the_key_that_it_records_else_on_that_of_its_own_receipt() -> None:
    keys = first()
    receipt = ReceiptSigner(keys, lambda: NOW).sign(b"x")
    assert resting_key("recorded", receipt_hash(receipt), receipt) == "recorded"
    assert resting_key("", receipt_hash(receipt), receipt) == keys.keys[0].id
    assert resting_key("", receipt_hash("another"), receipt) == ""
    assert resting_key("", "", receipt) == ""


def test_revoked_ids_are_bounded() -> None:
    keys = ReceiptKeys(first().keys, frozenset(str(number) for number in range(MAX_REVOKED)))
    with pytest.raises(ValueError, match="restore those"):
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
