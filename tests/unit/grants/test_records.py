"""Names, conditions, collection: the small rules around a grant."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from countersign.api.grant import WorkloadGrant, WorkloadGrantStatus
from countersign.grants.collection import collectable_at, is_collectable
from countersign.grants.conditions import with_condition, without_condition
from countersign.grants.naming import grant_name, is_refused, refused_name
from tests.unit.grants.build import BORN, active, at, stamp

DAY = timedelta(days=1)


def final(grant: WorkloadGrant) -> WorkloadGrant:
    return msgspec.structs.replace(
        grant, status=WorkloadGrantStatus(state="Revoked", reason="Completed", changed_at=stamp(0))
    )


@given(st.text())
def test_any_nonce_gives_an_object_name(nonce: str) -> None:
    name = grant_name(nonce) if nonce.isprintable() else grant_name("x")
    assert name.replace("-", "").isalnum()
    assert name == name.lower()
    assert len(name) <= 63
    assert not is_refused(name)


def test_a_refusal_is_known_by_its_name() -> None:
    assert is_refused(refused_name("b3e7"))


def test_a_transition_time_moves_with_the_status_only() -> None:
    conditions = with_condition((), "Ready", True, "Ready", "", generation=1, now=BORN)
    same = with_condition(conditions, "Ready", True, "StillReady", "fine", generation=2, now=at(60))
    assert same[0].last_transition_time == stamp(0)
    assert (same[0].reason, same[0].observed_generation) == ("StillReady", 2)
    other = with_condition(same, "Ready", None, "Unknown", "", generation=2, now=at(60))
    assert (other[0].status, other[0].last_transition_time) == ("Unknown", stamp(60))
    assert without_condition(other, "Ready") == ()


def test_other_conditions_stay_where_they_are() -> None:
    conditions = with_condition((), "Accepted", True, "Accepted", "", generation=1, now=BORN)
    conditions = with_condition(conditions, "Ready", False, "Waiting", "", generation=1, now=BORN)
    changed = with_condition(conditions, "Accepted", False, "Conflicted", "", generation=1, now=at(1))
    assert [one.type for one in changed] == ["Accepted", "Ready"]
    assert changed[1] == conditions[1]


def test_a_final_grant_outlives_its_pod_for_a_set_time() -> None:
    grant = final(active()[0])
    assert collectable_at(grant, pod_exists=False, retention=DAY) == at(86400)
    assert not is_collectable(grant, pod_exists=False, retention=DAY, now=at(86399))
    assert is_collectable(grant, pod_exists=False, retention=DAY, now=at(86400))


def test_a_grant_is_never_collected_while_its_pod_exists() -> None:
    assert collectable_at(final(active()[0]), pod_exists=True, retention=timedelta(0)) is None


def test_a_grant_that_is_not_final_is_never_collected() -> None:
    assert collectable_at(active()[0], pod_exists=False, retention=timedelta(0)) is None
