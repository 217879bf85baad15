from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.verifier.limits import RateLimiter


def test_a_burst_and_then_the_rate() -> None:
    limiter = RateLimiter(2.0, 3)
    assert [limiter.delay("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limiter.delay("a", 0.5) == 0.0
    assert limiter.delay("a", 0.5) == 0.5


def test_each_has_a_share_of_its_own() -> None:
    limiter = RateLimiter(1.0, 1)
    assert (limiter.delay("a", 0.0), limiter.delay("b", 0.0)) == (0.0, 0.0)
    assert limiter.delay("a", 0.0) > 0


def test_a_rate_of_nothing_limits_nothing() -> None:
    limiter = RateLimiter(0.0, 0)
    assert {limiter.delay("a", 0.0) for _ in range(100)} == {0.0}


def test_the_quietest_is_forgotten_first() -> None:
    limiter = RateLimiter(1.0, 1, capacity=2)
    for name in ("a", "b", "a", "c"):
        limiter.delay(name, 0.0)
    assert limiter.delay("a", 0.0) > 0
    assert limiter.delay("b", 0.0) == 0.0


@pytest.mark.parametrize(("rate", "burst"), [(-1.0, 1), (1.0, 0)])
def test_settings_that_let_nothing_through_are_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        RateLimiter(rate, burst)


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=200), st.floats(0.5, 20), st.integers(1, 10))
def test_never_more_than_burst_and_rate_allow(gaps: list[float], rate: float, burst: int) -> None:
    limiter = RateLimiter(rate, burst)
    now, passed = 0.0, 0
    for gap in gaps:
        now += gap
        passed += limiter.delay("a", now) == 0.0
    assert passed <= burst + rate * now + 1e-6
