"""Withdrawn evidence under any order of time, answers, silence and restarts: a definite no suspends, and nothing but a
definite yes restores."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from countersign.trust.evidence.reverification import grown
from countersign.trust.policies.compiled import compiled
from tests.unit.grants.scans import FIRST, MAX_AGE, Instance, asking, scan, scanned
from tests.unit.trust.build import NAMESPACE


class Withdrawal(RuleBasedStateMachine):
    """One instance, a registry that is shown new scans, and a controller that comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1
        self.published: list[tuple[int, bool]] = [(FIRST, True)]
        self.shown: list[tuple[int, bool]] = []
        """What this controller was told; empty: nothing yet."""

    @initialize(latest=st.booleans())
    def admit(self, latest: bool) -> None:
        self.latest = latest
        self.instance = Instance(asking("Latest" if latest else "Any"))
        self._judge()

    @rule(seconds=st.sampled_from([1, 60, 1000, MAX_AGE]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self._judge()

    @rule(clean=st.booleans())
    def somebody_attests(self, clean: bool) -> None:
        self.time_passes(1)
        self.published.append((self.now, clean))

    @rule(newest=st.integers(0, 3))
    def a_gate_looks(self, newest: int) -> None:
        """The registry shows all but the newest few."""
        shown = self.published[: len(self.published) - newest]
        self.shown = sorted({*self.shown, *shown})
        found = scanned(*(scan(at, clean=clean) for at, clean in shown)) if shown else scanned()
        index = compiled(self.instance.given)
        self.instance.found = grown(self.instance.found, found, index, NAMESPACE)
        self._judge()

    @rule()
    def nobody_can_tell(self) -> None:
        before = self.instance.state
        stands = self.instance.grant.status.evidence_good_until
        self._judge()
        assert self.instance.state == before
        assert self.instance.grant.status.evidence_good_until == stands

    @rule()
    def another_controller(self) -> None:
        before = self.instance.state
        self.instance.restart()
        self.shown = []
        self._judge()
        assert self.instance.state == before, "whoever begins to lead knows no more than what was written down"

    @invariant()
    def active_is_what_a_definite_answer_allows(self) -> None:
        if not self.shown:
            return
        known = sorted({*self.shown, (FIRST, True)})
        counting = known[-1:] if self.latest else known
        holds = any(clean and self.now - at <= MAX_AGE for at, clean in counting)
        assert self.instance.state[0] == ("Active" if holds else "Suspended")

    def _judge(self) -> None:
        self.instance.judge(self.now)


Withdrawal.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestWithdrawal = Withdrawal.TestCase
