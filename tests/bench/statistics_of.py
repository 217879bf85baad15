"""The few statistics that the tables show."""

from collections.abc import Sequence


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """p50, p99 and the largest, by nearest rank."""
    ordered = sorted(values)
    return ordered[_rank(0.5, len(ordered))], ordered[_rank(0.99, len(ordered))], ordered[-1]


def _rank(q: float, count: int) -> int:
    return max(0, -(-int(q * 1000) * count // 1000) - 1)
