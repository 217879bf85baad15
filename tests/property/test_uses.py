"""Verifiers come and go and are asked at any time: nothing counts twice, and what a grant says only moves on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from countersign.access.uses import MAX_VERIFIERS, is_due, larger, latest, recorded, seconds_of, together
from countersign.api.grant import GrantUses
from countersign.api.verifier_calls import TokenUses
from tests.unit.verifier.answers import LEDGER, START, Seen, answered

EVERY = 600.0
reasons = st.sampled_from(["Active", "Active", "PodTerminal", "TokenExpired"])
places = st.sampled_from(["", "10.0.0.7", "10.0.0.9"])
askers = st.sampled_from([LEDGER, ("shop", "web")])
events = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5000), reasons, places, askers), min_size=1, max_size=30)


def by_verifier(found: list[tuple[int, int, str, str, tuple[str, str]]], alone: bool) -> list[TokenUses]:
    """What verifiers have seen that shared these uses, or one that saw them all."""
    verifiers: dict[int, Seen] = {}
    for which, at, reason, place, asker in sorted(found, key=lambda one: one[1]):
        verifier = verifiers.setdefault(0 if alone else which, Seen())
        verifier.at(at, answered(reason, address=place, asker=asker))  # type: ignore[arg-type]
    return [one.one() for one in verifiers.values()]


@given(events, st.randoms())
def test_shared_among_verifiers_uses_add_up_to_the_same(
    found: list[tuple[int, int, str, str, tuple[str, str]]], order: object
) -> None:
    shared = by_verifier(found, alone=False)
    order.shuffle(shared)  # type: ignore[attr-defined]
    whole, (one,) = together(shared), by_verifier(found, alone=True)
    for name in ("active", "first_active", "last_active", "refused", "last_refused"):
        assert getattr(whole, name) == getattr(one, name), name
    assert {(use.address, use.first, use.last) for use in whole.addresses} == {
        (use.address, use.first, use.last) for use in one.addresses
    }
    assert set(whole.askers) == set(one.askers)


@given(events)
def test_a_report_twice_or_an_older_one_changes_nothing(
    found: list[tuple[int, int, str, str, tuple[str, str]]],
) -> None:
    ordered = sorted(found, key=lambda one: one[1])
    (older,) = by_verifier(ordered[: max(1, len(ordered) // 2)], alone=True)
    (newer,) = by_verifier(ordered, alone=True)
    for both in (larger(older, newer), larger(newer, older), larger(newer, newer)):
        assert (both.active, both.refused, both.last_active) == (newer.active, newer.refused, newer.last_active)
        assert {(use.address, use.last) for use in both.addresses} == {
            (use.address, use.last) for use in newer.addresses
        }


class Recording(RuleBasedStateMachine):
    """Verifiers that see uses and end, a controller that collects, records, and is restarted."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.verifiers: list[Seen] = []
        self.collected: dict[str, TokenUses] = {}
        self.status: GrantUses | None = None
        self.stored: dict[str, int] = {}
        """Refused uses of each verifier that stand in the status."""

    @precondition(lambda self: len(self.verifiers) < 3)
    @rule()
    def a_verifier_starts(self) -> None:
        self.now += 1  # no two of one millisecond
        self.verifiers.append(Seen(self.now))

    @precondition(lambda self: self.verifiers)
    @rule(data=st.data(), reason=reasons)
    def a_token_is_used(self, data: st.DataObject, reason: str) -> None:
        data.draw(st.sampled_from(self.verifiers)).at(self.now, answered(reason))  # type: ignore[arg-type]

    @precondition(lambda self: self.verifiers)
    @rule(data=st.data())
    def a_verifier_ends(self, data: st.DataObject) -> None:
        self.verifiers.remove(data.draw(st.sampled_from(self.verifiers)))

    @rule(seconds=st.sampled_from([1, 30, 400, 1000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def the_controller_collects(self) -> None:
        for one in self.verifiers:
            for use in one.all():
                known = self.collected.get(one.uses.name)
                self.collected[one.uses.name] = use if known is None else larger(known, use)

    @rule()
    def another_controller_leads(self) -> None:
        self.collected = {}

    @rule(anyway=st.booleans())
    def the_grant_is_looked_at(self, anyway: bool) -> None:
        after = recorded(self.status, self.collected.items())
        due = is_due(self.status, after, EVERY)
        if not (due or anyway) or after is None:
            return
        if self.status is not None:
            assert latest(after) >= latest(self.status)
            assert set(after.audiences) >= set(self.status.audiences)
            assert after.refused >= self.status.refused
            assert (
                seconds_of(after.first_used_at) <= seconds_of(self.status.first_used_at)
                or not self.status.first_used_at
            )
            news = (after.first_used_at is None) != (self.status.first_used_at is None) or (
                after.last_refused_at is None
            ) != (self.status.last_refused_at is None)
            if due and not news:
                assert latest(after) - latest(self.status) >= EVERY, "a write of its own without a reason"
        self.status = after
        for name, use in self.collected.items():
            self.stored[name] = max(self.stored.get(name, 0), sum(use.refused.values()))
        assert recorded(after, self.collected.items()) == after, "once more changes nothing"

    @invariant()
    def refused_uses_count_once(self) -> None:
        if self.status is not None and len(self.stored) <= MAX_VERIFIERS:
            assert self.status.refused == sum(self.stored.values())

    @invariant()
    def it_stays_small(self) -> None:
        if self.status is not None:
            assert len(self.status.refused_by) <= MAX_VERIFIERS
            assert latest(self.status) <= START.timestamp() + self.now


TestRecording = Recording.TestCase


@given(st.integers(1, 30))
def test_what_verifiers_refused_that_are_no_longer_listed_stays_counted_once(verifiers: int) -> None:
    status: GrantUses | None = None
    for number in range(verifiers):
        seen = Seen(number)
        seen.at(number, answered("PodTerminal"))
        for _ in range(2):
            status = recorded(status, [(seen.uses.name, seen.one())])
    assert status is not None
    assert status.refused == verifiers
