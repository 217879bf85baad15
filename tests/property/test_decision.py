"""Invariant 2 as a property: whatever else holds, one condition that fails makes the token inactive."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from countersign.access.claims import MalformedClaimsError, parse_claims
from tests.unit.access.cases import FLIPS, active, grant

_flips = st.lists(st.sampled_from(sorted(FLIPS)), min_size=1, max_size=6, unique=True)


@given(_flips)
def test_any_combination_of_failed_conditions_is_inactive(names: list[str]) -> None:
    case = active()
    for name in names:
        case = FLIPS[name][1](case)
    decision = case.decide()
    assert not decision.active
    assert decision.members is None
    assert decision.reason != "Active"


@given(_flips, st.sampled_from([None, "Suspended", "Revoked"]))
def test_a_grant_that_is_not_active_never_makes_a_token_active(names: list[str], state: str | None) -> None:
    case = active()
    for name in names:
        case = FLIPS[name][1](case)
    assert not case._replace(grant=grant(state)).decide().active


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_no_times_make_a_token_active_beyond_its_bounds(issued: int, not_before: int, expires: int) -> None:
    case = active()
    base = case.claims.issued_at
    claims = type(case.claims)(
        **{name: getattr(case.claims, name) for name in case.claims.__struct_fields__}
        | {"issued_at": base + issued, "not_before": base + not_before, "expires_at": base + expires}
    )
    if not case._replace(claims=claims).decide().active:
        return
    now = case.now.timestamp()
    assert claims.expires_at > now
    assert 0 < claims.expires_at - claims.issued_at <= 600
    assert claims.issued_at >= int(case.pod.created_at.timestamp()) if case.pod else False
    assert claims.not_before <= now + 10


@given(st.binary(max_size=512))
def test_claims_of_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_claims(data)
    except MalformedClaimsError:
        return


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["iss", "sub", "aud", "exp", "iat", "nbf", "kubernetes.io", "pod", "namespace", "uid", "name"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(_json)
def test_claims_of_any_json_are_read_or_refused(value: object) -> None:
    try:
        parse_claims(json.dumps(value).encode())
    except MalformedClaimsError:
        return
