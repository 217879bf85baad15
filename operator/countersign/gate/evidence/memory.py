"""What was found out, and for how long it counts: fresh for a while, and longer if nobody can be asked.

Bounded in bytes. The size of an entry is an estimate: its encoding times a factor, and something for the entry itself.
Facts as Python's objects are twice as large as encoded for signatures by key, 3.3 times for keyless ones (tracemalloc).
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

ENTRY_BYTES: Final = 1024
ENCODED_FACTOR: Final = 4
MAX_STALE_SECONDS: Final = 86400.0
"""The age at which no policy lets facts count any more (ClusterTrustPolicy, staleEvidenceSeconds)."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(NamedTuple, Generic[V]):
    """A value, and when it was found out (on the caller's clock)."""

    value: V
    found_at: float


class _Entry(NamedTuple, Generic[V]):
    remembered: Remembered[V]
    fresh_until: float
    stale_until: float
    size: int


class Memory(Generic[K, V]):
    """The least recently used goes first. Times are seconds on the caller's clock, which never goes back."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self.size = 0
        """Estimated, in bytes."""

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, key: K, now: float, *, max_age: float | None = None) -> V | None:
        """What counts without asking, unless it was found out longer ago than so many seconds."""
        entry = self._entries.get(key)
        if entry is None or entry.fresh_until <= now:
            return None
        if max_age is not None and entry.remembered.found_at + max_age <= now:
            return None
        self._entries.move_to_end(key)
        return entry.remembered.value

    def stale(self, key: K, now: float, seconds: float) -> Remembered[V] | None:
        """What counts if it cannot be asked about, unless it was found out longer ago than so many seconds."""
        entry = self._entries.get(key)
        if entry is None or min(entry.remembered.found_at + seconds, entry.stale_until) <= now:
            return None
        self._entries.move_to_end(key)
        return entry.remembered

    def put(
        self, key: K, value: V, now: float, *, seconds: float, lasting: bool = False, size: int | None = None
    ) -> None:
        """Remember what was found out just now as fresh for so long; if it is `lasting`, it may be used stale, too.

        `size` in bytes, of what cannot be encoded or is not made of small parts.
        """
        self._forget(key)
        if size is None:
            size = ENCODED_FACTOR * (_encoded(key) + _encoded(value))
        size += ENTRY_BYTES
        fresh_until = now + seconds
        stale_until = now + MAX_STALE_SECONDS if lasting else fresh_until
        self._entries[key] = _Entry(Remembered(value, now), fresh_until, stale_until, size)
        self.size += size
        while self.size > self._max_bytes and self._entries:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size


def _encoded(value: Any) -> int:
    return len(msgspec.msgpack.encode(value))
