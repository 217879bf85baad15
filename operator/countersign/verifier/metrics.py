"""What the verifier counts: `countersign_verifier_*`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

Figures = Callable[[], Mapping[str, float]]


class VerifierMetrics:
    """The instruments of one verifier, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._decisions = Counter(
            "countersign_verifier_decisions",
            "Answers about tokens, by endpoint, result (active, inactive) and reason code.",
            ["endpoint", "result", "reason"],
            registry=registry,
        )
        self._turned_away = Counter(
            "countersign_verifier_turned_away",
            "Requests without an answer about a token, by HTTP status code and reason code.",
            ["code", "reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "countersign_verifier_seconds",
            "Time from the whole body read to the answer, by result.",
            ["result"],
            buckets=_SECONDS,
            registry=registry,
        )
        # Looking a child up by its labels costs microseconds on the path of each request; the sets are small.
        self._children: dict[tuple[str, str, str], Counter] = {}
        self._timers = {result: self._seconds.labels(result) for result in ("active", "inactive")}

    def decided(self, endpoint: str, reason: str, seconds: float, *, active: bool) -> None:
        """An answer was given."""
        result = "active" if active else "inactive"
        key = (endpoint, result, reason)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._decisions.labels(*key)
        child.inc()
        self._timers[result].observe(seconds)

    def turned_away(self, code: int, reason: str) -> None:
        """A request got an error instead of an answer."""
        self._turned_away.labels(str(code), reason).inc()

    def restore_suspected(self, told: Callable[[], float]) -> None:
        """Read whether etcd seems to have been restored at each scrape."""
        Gauge(
            "countersign_verifier_etcd_restore_suspected",
            "1 once the controller's Lease went back in time: this verifier answers 503 until it is restarted.",
            registry=self._registry,
        ).set_function(told)

    def read_access_log(self, figures: Figures) -> None:
        """Read at each scrape what became of the access log's lines."""
        self._registry.register(_AccessLogLines(figures))

    def read_at_scrape(self, *, ages: Figures, sizes: Figures) -> None:
        """Read the ages of what answers rest on (seconds, by source), and sizes (by kind), at each scrape."""
        self._registry.register(_AtScrape(ages, sizes))


class _AccessLogLines(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[CounterMetricFamily]:
        lines = CounterMetricFamily(
            "countersign_verifier_access_log_lines",
            "Decisions by what became of their line in the access log: written (and of these dropped, where standard "
            "output was not read in time), or summed up with others.",
            labels=["outcome"],
        )
        for outcome, count in self._figures().items():
            lines.add_metric([outcome], count)
        yield lines


class _AtScrape(Collector):
    def __init__(self, ages: Figures, sizes: Figures) -> None:
        self._ages = ages
        self._sizes = sizes

    def collect(self) -> Iterator[GaugeMetricFamily]:
        age = GaugeMetricFamily(
            "countersign_verifier_age_seconds",
            "Time since the last sign of life of the heartbeat, the issuer's keys, and each watch.",
            labels=["source"],
        )
        for source, seconds in self._ages().items():
            age.add_metric([source], seconds)
        yield age
        size = GaugeMetricFamily(
            "countersign_verifier_objects", "Objects and tokens held in memory, by kind.", labels=["kind"]
        )
        for kind, count in self._sizes().items():
            size.add_metric([kind], count)
        yield size
