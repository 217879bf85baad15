"""What the gate counts: `countersign_gate_*`."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


Labels = tuple[str, str, str, str, str]
"""Path, resource, operation, result, reason."""


class GateMetrics:
    """The instruments of one gate, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._admissions = Counter(
            "countersign_gate_admissions",
            "Reviews answered, by path, what was asked, result (allowed, denied, retry, error) and reason code.",
            ["path", "resource", "operation", "result", "reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "countersign_gate_admission_seconds",
            "Time from the whole body read to the answer, by webhook path.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._rejected = Counter(
            "countersign_gate_rejected_requests",
            "HTTP requests that were no review that could be answered, by status code.",
            ["code"],
            registry=registry,
        )
        self._in_flight = Gauge("countersign_gate_inflight", "Reviews being judged now.", registry=registry)
        self._ungranted = Counter(
            "countersign_gate_ungranted_token_requests",
            "Requests for tokens of a protected audience that no grant covers, and whether they were refused.",
            ["audience", "refused"],
            registry=registry,
        )
        self._receipts = Counter(
            "countersign_gate_receipts",
            "Receipts met, by what became of them (signed, kept, replaced, removed, used, rejected).",
            ["outcome"],
            registry=registry,
        )
        self._evidence = Histogram(
            "countersign_gate_evidence_seconds",
            "Time to answer one question about an image, by its source (warm, asked, stale, unverifiable).",
            ["outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._snapshot_age = Gauge(
            "countersign_gate_snapshot_age_seconds",
            "Time since the last sign of life of the oldest watch that policies come from.",
            registry=registry,
        )
        self._registry = registry
        # Looking a child up by its labels costs microseconds on the path of each request; the sets are small.
        self._children: dict[Labels, Counter] = {}
        self._timers: dict[str, Histogram] = {}
        self._receipt_children: dict[str, Counter] = {}
        self._evidence_children: dict[str, Histogram] = {}

    def answered(self, labels: Labels, seconds: float) -> None:
        """One review was answered."""
        path = labels[0]
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._admissions.labels(*labels)
        child.inc()
        timer = self._timers.get(path)
        if timer is None:
            timer = self._timers[path] = self._seconds.labels(path)
        timer.observe(seconds)

    def rejected(self, code: int) -> None:
        """One HTTP request got an error instead of an answer."""
        self._rejected.labels(str(code)).inc()

    def ungranted(self, audience: str, *, refused: bool) -> None:
        """Somebody asked for a protected audience without a grant."""
        self._ungranted.labels(audience, "true" if refused else "false").inc()

    def receipt(self, outcome: str) -> None:
        """A receipt was signed, kept, replaced, removed, used or rejected."""
        child = self._receipt_children.get(outcome)
        if child is None:
            child = self._receipt_children[outcome] = self._receipts.labels(outcome)
        child.inc()

    def evidence(self, outcome: str, seconds: float) -> None:
        """One question about an image was answered: from memory (warm, stale), a registry (asked), or not at all."""
        child = self._evidence_children.get(outcome)
        if child is None:
            child = self._evidence_children[outcome] = self._evidence.labels(outcome)
        child.observe(seconds)

    def read_in_flight(self, read: Callable[[], int]) -> None:
        """Read the number of reviews being judged at each scrape."""
        self._in_flight.set_function(read)

    def paused(self, read: Callable[[], bool]) -> None:
        """Read whether a pause holds the door open at each scrape. The controller has the same gauge, if it runs."""
        gauge = Gauge(
            "countersign_admission_paused",
            "1 while an AdmissionPause is in force: no pod is refused, none gets an identity.",
            registry=self._registry,
        )
        gauge.set_function(read)

    def watch_age(self, read: Callable[[], float]) -> None:
        """Read the snapshot's age, in seconds, at each scrape."""
        self._snapshot_age.set_function(read)
