"""The rate at which gates are asked, shared by all who ask them: what is spent is spent for everybody.

Each answer says how many requests to registries it took, and nobody asks again until those are within the rate. An
average, then, and no bound on a burst: one question is one pod's or one image's.
"""

import time
from collections.abc import Callable
from typing import Final

GAP_SECONDS: Final = 0.1
"""Between two questions: a gate has admissions to judge."""
UNANSWERED_SECONDS: Final = 10.0
"""After a question that no gate has answered."""


class Pace:
    """When the next question may be put, on a monotonic clock."""

    def __init__(self, rate: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`rate`: requests to registries per second; 0: nothing is asked."""
        self.rate: Final = rate
        self.not_before = 0.0
        self._monotonic = monotonic

    def delay(self) -> float:
        """Seconds until the next question may be put; 0: now."""
        return max(self.not_before - self._monotonic(), 0.0)

    def spend(self, requests: int) -> None:
        """So many were made."""
        self.not_before = max(self.not_before, self._monotonic()) + max(GAP_SECONDS, requests / self.rate)

    def unanswered(self) -> None:
        """No gate was there: leave them alone for a while."""
        self.not_before = max(self.not_before, self._monotonic() + UNANSWERED_SECONDS)
