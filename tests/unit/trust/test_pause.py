"""A pause is in force from its creation to its end, never longer than a day, and says so without anybody's help."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.api.clock import format_time
from countersign.api.pause import AdmissionPause
from countersign.trust.orders.pause import MAX_PAUSE, ends_at, in_force, next_end, open_until
from tests.unit.trust.build import pause

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def test_without_a_pause_the_door_is_shut() -> None:
    assert in_force((), NOW) is None
    assert next_end((), NOW) is None


def test_it_is_open_until_the_very_moment_of_its_end() -> None:
    one = pause(expires=format_time(NOW))
    assert in_force([one], NOW - timedelta(microseconds=1)) is not None
    assert in_force([one], NOW) is None


def test_it_ends_a_day_after_its_creation_whatever_it_says() -> None:
    one = pause(created="2026-02-28T12:00:00Z", expires="2026-12-31T00:00:00Z")
    assert ends_at(one) == NOW
    assert in_force([one], NOW) is None
    assert in_force([one], NOW - timedelta(seconds=1)) is not None


@pytest.mark.parametrize("text", ["", "soon", "2026-03-01T13:00:00"])
def test_a_time_that_cannot_be_read_opens_nothing(text: str) -> None:
    assert in_force([pause(expires=text)], NOW) is None
    assert in_force([pause(created=text)], NOW) is None


def test_deleting_it_ends_it() -> None:
    assert in_force([pause(deleted="2026-03-01T11:59:00Z")], NOW) is None


def test_of_several_the_last_to_end_is_named_and_the_first_to_end_wakes() -> None:
    short, long = pause("short", expires="2026-03-01T12:01:00Z"), pause("long", expires="2026-03-01T13:00:00Z")
    found = in_force([long, short], NOW)
    assert found is not None
    assert (found.name, found.requested_by) == ("long", "night-shift")
    assert str(found) == "AdmissionPause long by night-shift until 2026-03-01T13:00:00Z: the registry is down"
    assert next_end([long, short], NOW) == datetime(2026, 3, 1, 12, 1, tzinfo=UTC)


MOMENTS = st.integers(0, 7 * 86400).map(lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
PAUSES = st.lists(
    st.builds(
        lambda number, created, expires, deleted: pause(
            f"p-{number}",
            created=format_time(created),
            expires=format_time(expires),
            deleted=format_time(created) if deleted else None,
        ),
        st.integers(0, 9),
        MOMENTS,
        MOMENTS,
        st.booleans(),
    ),
    max_size=6,
)


@given(PAUSES, MOMENTS)
def test_whatever_the_pauses_the_door_is_open_only_while_one_of_them_is(
    pauses: list[AdmissionPause], now: datetime
) -> None:
    found = in_force(pauses, now)
    assert (found is not None) == any(open_until(one, now) for one in pauses)
    if found is not None:
        assert now < found.ends
        assert in_force(pauses, found.ends) is None or any(
            (ends_at(one) or now) > found.ends and one.metadata.deletion_timestamp is None for one in pauses
        )
    soonest = next_end(pauses, now)
    assert (soonest is None) == (found is None)
    assert soonest is None or found is None or now < soonest <= found.ends


@given(PAUSES, MOMENTS)
def test_no_pause_is_in_force_a_day_after_its_creation(pauses: list[AdmissionPause], now: datetime) -> None:
    for one in pauses:
        created = datetime.fromisoformat(one.metadata.creation_timestamp or "")
        assert in_force([one], created + MAX_PAUSE) is None


@given(PAUSES, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=7)))
def test_moving_an_end_earlier_opens_nothing(pauses: list[AdmissionPause], now: datetime, by: timedelta) -> None:
    for one in pauses:
        earlier = pause(
            created=one.metadata.creation_timestamp or "",
            expires=format_time(datetime.fromisoformat(one.spec.expires_at) - by),
            deleted=one.metadata.deletion_timestamp,
        )
        assert open_until(one, now) or not open_until(earlier, now)
