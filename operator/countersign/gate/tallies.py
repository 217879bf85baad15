"""What this gate has counted since it started: for each policy, the new pods that it let pass or would not.

In memory only: gates keep no state. The controller collects it (`gate.internal`) into the policies' statuses, under the
name that this process gives itself (`trust.verdicts.tally`).
"""

import os
from collections.abc import Callable
from datetime import datetime
from typing import Final

from countersign.api.gate_calls import PolicyTally, TallyReport
from countersign.api.policy_status import GateTally
from countersign.trust.pods.subject import Subject
from countersign.trust.verdicts.outlook import weigh
from countersign.trust.verdicts.tally import counted
from countersign.trust.verdicts.verdict import Verdict

MAX_POLICIES: Final = 4096
"""Policies that are counted; of more, those that were counted first and not since go first."""
_IN_DOUBT: Final = frozenset({"ControllerNotBound"})


class Tallies:
    """Counts. A policy's count starts anew with each generation, as the status that it goes into does."""

    def __init__(self, started: datetime, entropy: Callable[[int], bytes] = os.urandom) -> None:
        # In the order of their starts, by which the controller knows which gate ended long ago.
        self.gate = f"{int(started.timestamp() * 1000):014x}-{entropy(8).hex()}"
        self._policies: dict[str, PolicyTally] = {}

    def count(self, verdict: Verdict, subject: Subject, *, unresolved: bool) -> None:
        """One new pod was judged. `unresolved`: its controllers could not be read just now."""
        for weighed in weigh(verdict, subject, _IN_DOUBT if unresolved else frozenset()):
            uid, generation = weighed.policy.uid, weighed.policy.generation
            known = self._policies.pop(uid, None)
            if known is None or known.generation < generation:
                known = PolicyTally(uid=uid, generation=generation, tally=GateTally(gate=self.gate))
            if known.generation == generation:
                known = PolicyTally(uid=uid, generation=generation, tally=counted(known.tally, weighed))
            self._policies[uid] = known
        while len(self._policies) > MAX_POLICIES:
            del self._policies[next(iter(self._policies))]

    def report(self) -> TallyReport:
        """Everything so far."""
        return TallyReport(policies=tuple(self._policies.values()))
