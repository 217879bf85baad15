"""Fair shares: a token bucket for each relying party."""

from typing import Final

MAX_BUCKETS: Final = 4096
"""Relying parties followed at once. The one that has been quiet longest is forgotten first: its bucket is full."""


class RateLimiter:
    """`rate` requests per second and `burst` at once for each name. A rate of 0 limits nothing."""

    def __init__(self, rate: float, burst: int, *, capacity: int = MAX_BUCKETS) -> None:
        """Raises ValueError for a negative rate, or a burst that lets nothing through."""
        if rate < 0 or (rate > 0 and burst < 1):
            raise ValueError(f"a rate of {rate}/s with a burst of {burst} lets nothing through")
        self._rate = rate
        self._burst = float(burst)
        self._capacity = capacity
        self._buckets: dict[str, tuple[float, float]] = {}

    def delay(self, name: str, now: float) -> float:
        """Take one request: 0, or (then nothing is taken) the seconds until there is one. `now` is monotonic."""
        if not self._rate:
            return 0.0
        level, at = self._buckets.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        allowed = level >= 1.0
        while len(self._buckets) >= self._capacity:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[name] = (level - 1.0 if allowed else level, now)
        return 0.0 if allowed else (1.0 - level) / self._rate
