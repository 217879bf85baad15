"""Whether this process leads: who writes, and who only watches."""

from collections.abc import Callable
from typing import Protocol


class Leadership:
    """One for the process; the service sets it, everything else asks."""

    def __init__(self, identity: str) -> None:
        """`identity`: what the Lease and Events call this process."""
        self.identity = identity
        self.leading = False
        """Whether its parts run: what they hear of before that, they see when they begin."""
        self._lease: Callable[[], bool] = lambda: False

    def elected(self, leads: Callable[[], bool]) -> None:
        """It has the Lease for as long as `leads` says so."""
        self._lease = leads

    def holds_lease(self) -> bool:
        """To be asked before each write: by the Lease's own time, which may be over before the process notices."""
        return self._lease()


class Fence(Protocol):
    """Stands before each write (`controller.store.Store`)."""

    def fence(self) -> None:
        """Raises unless this process may write."""
