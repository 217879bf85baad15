"""Gates come and go and are asked at any time: a sum never falls, and nothing counts twice or gets lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from countersign.api.policy_status import AdmissionCounts, GateTally
from countersign.trust.policies.policy import PolicyRef
from countersign.trust.verdicts.outlook import Outcome, Weighed
from countersign.trust.verdicts.tally import MAX_GATES, collected, counted

REF = PolicyRef("ClusterTrustPolicy", "", "payments", "uid-payments", 3)
outcomes = st.sampled_from(["allowed", "wouldDeny", "unknown"])
reasons = st.lists(st.sampled_from(["ImageUnsigned", "EnvNotAllowed", "ImageNotCovered"]), min_size=1, max_size=2)


class Counting(RuleBasedStateMachine):
    """Gates that count and end, a controller that collects, forgets what was not stored, and collects again."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[GateTally] = []
        self.ended: set[str] = set()
        self.reported: dict[str, GateTally] = {}
        """The latest of each gate that reached a controller."""
        self.sent: list[GateTally] = []
        self.memory: AdmissionCounts | None = None
        self.status: AdmissionCounts | None = None
        self.told = 0

    @rule()
    def a_gate_starts(self) -> None:
        self.gates.append(GateTally(gate=f"{len(self.gates):04d}"))

    @precondition(lambda self: len(self.gates) > len(self.ended))
    @rule(data=st.data(), outcome=outcomes, why=reasons)
    def a_pod_is_judged(self, data: st.DataObject, outcome: Outcome, why: list[str]) -> None:
        at = data.draw(st.sampled_from([n for n, one in enumerate(self.gates) if one.gate not in self.ended]))
        word = Weighed(REF, outcome, tuple(why) if outcome == "wouldDeny" else ())
        self.gates[at] = counted(self.gates[at], word)

    @precondition(lambda self: len(self.gates) > len(self.ended))
    @rule(data=st.data())
    def a_gate_ends(self, data: st.DataObject) -> None:
        self.ended.add(data.draw(st.sampled_from([one.gate for one in self.gates if one.gate not in self.ended])))

    @rule(data=st.data())
    def the_controller_collects(self, data: st.DataObject) -> None:
        living = [one for one in self.gates if one.gate not in self.ended]
        heard = data.draw(st.lists(st.sampled_from(living), unique_by=lambda one: one.gate)) if living else []
        # Besides, something that was on its way for long.
        late = data.draw(st.lists(st.sampled_from(self.sent), max_size=2)) if self.sent else []
        self.sent += heard
        self._take((*late, *heard))

    @rule()
    def the_status_is_written(self) -> None:
        self.status = self.memory

    @rule()
    def another_controller_leads(self) -> None:
        """It knows the status, and asks the gates that are there."""
        self.memory = self.status
        known = {one.gate for one in self.memory.gates} if self.memory else set()
        living = [one for one in self.gates if one.gate not in self.ended]
        lost = {name for name in self.reported if name not in known}
        self.reported = {name: one for name, one in self.reported.items() if name not in lost}
        for one in self.memory.gates if self.memory else ():
            self.reported[one.gate] = one
        self.sent = []
        self.told = 0 if self.memory is None else _total(self.memory)
        self._take(tuple(living))

    def _take(self, reports: tuple[GateTally, ...]) -> None:
        self.memory = collected(self.memory, 3, reports, "2026-03-01T12:00:00Z")
        for one in reports:
            held = self.reported.get(one.gate)
            if held is None or _numbers(one) > _numbers(held):
                self.reported[one.gate] = one

    @precondition(lambda self: self.memory is not None and len(self.gates) <= MAX_GATES)
    @invariant()
    def the_sum_is_that_of_all_that_was_reported(self) -> None:
        assert self.memory is not None
        expected = self.reported.values()
        assert self.memory.allowed == sum(one.allowed for one in expected)
        assert self.memory.would_deny == sum(one.would_deny for one in expected)
        assert self.memory.unknown == sum(one.unknown for one in expected)
        codes: Counter[str] = Counter()
        for one in expected:
            codes.update({found.reason: found.count for found in one.reasons})
        assert {one.reason: one.count for one in self.memory.top_reasons} == dict(codes)

    @precondition(lambda self: self.memory is not None)
    @invariant()
    def no_sum_falls_and_none_is_more_than_happened(self) -> None:
        assert self.memory is not None
        assert self.told <= _total(self.memory) <= sum(map(_numbers, self.gates))
        assert len(self.memory.gates) <= MAX_GATES
        self.told = _total(self.memory)


def _numbers(one: GateTally) -> int:
    return one.allowed + one.would_deny + one.unknown


def _total(counts: AdmissionCounts) -> int:
    return counts.allowed + counts.would_deny + counts.unknown


TestCounting = Counting.TestCase


tallies = st.builds(
    GateTally,
    gate=st.sampled_from([f"{number:04d}" for number in range(40)]),
    allowed=st.integers(0, 9),
    would_deny=st.integers(0, 9),
)


@given(st.lists(tallies, max_size=30))
def test_collecting_the_same_again_changes_nothing(reports: list[GateTally]) -> None:
    once = collected(None, 1, reports, "2026-03-01T12:00:00Z")
    assert collected(once, 1, reports, "2026-04-01T12:00:00Z") == once


@given(st.data())
def test_the_order_of_reports_does_not_matter(data: st.DataObject) -> None:
    reports = data.draw(st.lists(tallies, max_size=MAX_GATES, unique_by=lambda one: one.gate))
    shuffled = data.draw(st.permutations(reports))
    now = "2026-03-01T12:00:00Z"
    assert collected(None, 1, reports, now) == collected(None, 1, shuffled, now)


def test_another_generation_counts_anew() -> None:
    before = collected(None, 1, [GateTally(gate="a", allowed=5)], "2026-03-01T12:00:00Z")
    after = collected(before, 2, [GateTally(gate="a", allowed=1)], "2026-03-02T12:00:00Z")
    assert (after.generation, after.allowed, after.since) == (2, 1, "2026-03-02T12:00:00Z")


def test_gates_that_are_too_many_are_counted_together_and_never_twice() -> None:
    now = "2026-03-01T12:00:00Z"
    reports = [GateTally(gate=f"{number:04d}", would_deny=1) for number in range(MAX_GATES + 5)]
    counts = collected(None, 1, reports, now)
    assert (counts.would_deny, len(counts.gates)) == (MAX_GATES + 5, MAX_GATES)
    assert counts.earlier is not None
    assert (counts.earlier.gate, counts.earlier.would_deny) == ("0004", 5)
    assert collected(counts, 1, reports, now) == counts
