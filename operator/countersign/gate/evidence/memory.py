"""What was found out, and for how long it counts: fresh for a while, and longer if nobody can be asked."""

from collections.abc import Hashable
from typing import Generic, TypeVar

from countersign.registry.lru import LRU

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memory(Generic[K, V]):
    """Bounded. Times are seconds on the caller's clock, which never goes back."""

    def __init__(self, size: int) -> None:
        self._fresh: LRU[K, V] = LRU(size)
        self._stale: LRU[K, V] = LRU(size)

    def fresh(self, key: K, now: float) -> V | None:
        """What counts without asking."""
        return self._fresh.get(key, now)

    def stale(self, key: K, now: float) -> V | None:
        """What counts if asking failed for a while."""
        return self._stale.get(key, now)

    def put(self, key: K, value: V, *, fresh_until: float, stale_until: float | None = None) -> None:
        """Remember; without `stale_until`, only as long as it is fresh."""
        self._fresh.put(key, value, fresh_until)
        if stale_until is None:
            self._stale.pop(key)
        else:
            self._stale.put(key, value, stale_until)
